//! Takes one mail from the spool to one destination.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{MutexGuard, Semaphore};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::config::MEMORY_PER_MAIL;
use crate::delivery::request::{Prepared, prepare};
use crate::delivery::{Answer, Incoming};
use crate::memory::{MemoryBudget, Reservation};
use crate::message::id::MailId;
use crate::routes::Route;
use crate::spool::disk::Directory;
use crate::spool::lane::Pair;
use crate::spool::segment::{Loaded, load_if};
use crate::webhook::destination::Delivery;
use crate::webhook::retry::Terms;
use crate::webhook::share::Share;

use super::letter::mail_of;
use super::memory_queue::MemoryQueue;

/// Mails that are read at once: more make no disk faster, and each takes a thread from those who take mail.
const READERS: usize = 8;

/// Deliveries that are young at the same time. Each takes some 7 KiB that no budget counts: its task, its connection and
/// its timers, and 20,000 destinations may have to be tried in the same moment.
const YOUNG_MAX: usize = 2_048;

/// How long a delivery is young: thousands that hang must not keep others from being tried.
const YOUNG_TIME_MAX: Duration = Duration::from_secs(1);

/// What deliveries share.
#[derive(Debug)]
pub(super) struct Courier {
    disk: Directory,
    memory: MemoryQueue,
    workers: Arc<Semaphore>,
    readers: Semaphore,
    young: Semaphore,
    /// Cancelled when deliveries under way are given up.
    pub(super) stop: CancellationToken,
}

/// A mail in memory, and its destination's share of the memory for it.
pub(super) struct InMemory {
    incoming: Incoming,
    share: Share,
}

impl InMemory {
    /// Holds a mail for a destination, unless that has its share: then it is read again when it is its turn.
    pub(super) fn hold(incoming: Incoming, route: &Route) -> Option<Self> {
        let share = share_of(route, &incoming.memory)?;
        Some(Self { incoming, share })
    }
}

/// A destination's share for so much memory: one that hangs leaves as much as it has to the others.
fn share_of(route: &Route, memory: &Reservation) -> Option<Share> {
    route.destination.held_bytes().take(memory.bytes(), memory.free_for_deliveries())
}

/// How one delivery ended.
#[derive(Debug)]
pub(super) enum End {
    /// With this.
    Of(Delivery),
    /// There is no memory for the mail now.
    NoMemory,
    /// As a request it is larger than all the memory there is.
    TooLarge,
    /// The mail cannot be read.
    Unreadable(io::Error),
    /// The delivery panicked.
    Defect,
    /// It was given up.
    Stopped,
}

impl Courier {
    pub(super) fn new(disk: Directory, memory: Arc<MemoryBudget>, workers: Arc<Semaphore>) -> Self {
        Self {
            disk,
            memory: MemoryQueue::new(memory),
            workers,
            readers: Semaphore::new(READERS),
            young: Semaphore::new(YOUNG_MAX),
            stop: CancellationToken::new(),
        }
    }

    /// Delivers a mail of so many octets; `held` is the mail if it is in memory already.
    pub(super) async fn deliver(
        &self,
        route: Arc<Route>,
        pair: Pair,
        bytes: u64,
        held: Option<Box<InMemory>>,
    ) -> (Option<MailId>, End) {
        let mut id = held.as_ref().map(|held| held.incoming.mail.id);
        let delivery = async {
            let young = self.young.acquire().await;
            // Boxed, so that a delivery that waits for its turn does not hold the room of one that runs.
            let attempt = self.attempt(route, pair, bytes, held, &mut id);
            let mut attempt = AssertUnwindSafe(Box::pin(attempt)).catch_unwind();
            let end = tokio::select! {
                biased;
                end = &mut attempt => end,
                () = sleep(YOUNG_TIME_MAX) => {
                    drop(young);
                    attempt.await
                }
            };
            end.unwrap_or(Err(End::Defect)).map_or_else(|end| end, End::Of)
        };
        let end = tokio::select! {
            biased;
            () = self.stop.cancelled() => End::Stopped,
            end = delivery => end,
        };
        (id, end)
    }

    async fn attempt(
        &self,
        route: Arc<Route>,
        pair: Pair,
        bytes: u64,
        held: Option<Box<InMemory>>,
        id: &mut Option<MailId>,
    ) -> Result<Delivery, End> {
        // Of large messages one is read and turned into a request at a time.
        let mut turn = None;
        let InMemory { incoming, share } = match held {
            Some(held) => *held,
            None => self.load(Arc::clone(&route), pair, bytes, &mut turn).await?,
        };
        let id = *id.insert(incoming.mail.id);
        // Attachments were looked at when the mail was taken.
        let prepared = prepare(incoming, usize::MAX, &self.workers).await.map_err(|answer| match answer {
            Answer::RequestTooLarge => End::TooLarge,
            _ => End::NoMemory,
        })?;
        drop(turn);
        let Prepared { mut request, memory, .. } = prepared.into_iter().next().ok_or(End::Defect)?;
        drop(share);
        let share = share_of(&route, &memory).ok_or(End::NoMemory)?;
        request.hold((memory, share));
        let _queued = {
            let mut queued = route.destination.metrics().queued(request.body.len());
            queued.leaves_the_queue();
            queued
        };
        Ok(Box::pin(route.destination.deliver(id, &request, Terms::Patient)).await)
    }

    async fn load<'q>(
        &'q self,
        route: Arc<Route>,
        pair: Pair,
        bytes: u64,
        turn: &mut Option<MutexGuard<'q, ()>>,
    ) -> Result<InMemory, End> {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut memory = self.memory.reserve(bytes, turn).await.ok_or(End::NoMemory)?;
        let share = share_of(&route, &memory).ok_or(End::NoMemory)?;
        let reader = self.readers.acquire().await.map_err(|_| End::Stopped)?;
        let disk = self.disk.clone();
        let loaded = tokio::task::spawn_blocking(move || {
            // Of a message to many destinations, each counts for a part, and reads all of it.
            let loaded = load_if(&disk, pair.mail, |bytes| {
                let missing = bytes.saturating_mul(MEMORY_PER_MAIL).saturating_sub(memory.bytes());
                memory.try_grow(missing)
            });
            (loaded, memory)
        });
        let (loaded, memory) = loaded.await.map_err(|_| End::Defect)?;
        drop(reader);
        let damaged = |why| End::Unreadable(io::Error::new(io::ErrorKind::InvalidData, why));
        let Loaded { head, content, intact, .. } = loaded.map_err(End::Unreadable)?.ok_or(End::NoMemory)?;
        if !intact {
            return Err(damaged("its content is damaged on disk"));
        }
        let mail = mail_of(head, content, pair.destination);
        let (mail, recipients) = mail.ok_or_else(|| damaged("what is known of it is damaged on disk"))?;
        let incoming = Incoming { mail, destinations: vec![(route, recipients)], memory, spilled: None };
        Ok(InMemory { incoming, share })
    }
}
