//! Mails that become dead letters, and dead letters that a person acts on.

use std::collections::VecDeque;
use std::io;

use tracing::{error, info};

use crate::spool::LOG_TARGET;
use crate::spool::dead::Exhumed;
use crate::spool::disk::Disk;
use crate::spool::entry::{Head, Outcome, Subject};
use crate::spool::segment::{Histories, Loaded, Location, SegmentId, load};
use crate::spool::store::Entry;

use super::Writer;
use super::job::{Burial, DeadAction, Said, Spooled, Wish};

/// What a person wants of dead letters, as far as it was not done yet.
pub(super) struct Acting {
    action: DeadAction,
    /// Segments to be looked through, once it is its turn.
    left: Option<VecDeque<SegmentId>>,
    /// Dead letters that it was done to.
    count: u64,
}

/// Dead letters that are mails again, and why others are not.
struct Revived {
    released: Vec<(Location, Head)>,
    result: Result<(), String>,
}

impl Acting {
    pub(super) fn new(action: DeadAction) -> Self {
        Self { action, left: None, count: 0 }
    }
}

impl<D: Disk + Clone, T: Send + 'static> Writer<D, T> {
    pub(super) fn bury(&mut self, burials: Vec<Burial>) {
        if burials.is_empty() {
            return;
        }
        let (mut pairs, mut heads, mut entries, mut said) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for burial in burials {
            let pair = burial.pair;
            match self.corpse(burial) {
                Ok((head, entry)) => {
                    pairs.push(pair);
                    heads.push(head);
                    entries.push(entry);
                }
                Err(error) => {
                    // Nothing can ever be delivered of what is known to be damaged.
                    let damaged = error.kind() == io::ErrorKind::InvalidData;
                    error!(target: LOG_TARGET, segment = pair.mail.segment, offset = pair.mail.offset, %error, damaged, "mail cannot be read from the spool");
                    said.push((pair, damaged));
                }
            }
        }
        let kept = self.dead.keep(&heads, &entries);
        for ((pair, head), result) in pairs.into_iter().zip(&heads).zip(kept) {
            let (id, route) = (&head.id, head.destinations.first().map_or("", |target| &target.route));
            match &result {
                Ok(()) => {
                    let reason = head.death.as_ref().map_or("", |death| &death.reason);
                    error!(target: LOG_TARGET, id, route, reason, "mail is a dead letter");
                }
                Err(error) => {
                    error!(target: LOG_TARGET, id, route, %error, "mail was not made a dead letter and waits on");
                }
            }
            said.push((pair, result.is_ok()));
        }
        for (pair, _) in said.iter().filter(|(_, buried)| *buried) {
            self.store.note(pair.mail, pair.destination, Outcome::Dead);
        }
        // Or it would die again after a loss of power.
        self.write_outcomes(true);
        self.say(Said::Buried(said));
    }

    fn corpse(&self, burial: Burial) -> io::Result<(Head, Entry)> {
        let Burial { pair, mut death, last } = burial;
        let Loaded { mut head, content, intact } = load(self.store.disk(), pair.mail)?;
        if !intact {
            death.reason = format!("{}; its content is damaged on disk", death.reason);
        }
        let subject = Subject { offset: pair.mail.offset, destination: pair.destination };
        let index = usize::from(pair.destination);
        if index >= head.destinations.len() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut target = head.destinations.swap_remove(index);
        let extent = self.store.extent(pair.mail.segment);
        let mut history =
            Histories::read(self.store.disk(), &extent, |of| of == subject)?.of(subject, &target);
        target.progress = last.or_else(|| history.pop()).unwrap_or_default();
        target.history = history;
        head.destinations = vec![target];
        head.death = Some(death);
        let entry = Entry::new(&head, content)?;
        Ok((head, entry))
    }

    /// Does what a person wants to the dead letters of one segment, if there is something to do: mail is taken between
    /// one and the next.
    pub(super) fn go_on_acting(&mut self) {
        let Some(mut acting) = self.acting.pop_front() else { return };
        let segment = acting.left.get_or_insert_with(|| self.dead.segments().into()).pop_front();
        let result = segment.map_or(Ok(()), |segment| self.act_on(segment, &mut acting));
        match result {
            Ok(()) if acting.left.as_ref().is_some_and(|left| !left.is_empty()) => {
                self.acting.push_front(acting);
            }
            result => {
                let _ = acting.action.reply.send(result.map(|()| acting.count));
            }
        }
    }

    fn act_on(&mut self, segment: SegmentId, acting: &mut Acting) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let now_ms = self.clock.now_ms();
        let DeadAction { selector, wish, .. } = &acting.action;
        let mut chosen = Vec::new();
        self.dead.select(segment, selector, now_ms, |exhumed| chosen.push(exhumed)).map_err(text)?;
        let Revived { released, result } = match wish {
            Wish::Retry => self.revive(chosen, now_ms).map_err(text)?,
            Wish::Discard => {
                let released = chosen.into_iter().map(|exhumed| (exhumed.at, exhumed.head)).collect();
                Revived { released, result: Ok(()) }
            }
        };
        acting.count += released.len() as u64;
        let outcome = if *wish == Wish::Retry { Outcome::Moved } else { Outcome::Discarded };
        self.dead.release(&released, &outcome).map_err(text)?;
        if *wish == Wish::Discard {
            for (_, head) in &released {
                let route = head.destinations.first().map_or("", |target| &target.route);
                info!(target: LOG_TARGET, id = head.id, route, "mail discarded by hand");
            }
        }
        result
    }

    /// Takes dead letters over as mails.
    fn revive(&mut self, chosen: Vec<Exhumed>, now_ms: u64) -> io::Result<Revived> {
        let (mut entries, mut heads, mut from) = (Vec::new(), Vec::new(), Vec::new());
        for exhumed in chosen {
            let mut head = exhumed.head.clone();
            head.death = None;
            head.replayed_at_ms = Some(now_ms);
            for target in &mut head.destinations {
                let last = std::mem::take(&mut target.progress);
                target.history.extend((!last.is_none()).then_some(last));
            }
            entries.push(Entry::new(&head, exhumed.content)?);
            heads.push(head);
            from.push((exhumed.at, exhumed.head));
        }
        let (mut spooled, mut released, mut result) = (Vec::new(), Vec::new(), Ok(()));
        let written = self.store.append(&entries);
        for (((entry, head), from), at) in entries.iter().zip(heads).zip(from).zip(written) {
            match at {
                Ok(at) => {
                    spooled.push(Spooled::copy(at, entry, head));
                    released.push(from);
                }
                Err(error) => result = result.and(Err(error.to_string())),
            }
        }
        if !spooled.is_empty() {
            self.say(Said::Spooled(spooled));
        }
        Ok(Revived { released, result })
    }
}
