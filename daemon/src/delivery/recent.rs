//! Deliveries that a sender did not hear the end of: its retry is told what became of them.

use std::collections::{HashMap, VecDeque};

use tokio::sync::watch;

use super::verdict::Verdict;

/// Verdicts that are remembered: of some 250 bytes each with its key, 4 MiB at most. Senders that
/// were answered `451` come back within minutes; only that many of them are waited for.
const REMEMBERED_MAX: usize = 16 * 1024;

/// Names a pair of mail and destination: the key of its request.
pub(super) type Key = String;

/// What a delivery under way will come to; `None` until it has.
pub(super) type Pending = watch::Receiver<Option<Verdict>>;

/// Pairs of mail and destination that are under way, and those that came to a final verdict
/// which their sender was not told.
#[derive(Debug, Default)]
pub(super) struct Recent {
    under_way: HashMap<Key, Pending>,
    ended: HashMap<Key, Verdict>,
    /// Keys in the order in which they ended; some of them were forgotten since.
    order: VecDeque<Key>,
}

/// What is known of a pair.
#[derive(Debug)]
pub(super) enum Known {
    /// It has come to this.
    Ended(Verdict),
    /// It is being delivered.
    UnderWay(Pending),
}

impl Recent {
    /// What is known of a pair, if anything.
    fn look_up(&self, key: &str) -> Option<Known> {
        let ended = self.ended.get(key).map(|verdict| Known::Ended(verdict.clone()));
        ended.or_else(|| self.under_way.get(key).map(|pending| Known::UnderWay(pending.clone())))
    }

    /// Returns what is known of a pair. If that is nothing, notes that it is being delivered, and returns the sender of its
    /// verdict: of two sessions with the same message, only one delivers it.
    pub(super) fn begin(&mut self, key: &str) -> Result<Known, watch::Sender<Option<Verdict>>> {
        if let Some(known) = self.look_up(key) {
            return Ok(known);
        }
        let (sender, pending) = watch::channel(None);
        self.under_way.insert(key.to_owned(), pending);
        Err(sender)
    }

    /// Notes what a delivery came to; `None` when it has no end. Of a verdict that is not final
    /// there is nothing to remember: the retry is a new attempt.
    pub(super) fn end(&mut self, key: &str, verdict: Option<&Verdict>) {
        self.under_way.remove(key);
        let Some(verdict) = verdict.filter(|verdict| verdict.is_final()) else { return };
        self.ended.insert(key.to_owned(), verdict.clone());
        self.order.push_back(key.to_owned());
        while self.ended.len() > REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.ended.remove(&oldest);
        }
        if self.order.len() > 2 * REMEMBERED_MAX {
            self.order.retain(|key| self.ended.contains_key(key));
        }
    }

    /// Forgets a pair whose sender was told: a mail that is sent again after that is sent on
    /// purpose.
    pub(super) fn forget(&mut self, key: &str) {
        self.ended.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_final_verdict_is_remembered_until_it_is_told() {
        let mut recent = Recent::default();
        let sender = recent.begin("a").unwrap_err();
        assert!(matches!(recent.begin("a"), Ok(Known::UnderWay(_))));
        sender.send_replace(Some(Verdict::Delivered));
        recent.end("a", Some(&Verdict::Delivered));
        assert!(matches!(recent.begin("a"), Ok(Known::Ended(Verdict::Delivered))));
        recent.forget("a");
        assert!(recent.look_up("a").is_none());
    }

    #[test]
    fn what_is_not_final_is_tried_again() {
        let mut recent = Recent::default();
        for verdict in [Some(Verdict::Temporary("why".to_owned())), None] {
            let _ends = recent.begin("a").unwrap_err();
            recent.end("a", verdict.as_ref());
            assert!(recent.look_up("a").is_none());
        }
    }

    #[test]
    fn what_is_remembered_has_a_bound() {
        let mut recent = Recent::default();
        for number in 0..3 * REMEMBERED_MAX {
            let key = number.to_string();
            let _ends = recent.begin(&key).unwrap_err();
            recent.end(&key, Some(&Verdict::Delivered));
        }
        for number in 0..9 * REMEMBERED_MAX {
            let key = format!("told {number}");
            let _ends = recent.begin(&key).unwrap_err();
            recent.end(&key, Some(&Verdict::Delivered));
            recent.forget(&key);
        }
        assert!(recent.order.len() <= 2 * REMEMBERED_MAX && recent.ended.len() <= REMEMBERED_MAX);
        assert!(recent.under_way.is_empty());
        assert!(recent.look_up("1").is_none());
        let newest = (3 * REMEMBERED_MAX - 1).to_string();
        assert!(
            matches!(recent.look_up(&newest), Some(Known::Ended(_))),
            "those that were told take no place"
        );
    }
}
