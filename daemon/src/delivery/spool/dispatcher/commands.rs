//! What a person asks for, carried out beside the deliveries.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tracing::info;

use crate::spool::LOG_TARGET as SPOOL_LOG;
use crate::spool::control::Done;
use crate::spool::dead::keeper::{DeadAction, DeadJob, Wish};
use crate::spool::entry::Outcome;
use crate::spool::lane::Waiting;
use crate::spool::segment::SegmentId;
use crate::spool::selector::{Kind, Selector};

use super::{Dispatcher, Held, Own};

/// What a person asks for.
#[derive(Debug)]
pub(in crate::delivery::spool) struct Command {
    pub(in crate::delivery::spool) selector: Selector,
    pub(in crate::delivery::spool) wish: Wish,
    pub(in crate::delivery::spool) reply: oneshot::Sender<Result<Done, String>>,
}

/// A command that is being carried out.
pub(super) struct Commanded {
    pub(super) command: Command,
    /// Segments that are still to be looked through, once it is its turn.
    left: Option<VecDeque<SegmentId>>,
    done: Done,
}

impl Dispatcher {
    pub(super) fn begin(&mut self, command: Command) {
        self.commands.push_back(Commanded { command, left: None, done: Done::default() });
    }

    /// The segment that the first command wants to be read next.
    pub(super) fn next_of_command(&mut self) -> Option<SegmentId> {
        let first = self.commands.front_mut().filter(|_| self.compacting.is_none())?;
        let all = || match first.command.selector.chooses_kind(Kind::Waiting) {
            true => self.backlog.segments().collect(),
            false => VecDeque::new(),
        };
        first.left.get_or_insert_with(all).pop_front()
    }

    /// Does to a mail what the first command wants.
    pub(super) fn grant(&mut self, waiting: Waiting<Held>, id: &str) {
        let Some(wish) = self.commands.front().map(|it| it.command.wish) else { return };
        let picked = self.backlog.pick(&waiting);
        if let Some(it) = self.commands.front_mut() {
            let count = if picked { &mut it.done.done } else { &mut it.done.busy };
            *count += 1;
        }
        match wish {
            _ if !picked => {}
            Wish::Retry | Wish::Force => {
                self.backlog.wait(Waiting { due_ms: self.clock.now_ms(), ..waiting });
            }
            Wish::Discard => {
                info!(target: SPOOL_LOG, id, route = self.name(waiting.lane), "mail discarded by hand");
                self.meets_its_end(&waiting, Outcome::Discarded);
            }
        }
    }

    /// Goes on to dead letters where all segments have been looked through for a command.
    pub(super) fn conclude(&mut self) {
        let looked = |it: &mut Commanded| it.left.as_ref().is_some_and(VecDeque::is_empty);
        let Some(Commanded { command, done, .. }) = self.commands.pop_front_if(looked) else { return };
        let Command { selector, wish, reply } = command;
        info!(target: SPOOL_LOG, ?wish, done = done.done, busy = done.busy, ?selector, "mails that wait were acted on by hand");
        if !selector.chooses_kind(Kind::Dead) {
            let _ = reply.send(Ok(done));
            return;
        }
        self.dead_actions += 1;
        let (dead, result) = oneshot::channel();
        self.dead_letters.ask(DeadJob::Act(DeadAction { selector, wish, reply: dead }));
        let own = self.own.clone();
        tokio::spawn(async move {
            let result = result.await.unwrap_or_else(|_| Err("the spool is being closed".to_owned()));
            let _ = own.send(Own::DeadDone { reply, done, result });
        });
    }
}
