//! What one attempt came to. Pure.

use std::fmt;

/// The result of one HTTP attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The webhook answered with this 2xx status: it has the mail.
    Delivered(u16),
    /// The webhook answered with another status.
    Refused(u16),
    /// No answer within the time of an attempt.
    TimedOut,
    /// No answer at all: name resolution, connection, TLS or HTTP failed. The reason, without
    /// the address.
    Unreachable(String),
}

impl Outcome {
    /// What a status means. Redirects are not followed, so they deliver nothing.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        if (200..300).contains(&status) { Self::Delivered(status) } else { Self::Refused(status) }
    }

    /// Whether the webhook has the mail.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered(_))
    }

    /// The value of the `result` label, out of a bounded set.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Delivered(_) => "2xx",
            Self::Refused(300..=399) => "3xx",
            Self::Refused(400..=499) => "4xx",
            Self::Refused(500..=599) => "5xx",
            Self::Refused(_) => "other",
            Self::TimedOut => "timeout",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delivered(status) => write!(f, "the webhook took it with {status}"),
            Self::Refused(status) => write!(f, "the webhook answered {status}"),
            Self::TimedOut => f.write_str("the webhook did not answer in time"),
            Self::Unreachable(why) => write!(f, "the webhook could not be reached: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_2xx_delivers() {
        for (status, delivered, label) in [
            (200, true, "2xx"),
            (204, true, "2xx"),
            (299, true, "2xx"),
            (199, false, "other"),
            (302, false, "3xx"),
            (404, false, "4xx"),
            (503, false, "5xx"),
            (600, false, "other"),
        ] {
            let outcome = Outcome::of_status(status);
            assert_eq!((outcome.is_delivered(), outcome.label()), (delivered, label), "{status}");
        }
    }
}
