//! What was written, until the watch tells of it. Pure but for the lock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::caches::Mark;
use crate::kinds::Kind;
use crate::resources::labels::INSTANCE;
use crate::version::is_older;

/// An object by kind, namespace and name.
pub(super) type Key = (Kind, String, String);

/// How long an object that was written is taken for the present one while the cache does not move. A watch
/// is seldom a second late; after this a look at the cluster costs less than being wrong for ever.
const TRUSTED: Duration = Duration::from_secs(60);

/// Objects that were written.
#[derive(Default)]
pub(super) struct Written(Mutex<HashMap<Key, Entry>>);

struct Entry {
    /// What was cached before the write.
    before: Mark,
    live: DynamicObject,
    at: Instant,
}

impl Entry {
    /// Whether what is cached now was so before the write.
    fn is_newer_than(&self, cached: &Mark) -> bool {
        match (cached, self.live.resource_version()) {
            (cached, _) if *cached == self.before => true,
            // The watch may be several writes late.
            (Mark::At(Some(cached)), Some(written)) => is_older(cached, &written),
            _ => false,
        }
    }
}

impl Written {
    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The object as it was written, if that is newer than what is cached now.
    pub(super) fn newer_than(&self, cached: &Mark, key: &Key, now: Instant) -> Option<DynamicObject> {
        let mut entries = self.entries();
        let entry = entries.get(key)?;
        if entry.is_newer_than(cached) && now.saturating_duration_since(entry.at) < TRUSTED {
            return Some(entry.live.clone());
        }
        entries.remove(key);
        None
    }

    /// Remembers what was written when `before` was cached.
    pub(super) fn remember(&self, key: Key, before: Mark, live: &DynamicObject, now: Instant) {
        self.entries().insert(key, Entry { before, live: live.clone(), at: now });
    }

    /// Drops what is remembered of an object.
    pub(super) fn remove(&self, key: &Key) {
        self.entries().remove(key);
    }

    /// Drops what is remembered of the objects of a resource.
    pub(super) fn forget(&self, namespace: &str, instance: &str) {
        self.entries().retain(|key, entry| key.1 != namespace || !is_of(entry, instance));
    }

    /// The names of the objects of a kind that are a resource's.
    pub(super) fn labelled(&self, kind: Kind, namespace: &str, instance: &str) -> Vec<String> {
        let entries = self.entries();
        let its = entries
            .iter()
            .filter(|(key, entry)| key.0 == kind && key.1 == namespace && is_of(entry, instance));
        its.map(|(key, _)| key.2.clone()).collect()
    }
}

fn is_of(entry: &Entry, instance: &str) -> bool {
    entry.live.labels().get(INSTANCE).map(String::as_str) == Some(instance)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(version: &str) -> DynamicObject {
        let labels = json!({INSTANCE: "edge"});
        let metadata =
            json!({"name": "a", "namespace": "mail", "resourceVersion": version, "labels": labels});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn at(version: &str) -> Mark {
        Mark::At(Some(version.to_owned()))
    }

    /// What is taken for the present version `after_s` seconds after `written` was, when `before` was cached then and `cached`
    /// is now.
    fn present(before: Mark, written: &str, cached: &Mark, after_s: u64) -> Option<String> {
        let (memory, now) = (Written::default(), Instant::now());
        let key = (Kind::Secret, "mail".to_owned(), "a".to_owned());
        memory.remember(key.clone(), before, &object(written), now);
        let found = memory.newer_than(cached, &key, now + Duration::from_secs(after_s));
        let again = memory.newer_than(cached, &key, now);
        assert_eq!(found.is_some(), again.is_some(), "what is older than the cache is not kept");
        found?.resource_version()
    }

    #[test]
    fn what_was_written_is_the_present_until_the_watch_has_caught_up() {
        let eleven = Some("11".to_owned());
        assert_eq!(present(at("9"), "11", &at("9"), 0), eleven);
        assert_eq!(present(at("9"), "11", &at("10"), 0), eleven, "the watch tells of an earlier write");
        assert_eq!(present(at("9"), "11", &at("11"), 0), None);
        assert_eq!(present(at("9"), "11", &at("100"), 0), None, "somebody has written since");
        assert_eq!(present(at("9"), "11", &at("9"), 60), None, "a watch that has ended tells nothing");
        let absent = |deletions| Mark::Absent { deletions };
        assert_eq!(present(absent(1), "11", &absent(1), 0), eleven);
        assert_eq!(present(absent(1), "11", &absent(2), 0), None, "it may have come and gone");
        assert_eq!(present(absent(1), "11", &at("10"), 0), eleven);
        assert_eq!(present(at("9"), "11", &absent(2), 0), None, "it was deleted");
        assert_eq!(present(at("9"), "b", &at("a"), 0), None, "versions without an order");
    }

    #[test]
    fn what_a_resource_has_is_found_and_forgotten_by_its_name() {
        let (memory, now) = (Written::default(), Instant::now());
        let key = (Kind::Secret, "mail".to_owned(), "a".to_owned());
        memory.remember(key, at("9"), &object("11"), now);
        assert_eq!(memory.labelled(Kind::Secret, "mail", "edge"), ["a"]);
        for (kind, namespace, instance) in
            [(Kind::Job, "mail", "edge"), (Kind::Secret, "team", "edge"), (Kind::Secret, "mail", "inbox")]
        {
            assert!(memory.labelled(kind, namespace, instance).is_empty());
        }
        memory.forget("team", "edge");
        memory.forget("mail", "inbox");
        assert_eq!(memory.labelled(Kind::Secret, "mail", "edge"), ["a"]);
        memory.forget("mail", "edge");
        assert!(memory.labelled(Kind::Secret, "mail", "edge").is_empty());
    }
}
