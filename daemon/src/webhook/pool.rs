//! Connections that wait for the next request, of no more destinations than there is room for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::{self, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connector::Connector;
use super::timely::Timely;

/// How long an unused connection is kept at most: shorter than the idle time of common load balancers
/// (60 s), so that a request seldom meets one that is just being closed.
const IDLE_CONNECTION_TIME_MAX: Duration = Duration::from_secs(45);

/// By how much less it is for each destination than for the one before, so many times: what had work until the same
/// moment, as after an outage, would otherwise be closed in the same one, too, and all mail would wait for that (30 to
/// 50 ms for 1,600 connections). In all it is a third of the time.
const IDLE_CONNECTION_TIME_STEP: Duration = Duration::from_millis(250);
const IDLE_CONNECTION_TIME_STEPS: u32 = 60;

/// Destinations whose connections are kept. A connection takes some tens of KiB that no budget counts: with thousands of
/// routes, one mail to each would leave as many behind. Of a thousand it is a fraction of the budget for mail.
const KEPT_MAX: usize = 1_024;

/// Connections of a destination that are kept: as many as it has deliveries at the same time by default.
const IDLE_CONNECTIONS_MAX: usize = 64;

/// Octets of an answer's head, which is in memory for each delivery under way beside what the budget counts: more than
/// any webhook says, and a thousandth of what a delivery may take.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a body that HTTP/2 may send before some of them are read. With the library's 2 MiB, long answers that are read
/// no further would use up the allowance of the connection for all other requests on it.
const WINDOW_BYTES: u32 = 64 * 1024;

type Http = legacy::Client<Timely<Connector>, Full<Bytes>>;
type Shared = Mutex<Option<Http>>;

/// Whose connections are kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// First the one that was there first.
    pools: Mutex<VecDeque<Weak<Shared>>>,
    /// How many there have been; it begins anew where it ends.
    count: AtomicU32,
}

impl Kept {
    /// How long the next destination keeps its connections.
    fn idle_time(&self) -> Duration {
        let steps = self.count.fetch_add(1, Ordering::Relaxed) % IDLE_CONNECTION_TIME_STEPS;
        IDLE_CONNECTION_TIME_MAX - steps * IDLE_CONNECTION_TIME_STEP
    }

    /// Keeps those of one more, and closes what is unused of the first where there are too many.
    fn keep(&self, pool: &Arc<Shared>) {
        let mut kept = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back(Arc::downgrade(pool));
        let surplus = kept.len().saturating_sub(KEPT_MAX);
        let gone: Vec<_> = kept.drain(..surplus).collect();
        drop(kept);
        for pool in gone.iter().filter_map(Weak::upgrade) {
            // What is under way has a hold of its own.
            lock(&pool).take();
        }
    }
}

/// The connections of one destination.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    connector: Arc<Connector>,
    /// How long an answer is waited for.
    timeout: Duration,
    http: Arc<Shared>,
    kept: Arc<Kept>,
    /// Number of requests that have begun.
    requests: Arc<AtomicUsize>,
}

impl Pool {
    /// Connections made by `connector`; there are none yet.
    pub(super) fn new(connector: Arc<Connector>, timeout: Duration, kept: Arc<Kept>) -> Self {
        Self { connector, timeout, http: Arc::default(), kept, requests: Arc::default() }
    }

    /// Sends a request over a connection that is unused, or a new one.
    pub(super) fn request(&self, request: Request<Full<Bytes>>) -> ResponseFuture {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut http = lock(&self.http);
        if let Some(http) = &*http {
            return http.request(request);
        }
        let answer = http.insert(self.make()).request(request);
        drop(http);
        self.kept.keep(&self.http);
        answer
    }

    fn make(&self) -> Http {
        legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(self.kept.idle_time())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .http2_initial_stream_window_size(WINDOW_BYTES)
            .build(Timely::new((*self.connector).clone(), self.timeout, Arc::clone(&self.requests)))
    }
}

fn lock(pool: &Shared) -> MutexGuard<'_, Option<Http>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mail_laser_routes::reach::Reach;

    use super::super::connector::connector;
    use super::*;

    #[test]
    fn connections_are_kept_of_so_many() {
        let connector = Arc::new(connector(false, &[], Reach::Inner).unwrap());
        let kept = Arc::new(Kept::default());
        let pools: Vec<Pool> = (0..KEPT_MAX + 2)
            .map(|_| Pool::new(Arc::clone(&connector), Duration::from_secs(30), Arc::clone(&kept)))
            .collect();
        let send = |pool: &Pool| drop(pool.request(Request::new(Full::default())));
        let is_kept = |pool: &Pool| lock(&pool.http).is_some();
        assert!(!pools.iter().any(is_kept));
        pools.iter().for_each(send);
        assert_eq!(pools.iter().filter(|pool| is_kept(pool)).count(), KEPT_MAX);
        assert!(!is_kept(&pools[0]) && !is_kept(&pools[1]) && is_kept(&pools[2]));
        // One that is kept is used again, and one that is not takes the place of the next.
        send(&pools[2]);
        send(&pools[0]);
        assert!(is_kept(&pools[0]) && !is_kept(&pools[2]) && is_kept(&pools[3]));
    }

    #[test]
    fn what_was_used_until_the_same_moment_is_not_closed_in_the_same_one() {
        let kept = Kept::default();
        let times: BTreeSet<Duration> = (0..IDLE_CONNECTION_TIME_STEPS).map(|_| kept.idle_time()).collect();
        assert_eq!(times.len(), IDLE_CONNECTION_TIME_STEPS as usize);
        assert_eq!(times.last(), Some(&IDLE_CONNECTION_TIME_MAX));
        assert!(*times.first().unwrap() > IDLE_CONNECTION_TIME_MAX * 2 / 3);
        // Then it begins anew.
        assert_eq!(kept.idle_time(), IDLE_CONNECTION_TIME_MAX);
    }
}
