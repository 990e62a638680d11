//! `spool`: the sender is answered once the mail is on disk for good, and it stays there until the
//! webhook has it.

mod courier;
mod dispatcher;
mod letter;
mod memory_queue;
#[cfg(test)]
mod outage;
mod room;
mod spill;

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::config::{MEMORY_PER_MAIL, SpoolConfig};
use crate::memory::MemoryBudget;
use crate::metrics::Metrics;
use crate::routes::RouteTable;
use crate::runtime::worker_threads;
use crate::spool::LOG_TARGET;
use crate::spool::bulk;
use crate::spool::clock::Clock;
use crate::spool::control::{self, Done, Request};
use crate::spool::dead::DeadLetters;
use crate::spool::dead::keeper::{DeadJob, Keeper};
use crate::spool::disk::Directory;
use crate::spool::outcomes::OUTCOME_BYTES;
use crate::spool::store::{AppendError, Entry, Limits, Store};
use crate::spool::survey;
use crate::spool::writer::{Adoption, Append, Job, Jobs, Writer};
use crate::webhook::destination::Destination;

use super::request::{has_attachment_beyond, work, workers};
use super::totals::Totals;
use super::{Answer, Incoming};
use courier::Courier;
use dispatcher::{Command, Dispatcher, Ears, Parts, Standing};
use room::Room;

pub use spill::{Room as SpillRoom, Spill, Spilled};

/// The directory of the dead letters, in the spool's.
pub const DEAD_DIRECTORY: &str = "dead";

/// The file that the process locks that writes to the spool.
const LOCK_FILE: &str = "lock";

/// A spool is cut into at least so many segments: the space of one is given back at a time.
const SEGMENTS_MIN: u64 = 16;

/// Octets of a segment: what is read at once to find what is due. The upper bound keeps what is known
/// of one segment within a few megabytes, the lower one keeps their number small.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = 64 * 1024..=16 * 1024 * 1024;

/// The share of the spool's octets that large mails may take beside it while they come in; one may in
/// any case.
const SPILL_SHARE: u64 = 8;

/// Commands that wait: they come one after the other.
const COMMANDS_MAX: usize = 1;

/// Threads that read messages from disk for delivery, and turn large ones into requests.
const DELIVERY_BLOCKING_THREADS: usize = 32;

/// Threads that read segments: one segment is read at a time.
const SCAN_THREADS: usize = 2;

/// How long the answer to the last command may take to be read.
const LAST_ANSWER_TIMEOUT: Duration = Duration::from_millis(250);

/// Pause after a command that was none, or that could not be taken.
const BAD_COMMAND_PAUSE: Duration = Duration::from_millis(100);

/// The mails of `spool`.
#[derive(Debug)]
pub struct Spool {
    jobs: Jobs<Incoming>,
    attachment_bytes_max: usize,
    spill: Arc<Spill>,
    room: Room,
    /// The courier's: what is looked at before it is taken counts, too.
    workers: Arc<Semaphore>,
    standing: watch::Receiver<Standing>,
    totals: Arc<Totals>,
    courier: Arc<Courier>,
    /// Cancelled when no further delivery begins.
    stop: CancellationToken,
    /// Cancelled when nothing is delivered any more, for whatever reason.
    ended: CancellationToken,
    clock: Clock,
    dead_jobs: std::sync::mpsc::Sender<DeadJob>,
    threads: Mutex<Option<Threads>>,
    directory: PathBuf,
    dead: PathBuf,
    /// Held as long as this process writes.
    _lock: File,
}

/// What runs beside sessions and deliveries.
#[derive(Debug)]
struct Threads {
    /// Carries out commands.
    control: Option<tokio::task::JoinHandle<()>>,
    writer: JoinHandle<()>,
    keeper: JoinHandle<()>,
}

/// Why there is no spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be used.
    #[error(
        "the spool in {directory} cannot be used; MAIL_LASER_SPOOL_DIR has to name a directory that this user may write to"
    )]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("the spool in {directory} is used by another process; each needs one of its own")]
    Locked {
        /// The directory.
        directory: PathBuf,
    },
}

/// What the mode needs besides its own settings.
#[derive(Debug)]
pub struct Surroundings {
    /// Where mail may go.
    pub routes: watch::Receiver<Arc<RouteTable>>,
    /// The bound on all memory.
    pub memory: Arc<MemoryBudget>,
    /// Its series.
    pub metrics: Arc<Metrics>,
    /// Octets of one decoded attachment.
    pub attachment_bytes_max: usize,
    /// Octets of a mail.
    pub message_bytes_max: usize,
    /// Whether a destination has to leave others something of the disk.
    pub is_shared: bool,
}

