//! What keeps a resource from being as it should be.

use mail_laser_crds::conditions::Reason;

/// A finding that becomes a condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// What it is.
    pub reason: Reason,
    /// What happened, to what, and what to do.
    pub message: String,
}

impl Problem {
    /// A problem.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Whether a person has to act; otherwise it may pass by itself.
    pub fn stalls(&self) -> bool {
        matches!(
            self.reason,
            Reason::NameConflict
                | Reason::InvalidSpec
                | Reason::WrongSecretType
                | Reason::InvalidConfiguration
                | Reason::ProgressDeadlineExceeded
                | Reason::Refused
                | Reason::ClaimCannotGrow
        )
    }

    /// Whether somebody else has to make what is missing, or give a right, and may have forgotten to.
    pub fn is_awaited(&self) -> bool {
        matches!(
            self.reason,
            Reason::SecretNotFound
                | Reason::ConfigMapNotFound
                | Reason::ServiceNotFound
                | Reason::ClaimPending
                | Reason::Forbidden
        )
    }
}

/// One problem for many: the first that stalls, else the first, with the messages of all of its reason.
pub fn worst(problems: &[Problem]) -> Option<Problem> {
    let first = problems.iter().find(|problem| problem.stalls()).or(problems.first())?;
    let messages: Vec<_> = problems
        .iter()
        .filter(|problem| problem.reason == first.reason)
        .map(|problem| problem.message.as_str())
        .collect();
    Some(Problem::new(first.reason, messages.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_person_comes_first() {
        let problems = [
            Problem::new(Reason::SecretNotFound, "a"),
            Problem::new(Reason::NameConflict, "b"),
            Problem::new(Reason::NameConflict, "c"),
        ];
        assert_eq!(worst(&problems), Some(Problem::new(Reason::NameConflict, "b; c")));
        assert_eq!(worst(&problems[..1]), Some(problems[0].clone()));
        assert_eq!(worst(&[]), None);
    }
}
