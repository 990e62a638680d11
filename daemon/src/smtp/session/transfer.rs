//! The content of one message on its way: what it holds, how fast it comes, and why it ends early.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Client, Context};
use crate::metrics::TransferEnd;
use crate::quota::Shortage;
use crate::smtp::content::{Collected, Content, Overflow};
use crate::smtp::limits::{CONTENT_TIME_MAX, ROOM_PATIENCE, SESSION_BYTES};
use crate::smtp::protocol::Protocol;
use crate::smtp::rate::MinimumRate;
use crate::smtp::reply::Reply;
use crate::smtp::transfers::report::Event;
use crate::smtp::transfers::{Registration, Resource, Transfers};

/// A transfer that holds less is not registered: most messages are smaller, and cost no more than their session.
const REGISTERED_BYTES: usize = SESSION_BYTES;

/// Content that comes in.
#[derive(Debug)]
pub(super) struct Transfer {
    // Freed before the registration goes, which says that there is room again.
    content: Content,
    registration: Option<Registration>,
    transfers: Arc<Transfers>,
    network: IpAddr,
    rate: MinimumRate,
    idle_timeout: Duration,
    deadline: Instant,
}

/// A transfer that must not go on.
#[derive(Debug)]
pub(super) struct Ended;

impl Transfer {
    /// Content of the message that begins now.
    pub(super) fn new(context: &Context, client: &Client) -> io::Result<Self> {
        // A reservation of nothing always succeeds; the content grows it.
        let memory = context.memory.try_reserve(0).ok_or(io::ErrorKind::OutOfMemory)?;
        let content = Content::new(
            memory,
            context.settings.message_bytes_max,
            context.delivery.holds_senders(),
            context.delivery.spill(),
            &client.usage,
        );
        Ok(Self::of(content, context, client))
    }

    /// Content that nobody wants.
    pub(super) fn unwanted(context: &Context, client: &Client) -> Self {
        Self::of(Content::unwanted(&client.usage), context, client)
    }

    fn of(content: Content, context: &Context, client: &Client) -> Self {
        Self {
            content,
            registration: None,
            transfers: Arc::clone(&context.transfers),
            network: client.network,
            rate: MinimumRate::default(),
            idle_timeout: context.idle_timeout,
            deadline: Instant::now() + CONTENT_TIME_MAX,
        }
    }

    /// Makes room for `bytes` more. When there is too little, slow transfers end for it; content for which there is no
    /// room even then is given up.
    pub(super) async fn reserve(&mut self, bytes: usize) -> Result<(), Ended> {
        let mut deadline = None;
        loop {
            let Err(no_room) = self.content.reserve(bytes, self.transfers.memory()) else {
                self.show();
                return Ok(());
            };
            self.show();
            self.transfers.make_room(no_room.resource, no_room.shortage);
            // This one may be the slowest.
            if self.is_ended() {
                return Err(Ended);
            }
            let now = Instant::now();
            if now >= *deadline.get_or_insert(now + ROOM_PATIENCE) {
                if no_room.shortage == Shortage::Quota {
                    self.transfers.note(Event::OverQuota, self.network);
                }
                self.content.give_up(Overflow::from(no_room));
                self.show();
                return Ok(());
            }
            self.transfers.room_may_be_back().await;
        }
    }

    /// Collects a part.
    pub(super) fn push(&mut self, part: &[u8]) {
        self.content.push(part);
    }

    /// How long the client may be silent from now on.
    pub(super) fn patience(&self, now: Instant) -> Duration {
        self.rate.patience(self.idle_timeout).min(self.deadline.saturating_duration_since(now))
    }

    /// Whether it has taken as long as a message may in all.
    pub(super) fn is_overdue(&self, now: Instant) -> bool {
        now >= self.deadline
    }

    /// Counts a wait for the client, and the bytes of content that ended it.
    pub(super) fn record(&mut self, wait: Duration, bytes: usize) {
        self.rate.record(wait, bytes);
        if let Some(registration) = &self.registration {
            registration.record(bytes);
        }
    }

    /// Cancelled when the transfer has to end for others.
    pub(super) fn end(&self) -> Option<CancellationToken> {
        self.registration.as_ref().map(Registration::end)
    }

    /// Gives back what it holds, before the client is told why it came too far.
    pub(super) fn give_up(self) -> Reply {
        let ended_for = self.registration.as_ref().and_then(Registration::chosen_for);
        let (transfers, network) = (Arc::clone(&self.transfers), self.network);
        drop(self);
        let (why, reply) = match ended_for {
            None => (TransferEnd::TooSlow, Protocol::<()>::too_slow()),
            Some(Resource::Memory) => (TransferEnd::Memory, Protocol::<()>::slowest("memory")),
            Some(Resource::Disk) => (TransferEnd::Disk, Protocol::<()>::slowest("room on disk")),
        };
        transfers.ended(why, network);
        reply
    }

    /// Whether what was collected so far is kept.
    pub(super) fn is_kept(&self) -> bool {
        self.content.is_kept()
    }

    /// The content, or why it was not kept.
    pub(super) fn finish(self) -> Result<Collected, Overflow> {
        self.content.finish()
    }

    fn is_ended(&self) -> bool {
        self.registration.as_ref().is_some_and(|registration| registration.chosen_for().is_some())
    }

    /// Shows others what it holds, once that is worth it.
    fn show(&mut self) {
        let (memory, disk) = self.content.held();
        if memory + disk > REGISTERED_BYTES && self.registration.is_none() {
            let registration = self.transfers.register();
            // All of it has come by now: a transfer that begins is not one that stands still.
            registration.record(memory + disk);
            self.registration = Some(registration);
        }
        if let Some(registration) = &self.registration {
            registration.set_held(memory, disk);
        }
    }
}

/// Waits until `end` is cancelled, for ever where there is none.
pub(super) async fn cancelled(end: Option<&CancellationToken>) {
    match end {
        Some(end) => end.cancelled().await,
        None => std::future::pending().await,
    }
}