impl From<AppendError> for Answer {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Full => Self::SpoolFull,
            AppendError::Failed(why) => Self::SpoolFailed(why),
        }
    }
}

impl Spool {
    /// Opens the spool and begins to deliver what waits in it. What that is, is found out meanwhile.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(config: &SpoolConfig, around: Surroundings) -> Result<Self, Error> {
        let Surroundings { routes, memory, metrics, attachment_bytes_max, message_bytes_max, is_shared } =
            around;
        let lock = lock(&config.directory)?;
        let unusable = |source| Error::Directory { directory: config.directory.clone(), source };
        let dead = config.directory.join(DEAD_DIRECTORY);
        match std::fs::create_dir(&dead) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unusable(error)),
            _ => {}
        }
        let disk = Directory::new(config.directory.clone());
        let bounds = limits(config.bytes_max);
        let store = Store::open(disk.clone(), bounds).map_err(unusable)?;
        let room = Room::new(store.usage(), bounds, is_shared);
        // Of a dead letter nothing more is noted than that it goes.
        let dead_bounds = Limits { outcome_bytes: 0, ..limits(config.dead_bytes_max) };
        let dead_store = Store::open(Directory::new(dead.clone()), dead_bounds).map_err(unusable)?;
        let segments = store.segment_bytes().collect();
        let (clock, stop, ended) = (Clock::new(), CancellationToken::new(), CancellationToken::new());
        let (jobs, asked) = std::sync::mpsc::channel();
        let (dead_jobs, dead_asked) = std::sync::mpsc::channel();
        let (says, said) = mpsc::unbounded_channel();
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (stands, standing) = watch::channel(Standing::default());
        let (lifetime, spool_metrics) = (config.dead_lifetime, metrics.spool().clone());
        let kept = move || DeadLetters::new(dead_store, lifetime, spool_metrics);
        let weak_says = says.downgrade();
        let writer =
            Writer::spawn(store, (jobs.clone(), asked), says, metrics.spool().clone()).map_err(unusable)?;
        let keeper_ended = CancellationToken::new();
        let (of_writer, of_keeper) = ((jobs.clone(), weak_says), (stop.clone(), keeper_ended.clone()));
        let keeper =
            Keeper::spawn(disk.clone(), kept, dead_asked, of_writer, clock.clone(), of_keeper.0, of_keeper.1)
                .map_err(unusable)?;
        let spill_bytes = (config.bytes_max / SPILL_SHARE).max(message_bytes_max as u64);
        let spill = Arc::new(Spill::new(disk.clone(), spill_bytes, message_bytes_max));
        let workers = workers();
        let totals = Arc::new(Totals::default());
        let scheduler_memory =
            memory.try_reserve(0).ok_or_else(|| unusable(io::ErrorKind::OutOfMemory.into()))?;
        let courier = Arc::new(Courier::new(disk.clone(), memory, Arc::clone(&workers)));
        let deliveries = delivery_runtime().map_err(unusable)?;
        let parts = Parts {
            segments,
            lifetime: config.lifetime,
            routes,
            jobs: jobs.clone(),
            dead_jobs: dead_jobs.clone(),
            courier: Arc::clone(&courier),
            deliveries: deliveries.handle().clone(),
            memory: scheduler_memory,
            disk,
            clock: clock.clone(),
            metrics: metrics.spool().clone(),
            totals: Arc::clone(&totals),
            standing: stands,
        };
        let control = control::listen(&config.directory);
        let control = control
            .inspect_err(|error| warn!(target: LOG_TARGET, %error, "mail-laser spool retry and discard cannot be used"))
            .ok()
            .map(|socket| tokio::spawn(listen(Arc::new(socket), commands, ended.clone())));
        let ears = Ears { said, commands: commanded, stop: stop.clone(), keeper_ended };
        schedule(parts, ears, deliveries, ended.clone()).map_err(unusable)?;
        Ok(Self {
            jobs,
            attachment_bytes_max,
            spill,
            room,
            workers,
            standing,
            totals,
            courier,
            stop,
            ended,
            clock,
            dead_jobs,
            threads: Mutex::new(Some(Threads { control, writer, keeper })),
            directory: config.directory.clone(),
            dead,
            _lock: lock,
        })
    }

    /// What became of the mails so far.
    #[must_use]
    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(super) async fn accept(&self, incoming: Incoming) -> Answer {
        let id = incoming.mail.id;
        match self.take_over(incoming).await {
            Ok(()) => Answer::Accepted(id),
            Err(answer) => answer,
        }
    }

    /// Whether a destination may have another mail.
    pub(super) fn has_share_for(&self, destination: &Destination) -> bool {
        self.room.is_left_for(destination)
    }

    async fn take_over(&self, incoming: Incoming) -> Result<(), Answer> {
        if !incoming.destinations.iter().all(|(route, _)| self.has_share_for(&route.destination)) {
            return Err(Answer::QueueFull);
        }
        let bytes = incoming.spilled.as_ref().map_or(incoming.mail.content.len(), Spilled::bytes);
        let outcome_bytes = usize::try_from(OUTCOME_BYTES).unwrap_or(usize::MAX);
        let bytes = bytes.saturating_add(outcome_bytes);
        let destinations = incoming.destinations.iter().map(|(route, _)| &route.destination);
        let _coming_in = self.room.expect(bytes, destinations);
        let mut incoming = self.with_attachments_checked(incoming).await?;
        let since_ms = self.clock.now_ms();
        let head = letter::head_of(&incoming, since_ms);
        let (reply, told) = oneshot::channel();
        let job = match incoming.spilled.take() {
            None => {
                let content = std::mem::take(&mut incoming.mail.content);
                let entry = Entry::new(&head, content).map_err(|error| AppendError::from(&error))?;
                let routes = head.destinations.into_iter().map(|target| target.route).collect();
                Job::Append(Box::new(Append { entry, routes, rest: incoming, since_ms, reply }))
            }
            Some(spilled) => {
                let id = head.id.clone();
                let routes = head.destinations.iter().map(|target| target.route.clone()).collect();
                let sealed = tokio::task::spawn_blocking(move || spilled.seal(&head)).await;
                let sealed = sealed.map_err(|panic| AppendError::Failed(panic.to_string()))?;
                let sealed = sealed.map_err(|error| AppendError::from(&error))?;
                Job::Adopt(Adoption { sealed, id, routes, since_ms, reply })
            }
        };
        // Where the job cannot be given, the reply is dropped with it.
        let _ = self.jobs.send(job);
        let closed = || AppendError::Failed("it is being closed".to_owned());
        Ok(told.await.map_err(|_| closed())??)
    }

    /// Lets a mail through whose attachments are not too large.
    async fn with_attachments_checked(&self, mut incoming: Incoming) -> Result<Incoming, Answer> {
        let size = incoming.spilled.as_ref().map_or(incoming.mail.content.len(), Spilled::bytes);
        let bytes_max = self.attachment_bytes_max;
        // Nothing is larger than the mail that it is a part of.
        if size <= bytes_max {
            return Ok(incoming);
        }
        work(&self.workers, move || {
            let held = incoming.memory.bytes();
            // For the content again, in case that it is on disk, and for its parts.
            if !incoming.memory.try_grow(size.saturating_mul(MEMORY_PER_MAIL)) {
                return Err(Answer::OutOfMemory);
            }
            let again = incoming.spilled.as_ref().map(Spilled::content).transpose();
            let again = again.map_err(|error| AppendError::from(&error))?;
            let content = again.as_deref().unwrap_or(&incoming.mail.content);
            let too_large = has_attachment_beyond(bytes_max, &incoming.mail, content);
            drop(again);
            incoming.memory.shrink_to(held);
            if too_large { Err(Answer::AttachmentTooLarge(bytes_max)) } else { Ok(incoming) }
        })
        .await
    }

    /// Where large mails go while they come in.
    #[must_use]
    pub fn spill(&self) -> Arc<Spill> {
        Arc::clone(&self.spill)
    }

    /// Comes when nothing waits any more.
    pub async fn empty(&self) {
        let mut standing = self.standing.clone();
        let empty = |standing: &Standing| standing.known && standing.waiting == 0;
        if standing.wait_for(empty).await.is_err() {
            // It has ended otherwise.
            std::future::pending::<()>().await;
        }
    }

    /// Comes when nothing is delivered any more, though nobody asked for that: a defect.
    pub async fn broken(&self) {
        self.ended.cancelled().await;
    }

    /// Dead letters that are kept.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn dead_letters(&self) -> io::Result<u64> {
        survey::count(&Directory::new(self.dead.clone()))
    }

    /// Segments that are set aside because some of them is damaged.
    ///
    /// # Errors
    /// When they cannot be looked at.
    pub fn damaged_segments(&self) -> io::Result<u64> {
        Ok(survey::damaged_segments(&Directory::new(self.directory.clone()))?
            + survey::damaged_segments(&Directory::new(self.dead.clone()))?)
    }

    /// Begins no further delivery, lets those under way come to their end until `grace` is over, and
    /// writes down what became of them.
    pub async fn finish(&self, grace: impl Future<Output = ()>) {
        self.stop.cancel();
        tokio::select! {
            () = self.ended.cancelled() => {}
            () = grace => {
                self.courier.stop.cancel();
                self.ended.cancelled().await;
            }
        }
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Threads { control, writer, keeper }) = threads else { return };
        if let Some(control) = control {
            // A client that waits for the answer to a command gets it.
            let _ = tokio::time::timeout(LAST_ANSWER_TIMEOUT, control).await;
        }
        // The keeper may wait for the writer.
        let _ = self.dead_jobs.send(DeadJob::Stop);
        let jobs = self.jobs.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let keeper = keeper.join();
            let _ = jobs.send(Job::Stop);
            writer.join().and(keeper)
        });
        if !matches!(joined.await, Ok(Ok(()))) {
            error!(target: LOG_TARGET, "a thread of the spool panicked, which is a defect");
        }
    }
}

