//! Which pods are told to look at the table of their gateway, and when. Pure.
//!
//! A kubelet looks at what a pod mounts when something of the pod changes, and otherwise once a minute. So each pod has
//! the generation that it was told of as an annotation, and what is to be told is seen from the pods, not from what was
//! written: no pod is missed that comes while a table is written, or whose table an operator wrote that has gone since.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::version::is_older;

/// After this long a pod is told of a generation once more. A kubelet hears of the Secrets and of the pod by two watches,
/// and when it hears of a large Secret last it has looked too early. 5 s is long for a watch to be late, and short for a
/// withdrawn route to go on taking mail.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(5);

/// How long a pod is left alone that could not be told: its kubelet looks by itself meanwhile.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

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
    fn of(annotation: Option<&str>, generation: &str) -> Self {
        match annotation.and_then(|annotation| annotation.strip_prefix(generation)) {
            Some("") => Self::Once,
            Some(AGAIN) => Self::Twice,
            _ => Self::Never,
        }
    }

    /// The annotation with which the pod is told the next time, and what it was told then.
    pub(crate) fn next(self, generation: &str) -> (String, Self) {
        match self {
            Self::Never => (generation.to_owned(), Self::Once),
            Self::Once | Self::Twice => (format!("{generation}{AGAIN}"), Self::Twice),
        }
    }
}

/// A pod as it is cached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'p> {
    pub(crate) name: &'p str,
    pub(crate) version: &'p str,
    pub(crate) annotation: Option<&'p str>,
}

/// What the pods of a gateway are told of one generation.
#[derive(Debug, Default)]
pub(crate) struct Telling {
    /// When those that were told once are told for the second time.
    second: Option<Instant>,
    /// What came of telling them, by their names.
    tried: HashMap<String, Tried>,
}

#[derive(Debug)]
enum Tried {
    /// The pod has had this version since it was told.
    Told(Told, String),
    Refused(Instant),
}

