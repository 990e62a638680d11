//! Transfers under way: the slowest ones end when memory, or room on disk, is short.

pub mod choice;
pub mod report;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::memory::{MemoryBudget, Reservation};
use crate::metrics::{Metrics, TransferEnd};
use crate::quota::{Division, Shortage};

use self::choice::{Candidate, choose};
use self::report::{Event, Report};
use super::limits::ROOM_PATIENCE;
use super::rate::RecentRate;

/// A transfer that sends what it holds within this time makes progress: 25 MiB at 3.5 Mbit/s, 1 MiB at 140 kbit/s.
const SLOW_AFTER: Duration = Duration::from_secs(60);

/// Pause before another try to find room: room that comes back from deliveries is not announced.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Time between two records.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// A resource that transfers hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Memory.
    Memory,
    /// Room on disk for large messages.
    Disk,
}

/// All transfers that hold more than a session may.
#[derive(Debug)]
pub struct Transfers {
    memory: Division,
    began: Instant,
    registry: Mutex<Registry>,
    /// Notified when a transfer has given back what it held.
    given_back: Notify,
    report: Mutex<Reporting>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Registry {
    next: u64,
    entries: HashMap<u64, Arc<Entry>>,
    /// Until when no slow transfer is looked for that holds memory, and none that holds room on disk, since none was found:
    /// many may ask.
    none_until: (Duration, Duration),
}

impl Registry {
    fn none_until(&mut self, resource: Resource) -> &mut Duration {
        match resource {
            Resource::Memory => &mut self.none_until.0,
            Resource::Disk => &mut self.none_until.1,
        }
    }
}

#[derive(Debug, Default)]
struct Entry {
    memory: AtomicUsize,
    disk: AtomicUsize,
    rate: Mutex<RecentRate>,
    chosen_for: OnceLock<Resource>,
    end: CancellationToken,
}

#[derive(Debug, Default)]
struct Reporting {
    report: Report,
    is_paced: bool,
}

/// A transfer in the registry, for as long as this exists.
#[derive(Debug)]
pub struct Registration {
    transfers: Arc<Transfers>,
    id: u64,
    entry: Arc<Entry>,
}

impl Transfers {
    /// No transfers yet, within `memory`.
    #[must_use]
    pub fn new(memory: &MemoryBudget, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            memory: Division::of_memory(memory.limit_bytes()),
            began: Instant::now(),
            registry: Mutex::default(),
            given_back: Notify::new(),
            report: Mutex::default(),
            metrics,
        })
    }

    /// How the memory is divided among clients.
    pub(super) fn memory(&self) -> &Division {
        &self.memory
    }

    /// Registers a transfer.
    pub(super) fn register(self: &Arc<Self>) -> Registration {
        let entry = Arc::new(Entry::default());
        let mut registry = self.registry();
        let id = registry.next;
        registry.next += 1;
        registry.entries.insert(id, Arc::clone(&entry));
        drop(registry);
        Registration { transfers: Arc::clone(self), id, entry }
    }

    /// Ends slow transfers for what is missing; returns whether any room comes back. A client that asks for more than its
    /// quota ends none: it may not take room from others by asking for more.
    pub(super) fn make_room(&self, resource: Resource, shortage: Shortage) -> bool {
        let Shortage::Free(missing) = shortage else { return false };
        let now = self.began.elapsed();
        let mut registry = self.registry();
        if now < *registry.none_until(resource) {
            return false;
        }
        let entries: Vec<&Arc<Entry>> = registry.entries.values().collect();
        let candidates: Vec<Candidate> = entries.iter().map(|entry| entry.candidate(resource, now)).collect();
        let (chosen, coming) = choose(&candidates, missing, SLOW_AFTER);
        for index in chosen {
            entries[index].chosen_for.get_or_init(|| resource);
            entries[index].end.cancel();
        }
        if coming == 0 {
            *registry.none_until(resource) = now + RETRY_PAUSE;
        }
        coming > 0
    }

    /// Waits until room may have come back.
    pub(super) async fn room_may_be_back(&self) {
        let _ = timeout(RETRY_PAUSE, self.given_back.notified()).await;
    }

    /// Memory for a session. When there is none, slow transfers end for it.
    pub(super) async fn memory_for_session(
        &self,
        memory: &Arc<MemoryBudget>,
        bytes: usize,
    ) -> Option<Reservation> {
        let deadline = Instant::now() + ROOM_PATIENCE;
        loop {
            let reservation = memory.try_reserve(bytes);
            if reservation.is_some() || Instant::now() >= deadline {
                return reservation;
            }
            self.make_room(Resource::Memory, Shortage::Free(bytes));
            self.room_may_be_back().await;
        }
    }

    /// Waits until `bytes` of `memory` are free, which slow transfers end for, or none of them is left.
    pub(super) async fn make_room_to_read(&self, memory: &MemoryBudget, bytes: usize) {
        let deadline = Instant::now() + ROOM_PATIENCE;
        while let Some(missing) = bytes.checked_sub(memory.free_bytes()).filter(|missing| *missing > 0) {
            if !self.make_room(Resource::Memory, Shortage::Free(missing)) || Instant::now() >= deadline {
                return;
            }
            self.room_may_be_back().await;
        }
    }

    /// Counts a client that was sent away, and has a record written about it within a minute.
    pub(super) fn note(self: &Arc<Self>, event: Event, network: IpAddr) {
        let mut reporting = self.reporting();
        reporting.report.count(event, network);
        if reporting.is_paced {
            return;
        }
        reporting.is_paced = true;
        let report = std::mem::take(&mut reporting.report);
        drop(reporting);
        log(&report);
        let transfers = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                sleep(REPORT_INTERVAL).await;
                let mut reporting = transfers.reporting();
                if reporting.report.is_empty() {
                    reporting.is_paced = false;
                    return;
                }
                let report = std::mem::take(&mut reporting.report);
                drop(reporting);
                log(&report);
            }
        });
    }

    /// Counts a transfer that was ended.
    pub(super) fn ended(self: &Arc<Self>, why: TransferEnd, network: IpAddr) {
        self.metrics.transfer_ended(why);
        self.note(if why == TransferEnd::TooSlow { Event::TooSlow } else { Event::Ended }, network);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reporting(&self) -> MutexGuard<'_, Reporting> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn log(report: &Report) {
    warn!(
        connections_refused = report.refused,
        transfers_ended = report.ended,
        transfers_too_slow = report.too_slow,
        messages_over_quota = report.over_quota,
        networks = report.networks(),
        "clients were sent away that hold memory or room on disk without progress, or for whom none was left; \
         this is told once a minute"
    );
}

impl Entry {
    fn candidate(&self, resource: Resource, now: Duration) -> Candidate {
        let held = match resource {
            Resource::Memory => &self.memory,
            Resource::Disk => &self.disk,
        };
        Candidate {
            held: held.load(Ordering::Relaxed),
            rate: self.rate().at(now),
            is_ending: self.end.is_cancelled(),
        }
    }

    fn rate(&self) -> MutexGuard<'_, RecentRate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// Shows what the transfer holds.
    pub(super) fn set_held(&self, memory: usize, disk: usize) {
        self.entry.memory.store(memory, Ordering::Relaxed);
        self.entry.disk.store(disk, Ordering::Relaxed);
    }

    /// Counts bytes that came.
    pub(super) fn record(&self, bytes: usize) {
        self.entry.rate().record(self.transfers.began.elapsed(), bytes);
    }

    /// Cancelled when the transfer has to end.
    pub(super) fn end(&self) -> CancellationToken {
        self.entry.end.clone()
    }

    /// What it has to end for, if it has to.
    pub(super) fn chosen_for(&self) -> Option<Resource> {
        self.entry.chosen_for.get().copied()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.transfers.registry().entries.remove(&self.id);
        self.transfers.given_back.notify_waiters();
    }
}