/// Threads for deliveries, apart from those that serve sessions: when thousands of destinations are tried in the same
/// moment, or thousands of deliveries are given up, sessions do not wait behind them. Here that costs nothing, as a
/// message passes through other threads anyway.
fn delivery_runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads())
        .max_blocking_threads(DELIVERY_BLOCKING_THREADS)
        .thread_name("deliveries")
        .enable_all()
        .build()
}

/// Runs the scheduler on a thread of its own, until it ends; `ended` is cancelled then.
fn schedule(parts: Parts, ears: Ears, deliveries: Runtime, ended: CancellationToken) -> io::Result<()> {
    // It reads segments on threads that stand back behind all else.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .on_thread_start(bulk::stand_back)
        .max_blocking_threads(SCAN_THREADS)
        .thread_name("spool-scan")
        .build()?;
    let run = move || {
        let _ended = ended.drop_guard();
        runtime.block_on(Dispatcher::run(parts, ears));
        // A segment that is being read holds nobody up, nor does a connection that nobody uses any more.
        runtime.shutdown_background();
        deliveries.shutdown_background();
    };
    std::thread::Builder::new().name("scheduler".to_owned()).spawn(run).map(drop)
}

/// Carries out what `mail-laser spool` asks for, one thing after the other, until `ended`.
async fn listen(socket: Arc<UnixListener>, commands: mpsc::Sender<Command>, ended: CancellationToken) {
    loop {
        let served = tokio::select! {
            () = ended.cancelled() => return,
            accepted = socket.accept() => match accepted {
                Ok((stream, _)) => control::serve(stream, |request| carry_out(&commands, request)).await,
                Err(error) => Err(error),
            },
        };
        if let Err(error) = served {
            warn!(target: LOG_TARGET, %error, "a command was not carried out");
            tokio::time::sleep(BAD_COMMAND_PAUSE).await;
        }
    }
}

async fn carry_out(commands: &mpsc::Sender<Command>, request: Request) -> Result<Done, String> {
    let closed = || "the spool is being closed".to_owned();
    let (reply, told) = oneshot::channel();
    let Request { selector, wish } = request;
    commands.send(Command { selector, wish, reply }).await.map_err(|_| closed())?;
    told.await.map_err(|_| closed())?
}

/// Makes this process the one that writes to a spool, as long as what is returned exists.
///
/// # Errors
/// When another process does, or the directory cannot be used.
pub fn lock(directory: &Path) -> Result<File, Error> {
    let unusable = |source| Error::Directory { directory: directory.to_owned(), source };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(LOCK_FILE))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { directory: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unusable(error)),
    }
}

/// How large the files of a spool may become.
#[must_use]
pub fn limits(bytes_max: u64) -> Limits {
    let segment_bytes = (bytes_max / SEGMENTS_MIN).clamp(*SEGMENT_BYTES.start(), *SEGMENT_BYTES.end());
    Limits { total_bytes: bytes_max, segment_bytes, outcome_bytes: OUTCOME_BYTES }
}
