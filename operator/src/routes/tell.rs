//! Which pods are told to look at the table of their gateway, and when. Pure.
//!
//! A kubelet looks at what a pod mounts when something of the pod changes, and otherwise once a minute. So each pod has
//! the generation that it was told of as an annotation, and what is to be told is seen from the pods, not from what was
//! written: no pod is missed that comes while a table is written, or whose table an operator wrote that has gone since.

use std::time::{Duration, Instant};

/// After this long a pod is told of a generation once more. A kubelet hears of the Secrets and of the pod by two watches,
/// and when it hears of a large Secret last it has looked too early. 5 s is long for a watch to be late, and short for a
/// withdrawn route to go on taking mail.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// What the annotation of a pod ends with that was told twice.
const AGAIN: &str = "/again";

/// How often a pod was told of a generation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Never,
    Once,
    Twice,
}

impl Told {
    /// By the annotation of the pod.
    pub(crate) fn of(annotation: Option<&str>, generation: &str) -> Self {
        match annotation.and_then(|annotation| annotation.strip_prefix(generation)) {
            Some("") => Self::Once,
            Some(AGAIN) => Self::Twice,
            _ => Self::Never,
        }
    }
}

/// The annotation of a pod that is told of a generation for the second time; for the first it is the generation.
pub(crate) fn again(generation: &str) -> String {
    format!("{generation}{AGAIN}")
}

/// When the pods of a gateway are to be told of a generation for the second time.
#[derive(Debug, Default)]
pub(crate) struct Second(Option<Instant>);

impl Second {
    /// Whether it is time.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.0.is_some_and(|due| due <= now)
    }

    /// How long until then.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        self.0.map(|due| due.saturating_duration_since(now))
    }

    /// Whether pods wait for it, after those were told that were to be.
    pub(crate) fn waited_for(&mut self, do_pods_wait: bool, now: Instant) {
        let is_ahead = self.0.is_some_and(|due| due > now);
        match (do_pods_wait, is_ahead) {
            (true, true) => {}
            (true, false) => self.0 = Some(now + TOLD_AGAIN_AFTER),
            (false, _) => self.0 = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pod_was_told_is_seen_from_its_annotation() {
        let of = |annotation: &str| Told::of(Some(annotation), "ab");
        assert_eq!(Told::of(None, "ab"), Told::Never);
        assert_eq!([of("ab"), of(&again("ab"))], [Told::Once, Told::Twice]);
        for other in ["", "a", "cd", "abc", "ab/", "ab/again/again", &again("abc")] {
            assert_eq!(of(other), Told::Never, "{other}");
        }
    }

    #[test]
    fn the_second_time_comes_while_pods_wait_for_it() {
        let (mut second, begin) = (Second::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        assert_eq!((second.is_due(at(0)), second.due_in(at(0))), (false, None));
        second.waited_for(true, at(0));
        // Another pod that comes takes nothing from those that wait.
        second.waited_for(true, at(2_000));
        assert_eq!(second.due_in(at(2_000)), Some(Duration::from_secs(3)));
        assert!(!second.is_due(at(4_999)) && second.is_due(at(5_000)));
        // What is known of the pods may be of before they were told.
        second.waited_for(true, at(5_100));
        assert_eq!(second.due_in(at(5_100)), Some(Duration::from_secs(5)));
        second.waited_for(false, at(6_000));
        assert_eq!(second.due_in(at(6_000)), None);
    }
}
