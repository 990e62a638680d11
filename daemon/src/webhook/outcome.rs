//! What one attempt came to. Pure.

use std::fmt;
use std::time::Duration;

/// The result of one HTTP attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The webhook answered with this 2xx status: it has the mail.
    Delivered(u16),
    /// The webhook answered with another status.
    Refused(Refusal),
    /// No answer within the time of an attempt.
    TimedOut,
    /// No answer at all: name resolution, connection, TLS or HTTP failed. The reason, without
    /// the address.
    Unreachable(String),
}

/// An answer with a status that is not 2xx. Redirects are not followed, so they deliver nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The status.
    pub status: u16,
    /// How long the webhook wants to be left alone: `Retry-After`, RFC 9110 section 10.2.3.
    pub retry_after: Option<Duration>,
    /// What its problem details say: see [`super::problem`].
    pub problem: Option<String>,
}

impl Refusal {
    /// Whether the same request will be refused again, whenever it is made.
    ///
    /// 401, 403 and 404 are not among these statuses: they are usually a mistake in a deployment.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self.status, 400 | 406 | 410 | 413 | 415 | 422)
    }
}

/// What [`Outcome::label`] can be.
pub const LABELS: [&str; 7] = ["2xx", "3xx", "4xx", "5xx", "other", "timeout", "unreachable"];

impl Outcome {
    /// What an answer means.
    #[must_use]
    pub fn of(answer: Refusal) -> Self {
        match answer.status {
            status @ 200..=299 => Self::Delivered(status),
            _ => Self::Refused(answer),
        }
    }

    /// How long the webhook wants to be left alone, if it says so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after,
            Self::Delivered(_) | Self::TimedOut | Self::Unreachable(_) => None,
        }
    }

    /// The value of the `result` label, one of [`LABELS`].
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "2xx",
            Self::Refused(answer) => match answer.status {
                300..=399 => "3xx",
                400..=499 => "4xx",
                500..=599 => "5xx",
                _ => "other",
            },
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered(status) => write!(f, "the webhook took it with {status}"),
            Self::Refused(Refusal { status, problem: None, .. }) => {
                write!(f, "the webhook answered {status}")
            }
            Self::Refused(Refusal { status, problem: Some(problem), .. }) => {
                write!(f, "the webhook answered {status}: {problem}")
            }
            Self::TimedOut => f.write_str("the webhook did not answer in time"),
            Self::Unreachable(why) => write!(f, "the webhook could not be reached: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_delivers_and_some_refusals_are_for_good() {
        for (status, delivered, permanent, label) in [
            (199, false, false, "other"),
            (200, true, false, "2xx"),
            (204, true, false, "2xx"),
            (299, true, false, "2xx"),
            (302, false, false, "3xx"),
            (400, false, true, "4xx"),
            (401, false, false, "4xx"),
            (403, false, false, "4xx"),
            (404, false, false, "4xx"),
            (406, false, true, "4xx"),
            (408, false, false, "4xx"),
            (409, false, false, "4xx"),
            (410, false, true, "4xx"),
            (413, false, true, "4xx"),
            (415, false, true, "4xx"),
            (422, false, true, "4xx"),
            (425, false, false, "4xx"),
            (429, false, false, "4xx"),
            (500, false, false, "5xx"),
            (501, false, false, "5xx"),
            (503, false, false, "5xx"),
            (600, false, false, "other"),
        ] {
            let refusal = Refusal { status, ..Refusal::default() };
            assert_eq!(refusal.is_permanent(), permanent, "{status}");
            let outcome = Outcome::of(refusal);
            assert_eq!(
                (matches!(outcome, Outcome::Delivered(_)), outcome.label()),
                (delivered, label),
                "{status}"
            );
        }
    }

    #[test]
    fn a_problem_is_told() {
        let refusal =
            Refusal { status: 422, problem: Some("No such ticket".to_owned()), ..Refusal::default() };
        assert_eq!(Outcome::of(refusal).to_string(), "the webhook answered 422: No such ticket");
    }
}
