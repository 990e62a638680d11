//! Mails that become dead letters, and dead letters that a person acts on.

use std::io;

use tracing::error;

use crate::spool::LOG_TARGET;
use crate::spool::disk::Disk;
use crate::spool::entry::{Head, Outcome, Subject};
use crate::spool::segment::{Histories, Loaded, SegmentId, load};
use crate::spool::selector::Selector;
use crate::spool::store::Entry;

use super::Writer;
use super::job::{Burial, DeadAction, Said, Spooled, Wish};

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

    pub(super) fn act(&mut self, action: DeadAction) {
        let DeadAction { selector, wish, reply } = action;
        let now_ms = self.clock.now_ms();
        let mut count = 0;
        let mut result = Ok(());
        for segment in self.dead.segments() {
            result = result.and_then(|()| self.act_on(segment, &selector, wish, now_ms, &mut count));
        }
        let _ = reply.send(result.map(|()| count));
    }

    fn act_on(
        &mut self,
        segment: SegmentId,
        selector: &Selector,
        wish: Wish,
        now_ms: u64,
        count: &mut u64,
    ) -> Result<(), String> {
        let text = |error: io::Error| error.to_string();
        let mut chosen = Vec::new();
        self.dead.select(segment, selector, now_ms, |exhumed| chosen.push(exhumed)).map_err(text)?;
        let mut released = Vec::with_capacity(chosen.len());
        let mut spooled = Vec::new();
        let mut result = Ok(());
        for exhumed in chosen {
            if wish == Wish::Retry {
                let mut head = exhumed.head.clone();
                head.death = None;
                head.replayed_at_ms = Some(now_ms);
                for target in &mut head.destinations {
                    let last = std::mem::take(&mut target.progress);
                    target.history.extend((!last.is_none()).then_some(last));
                }
                let entry = Entry::new(&head, exhumed.content).map_err(text)?;
                match self.store.append(std::slice::from_ref(&entry)).remove(0) {
                    Ok(at) => spooled.push(Spooled::copy(at, &entry, head)),
                    Err(error) => {
                        result = Err(error.to_string());
                        break;
                    }
                }
            }
            released.push((exhumed.at, exhumed.head));
        }
        *count += released.len() as u64;
        let outcome = if wish == Wish::Retry { Outcome::Moved } else { Outcome::Discarded };
        let noted = self.dead.release(&released, &outcome).map_err(text);
        self.say(Said::Spooled(spooled));
        result.and(noted)
    }
}
