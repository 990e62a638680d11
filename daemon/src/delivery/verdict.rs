//! What destinations say of a mail, and what its sender is told for it. Pure.

use crate::message::id::MailId;

use super::Answer;

/// What one destination says of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It has the mail.
    Delivered,
    /// It will never take the mail. Why.
    Permanent(String),
    /// It does not have the mail, and may take it later. Why.
    Temporary(String),
}

impl Verdict {
    /// Whether another attempt would change nothing.
    #[must_use]
    pub(super) fn is_final(&self) -> bool {
        !matches!(self, Self::Temporary(_))
    }
}

/// The answer for a mail of which the destinations say `verdicts`: the worst of them.
///
/// Temporary is worse than permanent: the sender tries again, and no destination goes without the
/// mail because another refuses it.
#[must_use]
pub(super) fn worst(id: MailId, verdicts: Vec<Verdict>) -> Answer {
    let mut answer = Answer::Accepted(id);
    for verdict in verdicts {
        answer = match (verdict, answer) {
            (Verdict::Temporary(why), _) => return Answer::Deferred(why),
            (Verdict::Permanent(why), Answer::Accepted(_)) => Answer::Refused(why),
            (Verdict::Permanent(_) | Verdict::Delivered, so_far) => so_far,
        };
    }
    answer
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_worst_verdict_is_the_answer() {
        let id = MailId::new(UNIX_EPOCH, [0; 10]);
        let verdict = |letter| match letter {
            'd' => Verdict::Delivered,
            'p' => Verdict::Permanent("p".to_owned()),
            _ => Verdict::Temporary("t".to_owned()),
        };
        for (verdicts, expected) in [
            ("d", Answer::Accepted(id)),
            ("p", Answer::Refused("p".to_owned())),
            ("t", Answer::Deferred("t".to_owned())),
            ("dd", Answer::Accepted(id)),
            ("dp", Answer::Refused("p".to_owned())),
            ("pd", Answer::Refused("p".to_owned())),
            ("pt", Answer::Deferred("t".to_owned())),
            ("tp", Answer::Deferred("t".to_owned())),
            ("dtd", Answer::Deferred("t".to_owned())),
            ("", Answer::Accepted(id)),
        ] {
            assert_eq!(worst(id, verdicts.chars().map(verdict).collect()), expected, "{verdicts}");
        }
    }
}