impl Telling {
    /// What each of the pods was told that is to be told more now.
    pub(crate) fn to_tell(&self, pods: &[Seen<'_>], generation: &str, now: Instant) -> Vec<(String, Told)> {
        let is_second_due = self.second.is_some_and(|due| due <= now);
        let told =
            pods.iter().filter_map(|pod| Some((pod.name.to_owned(), self.told(pod, generation, now)?)));
        let is_due = |told| told == Told::Never || told == Told::Once && is_second_due;
        told.filter(|(_, told)| is_due(*told)).collect()
    }

    /// What a pod was told, unless it is to be left alone.
    fn told(&self, pod: &Seen<'_>, generation: &str, now: Instant) -> Option<Told> {
        match self.tried.get(pod.name) {
            // The watch does not know of it yet.
            Some(Tried::Told(told, version)) if is_older(pod.version, version) => Some(*told),
            Some(Tried::Refused(at)) if now.saturating_duration_since(*at) < REFUSED_PAUSE => None,
            _ => Some(Told::of(pod.annotation, generation)),
        }
    }

    /// A pod was told this much, and has this version since; or it could not be told.
    pub(crate) fn tried(&mut self, name: String, outcome: Option<(Told, String)>, now: Instant) {
        let tried = outcome.map_or(Tried::Refused(now), |(told, version)| Tried::Told(told, version));
        self.tried.insert(name, tried);
    }

    /// All were told that were to be at `begun`; the rest may wait for the second time.
    pub(crate) fn settle(&mut self, pods: &[Seen<'_>], generation: &str, begun: Instant, now: Instant) {
        self.tried.retain(|name, _| pods.iter().any(|pod| pod.name == name));
        let do_pods_wait = pods.iter().any(|pod| self.told(pod, generation, now) == Some(Told::Once));
        let is_ahead = self.second.is_some_and(|due| due > begun);
        match (do_pods_wait, is_ahead) {
            // A pod that comes later takes nothing from those that wait.
            (true, true) => {}
            (true, false) => self.second = Some(now + TOLD_AGAIN_AFTER),
            (false, _) => self.second = None,
        }
    }

    /// How long until there is more to tell.
    pub(crate) fn more_in(&self, now: Instant) -> Option<Duration> {
        self.second.map(|due| due.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<'p>(version: &'p str, annotation: Option<&'p str>) -> Seen<'p> {
        Seen { name: "edge-0", version, annotation }
    }

    #[test]
    fn what_a_pod_was_told_is_seen_from_its_annotation() {
        let of = |annotation: &str| Told::of(Some(annotation), "ab");
        assert_eq!(Told::of(None, "ab"), Told::Never);
        let (first, once) = Told::Never.next("ab");
        let (second, twice) = once.next("ab");
        assert_eq!([of(&first), of(&second)], [once, twice]);
        assert_eq!((first.as_str(), second.as_str()), ("ab", "ab/again"));
        for other in ["", "a", "cd", "abc", "ab/", "ab/again/again", "abc/again"] {
            assert_eq!(of(other), Told::Never, "{other}");
        }
    }

    #[test]
    fn a_pod_is_told_twice_and_then_only_if_somebody_takes_the_annotation() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        let at = |ms| begin + Duration::from_millis(ms);
        let mut tell = |pod: Seen<'_>, ms: u64, version: &str| {
            let due = telling.to_tell(&[pod], "ab", at(ms));
            let count = due.len();
            for (name, told) in due {
                telling.tried(name, Some((told.next("ab").1, version.to_owned())), at(ms));
            }
            telling.settle(&[pod], "ab", at(ms), at(ms));
            (count, telling.more_in(at(ms)).map(|more| more.as_millis()))
        };
        let cached = seen("7", Some("cd/again"));
        assert_eq!(tell(cached, 0, "10"), (1, Some(5_000)));
        // The watch may be late, by the first telling and by the second.
        assert_eq!(tell(cached, 2_000, "?"), (0, Some(3_000)));
        assert_eq!(tell(cached, 5_000, "11"), (1, None));
        assert_eq!(tell(seen("10", Some("ab")), 5_100, "?"), (0, None));
        assert_eq!(tell(seen("11", Some("ab/again")), 5_200, "?"), (0, None));
        assert_eq!(tell(seen("12", None), 9_000, "13"), (1, Some(5_000)));
    }

    #[test]
    fn the_second_time_is_not_put_off_by_others_that_are_just_being_told() {
        let (mut telling, begin) = (Telling::default(), Instant::now());
        let pods = [seen("7", Some("ab"))];
        let at = |ms| begin + Duration::from_millis(ms);
        telling.settle(&pods, "ab", at(0), at(0));
        telling.settle(&pods, "ab", at(4_900), at(5_100));
        assert_eq!(telling.more_in(at(5_100)), Some(Duration::ZERO));
        assert_eq!(telling.to_tell(&pods, "ab", at(5_350)).len(), 1);
    }

    #[test]
    fn a_pod_that_cannot_be_told_is_left_alone_for_a_minute() {
        let (mut telling, now) = (Telling::default(), Instant::now());
        let pods = [seen("7", None)];
        assert_eq!(telling.to_tell(&pods, "ab", now), [("edge-0".to_owned(), Told::Never)]);
        telling.tried("edge-0".to_owned(), None, now);
        telling.settle(&pods, "ab", now, now);
        assert_eq!(telling.more_in(now), None);
        let later = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(telling.to_tell(&pods, "ab", later(59)), []);
        assert_eq!(telling.to_tell(&pods, "ab", later(60)), [("edge-0".to_owned(), Told::Never)]);
        telling.settle(&[], "ab", later(1), later(1));
        assert!(telling.tried.is_empty(), "nothing is kept of a pod that has gone");
    }

    #[test]
    fn what_an_operator_before_told_once_is_told_for_the_second_time() {
        let (mut telling, now) = (Telling::default(), Instant::now());
        let pods = [seen("7", Some("ab"))];
        assert_eq!(telling.to_tell(&pods, "ab", now), []);
        telling.settle(&pods, "ab", now, now);
        assert_eq!(telling.more_in(now), Some(TOLD_AGAIN_AFTER));
        assert_eq!(telling.to_tell(&pods, "ab", now + TOLD_AGAIN_AFTER), [("edge-0".to_owned(), Told::Once)]);
    }
}
