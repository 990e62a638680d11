//! Who leads. Pure: what was seen of the Lease, and the time, come in; the next request comes out.
//!
//! # The rules
//!
//! - The holder may write for [`WRITING`], counted from before it sent the request that renewed the Lease last.
//! - Everybody else leaves the Lease alone for [`LEASE`], counted from after he first saw it as it is now. Only a
//!   Lease that its holder released is free at once.
//! - Every write of the Lease names the version that it replaces, so of several one succeeds.
//!
//! # Why there is one leader
//!
//! Each count is made on one machine's own clock, from a moment that this machine saw itself; no clock is compared
//! with another, and the times in the Lease are for people. The request of the first rule reached the API server
//! after its count began, and was seen after that: so the second count begins later than the first, and is half as
//! long again. Clocks that run a fifth too fast and too slow do no harm.
//!
//! A Lease that is not there may have been deleted while somebody held it, and has no version to tell by whether it
//! came and went meanwhile. So who creates it does not hold it yet: he waits as all others do, and renews it then.

use std::time::Duration;

use crate::clock::SinceBoot;

/// How long others leave the Lease alone. It is also how long nobody leads when a leader dies without a word. These
/// numbers are those that Kubernetes' own controllers use.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long the holder writes after it renewed: two tries to renew fit in, and a third of [`LEASE`] is left for
/// requests under way and for clocks that differ in speed.
pub const WRITING: Duration = Duration::from_secs(10);
/// How long a request about the Lease may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// From one renewal to the next.
const RENEW: Duration = Duration::from_secs(3);
/// From one look of a standby to the next: a release is noticed by then.
const LOOK: Duration = Duration::from_secs(2);
/// From a request that failed to the next.
const RETRY: Duration = Duration::from_secs(1);
/// The longest that a Lease can ask to be left alone: nobody waits for ever for what a person wrote into it.
const LEASE_MAX: Duration = Duration::from_secs(300);

/// What a Lease says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// Who holds it; nobody when it was released.
    pub holder: Option<String>,
    /// How long it wants to be left alone.
    pub duration: Duration,
    /// How often it changed hands.
    pub transitions: u32,
}

/// A Lease as the API server has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Stored {
    /// What it says.
    pub record: Record,
    /// Its version, another one after each write.
    pub version: String,
}

/// A Lease to be written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Draft {
    /// What it shall say.
    pub record: Record,
    /// The version that it replaces; without one it is created.
    pub replaces: Option<String>,
}

/// What to do next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing, for this long.
    Wait(Duration),
    /// Read the Lease.
    Read,
    /// Write it.
    Write(Draft),
}

/// What the Lease was when it was last seen to change.
#[derive(Clone, Debug)]
struct Seen {
    stored: Option<Stored>,
    since: SinceBoot,
}

/// One who wants to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Unlike that of any other process, past or present.
    identity: String,
    seen: Option<Seen>,
    /// Whether the Lease was changed since.
    outdated: bool,
    /// Whether there was no Lease when it was written last: this candidate's name in it proves nothing yet.
    unproven: bool,
    held_until: Option<SinceBoot>,
    due: SinceBoot,
}

impl Candidate {
    /// One who has seen nothing yet.
    pub fn new(identity: String) -> Self {
        Self {
            identity,
            seen: None,
            outdated: false,
            unproven: false,
            held_until: None,
            due: SinceBoot::ZERO,
        }
    }

    /// Until when it may write; `None` when it does not hold the Lease.
    pub fn held_until(&self) -> Option<SinceBoot> {
        self.held_until
    }

    /// The holder that was seen last.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref()?.stored.as_ref()?.record.holder.as_deref()
    }

    /// The next step.
    pub fn next(&self, now: SinceBoot) -> Step {
        if now < self.due {
            return Step::Wait(self.due - now);
        }
        match &self.seen {
            Some(seen) if !self.outdated && now >= self.free_at(seen) => Step::Write(self.claim(seen)),
            _ => Step::Read,
        }
    }

    /// From when on a Lease can be taken, or renewed.
    fn free_at(&self, seen: &Seen) -> SinceBoot {
        let Some(Stored { record, .. }) = &seen.stored else { return seen.since };
        match &record.holder {
            None => seen.since,
            // Only this process has this name.
            Some(holder) if *holder == self.identity && !self.unproven => seen.since,
            // A version with another LEASE may hold it.
            Some(_) => seen.since + record.duration.clamp(LEASE, LEASE_MAX),
        }
    }

    fn claim(&self, seen: &Seen) -> Draft {
        let before = seen.stored.as_ref().map(|stored| &stored.record);
        let is_renewal = before.is_some_and(|record| record.holder.as_ref() == Some(&self.identity));
        let transitions =
            before.map_or(0, |record| record.transitions.saturating_add(u32::from(!is_renewal)));
        Draft {
            record: Record { holder: Some(self.identity.clone()), duration: LEASE, transitions },
            replaces: seen.stored.as_ref().map(|stored| stored.version.clone()),
        }
    }

    /// The Lease was read, or is not there. `now` is after the answer.
    pub fn read(&mut self, stored: Option<Stored>, now: SinceBoot) {
        let is_mine = stored.as_ref().is_some_and(|it| it.record.holder.as_ref() == Some(&self.identity));
        if !is_mine {
            self.held_until = None;
        }
        self.unproven |= stored.is_none();
        let version = |stored: &Option<Stored>| stored.as_ref().map(|it| it.version.clone());
        let is_new = self.seen.as_ref().is_none_or(|seen| version(&seen.stored) != version(&stored));
        let since = self.seen.as_ref().filter(|_| !is_new).map_or(now, |seen| seen.since);
        let seen = Seen { stored, since };
        self.due = self.free_at(&seen).max(now).min(now + LOOK);
        self.seen = Some(seen);
        self.outdated = false;
    }

    /// The Lease was written, as [`Self::next`] said. The request was sent after `asked`, the answer came before
    /// `now`.
    pub fn written(&mut self, stored: Stored, asked: SinceBoot, now: SinceBoot) {
        let was_there = self.seen.as_ref().is_some_and(|seen| seen.stored.is_some());
        let seen = Seen { stored: Some(stored), since: now };
        self.outdated = false;
        if was_there {
            self.unproven = false;
            self.held_until = Some(asked + WRITING);
            self.due = asked + RENEW;
        } else {
            self.due = self.free_at(&seen);
        }
        self.seen = Some(seen);
    }

    /// It was not written, because it is no longer what it was when it was seen.
    pub fn outdated(&mut self, now: SinceBoot) {
        self.outdated = true;
        self.due = now;
    }

    /// There was no answer, or an error for one. A write may have succeeded for all that: the same one is refused
    /// then, because of its version.
    pub fn failed(&mut self, now: SinceBoot) {
        self.due = now + RETRY;
    }

    /// Gives up what it may write, and the Lease that tells the others so, if there is one to be written.
    pub fn release(&mut self) -> Option<Draft> {
        self.held_until = None;
        let Stored { record, version } = self.seen.as_ref()?.stored.as_ref()?;
        // One that was not held yet is not this candidate's to give away: an earlier holder may still write.
        let was_held = record.holder.as_ref() == Some(&self.identity) && !self.unproven;
        was_held.then(|| Draft {
            // The API server wants a duration of at least a second.
            record: Record {
                holder: None,
                duration: Duration::from_secs(1),
                transitions: record.transitions,
            },
            replaces: Some(version.clone()),
        })
    }
}
