//! Which of the mails of a spool a person means. Pure.

use serde::{Deserialize, Serialize};

use super::entry::{Head, Progress, Target};

/// Chooses mails; a mail has to fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selector {
    /// Of which kind; any if nothing is said.
    pub kind: Option<Kind>,
    /// With one of these ids; any if there is none.
    pub ids: Vec<String>,
    /// To this destination.
    pub route: Option<String>,
    /// Received longer ago than this, in seconds.
    pub older_than_seconds: Option<u64>,
    /// With this text, in whatever case, in the reason of its last failure or of its death.
    pub reason: Option<String>,
}

/// What a mail in a spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It is to be delivered.
    Waiting,
    /// It was given up.
    Dead,
}

impl Selector {
    /// Whether it chooses mails of that kind at all.
    #[must_use]
    pub fn chooses_kind(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|chosen| chosen == kind)
    }

    /// Whether it chooses a mail that waits for a destination, where its delivery stands like that.
    #[must_use]
    pub fn chooses_waiting(&self, head: &Head, target: &Target, progress: &Progress, now_ms: u64) -> bool {
        self.chooses_kind(Kind::Waiting) && self.chooses(head, target, &progress.reason, now_ms)
    }

    /// Whether it chooses a dead letter.
    #[must_use]
    pub fn chooses_dead(&self, head: &Head, now_ms: u64) -> bool {
        let reason = head.death.as_ref().map_or("", |death| death.reason.as_str());
        self.chooses_kind(Kind::Dead)
            && head.destinations.iter().any(|target| self.chooses(head, target, reason, now_ms))
    }

    fn chooses(&self, head: &Head, target: &Target, reason: &str, now_ms: u64) -> bool {
        let age_seconds = now_ms.saturating_sub(head.received_at_ms) / 1_000;
        (self.ids.is_empty() || self.ids.contains(&head.id))
            && self.route.as_ref().is_none_or(|route| *route == target.route)
            && self.older_than_seconds.is_none_or(|seconds| age_seconds > seconds)
            && self.reason.as_ref().is_none_or(|part| reason.to_lowercase().contains(&part.to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::entry::Death;

    fn head(death: Option<&str>) -> Head {
        let death = death.map(|reason| Death { at_ms: 0, reason: reason.to_owned(), is_damaged: false });
        Head { death, ..Head::example("one") }
    }

    #[test]
    fn a_mail_has_to_fit_all_that_is_said() {
        let any = Selector::default();
        let progress = Progress { reason: "It answered 503".to_owned(), ..Progress::default() };
        let waiting = head(None);
        let chooses = |selector: &Selector, now| {
            selector.chooses_waiting(&waiting, &waiting.destinations[0], &progress, now)
        };
        assert!(chooses(&any, 0));
        for (selector, chosen) in [
            (Selector { ids: vec!["two".to_owned(), "one".to_owned()], ..any.clone() }, true),
            (Selector { ids: vec!["two".to_owned()], ..any.clone() }, false),
            (Selector { route: Some("default".to_owned()), ..any.clone() }, true),
            (Selector { route: Some("other".to_owned()), ..any.clone() }, false),
            (Selector { reason: Some("it ANSWERED".to_owned()), ..any.clone() }, true),
            (Selector { reason: Some("timeout".to_owned()), ..any.clone() }, false),
            (Selector { older_than_seconds: Some(59), ..any.clone() }, true),
            (Selector { older_than_seconds: Some(60), ..any.clone() }, false),
            (Selector { kind: Some(Kind::Waiting), ..any.clone() }, true),
            (Selector { kind: Some(Kind::Dead), ..any.clone() }, false),
        ] {
            assert_eq!(chooses(&selector, 1_060_000), chosen, "{selector:?}");
        }
        assert!(any.chooses_dead(&head(Some("refused")), 0));
        assert!(
            Selector { reason: Some("refused".to_owned()), ..any.clone() }
                .chooses_dead(&head(Some("Refused")), 0)
        );
        assert!(!Selector { kind: Some(Kind::Waiting), ..any }.chooses_dead(&head(Some("refused")), 0));
    }
}
