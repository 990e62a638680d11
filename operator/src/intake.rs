//! One store that several watches fill, each with what is in its own place.
//!
//! A list that begins anew stands for a gap in the watch. A store of `kube` is emptied then, which would take what the
//! other places told with it: so here what a list does not name any more is found out, and deleted one by one. By that
//! also what was deleted in a gap has its event.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::{Lookup, Store, store::Writer};
use kube::runtime::watcher::Event;

use crate::scope::Place;

/// Namespace and name; a store holds one kind.
type Key = (String, String);

/// A store, and how often something went from it.
pub(crate) struct Filled<K>
where
    K: Lookup + 'static,
    K::DynamicType: Eq + Hash,
{
    pub(crate) store: Store<K>,
    deletions: Arc<AtomicU64>,
}

impl<K> Filled<K>
where
    K: Lookup + 'static,
    K::DynamicType: Eq + Hash,
{
    /// Another number after each deletion: by it, what was not there and is not there can be told from what came and
    /// went meanwhile.
    pub(crate) fn deletions(&self) -> u64 {
        self.deletions.load(Ordering::SeqCst)
    }
}

/// Where several watches write. Clones share it.
#[derive(Clone)]
pub(crate) struct Shared<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    writer: Arc<Mutex<Writer<K>>>,
    store: Store<K>,
    deletions: Arc<AtomicU64>,
}

impl<K> Shared<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    pub(crate) fn new(mut writer: Writer<K>) -> Self {
        // A controller does not begin before its store says that it is filled. What is known is up to `Lists`.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let store = writer.as_reader();
        Self { writer: Arc::new(Mutex::new(writer)), store, deletions: Arc::default() }
    }

    pub(crate) fn filled(&self) -> Filled<K> {
        Filled { store: self.store.clone(), deletions: Arc::clone(&self.deletions) }
    }

    /// What takes the events of the watch of one place.
    pub(crate) fn intake(&self, place: Place) -> Intake<K> {
        Intake { shared: self.clone(), place, listed: HashSet::new() }
    }

    fn write(&self, event: &Event<K>) {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).apply_watcher_event(event);
        if matches!(event, Event::Delete(_)) {
            self.deletions.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What takes the events of one watch.
pub(crate) struct Intake<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    shared: Shared<K>,
    place: Place,
    /// What the list that is being told has named so far.
    listed: HashSet<Key>,
}

impl<K> Intake<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// Takes an event, and returns the objects that something happened to.
    pub(crate) fn take(&mut self, event: Event<K>) -> Vec<K> {
        let event = match event {
            Event::Init => {
                self.listed.clear();
                return Vec::new();
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                Event::Apply(object)
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                return self.delete_all_but(&listed);
            }
            event => event,
        };
        self.shared.write(&event);
        match event {
            Event::Apply(object) | Event::Delete(object) => vec![object],
            _ => Vec::new(),
        }
    }

    fn delete_all_but(&self, listed: &HashSet<Key>) -> Vec<K> {
        let is_gone =
            |object: &K| self.place.covers(object.namespace().as_deref()) && !listed.contains(&key(object));
        let gone = self.shared.store.state_filter(is_gone);
        let gone: Vec<K> = gone.iter().map(|object| (**object).clone()).collect();
        for object in &gone {
            self.shared.write(&Event::Delete(object.clone()));
        }
        gone
    }
}

fn key(object: &impl Lookup) -> Key {
    (object.namespace().unwrap_or_default().into_owned(), object.name().unwrap_or_default().into_owned())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use serde_json::json;

    use super::*;

    fn map(namespace: &str, name: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name}})).unwrap()
    }

    fn names(objects: impl IntoIterator<Item = ConfigMap>) -> Vec<String> {
        let mut names: Vec<_> = objects.into_iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    }

    fn all(shared: &Shared<ConfigMap>) -> Vec<String> {
        names(shared.store.state().iter().map(|object| (**object).clone()))
    }

    fn list(intake: &mut Intake<ConfigMap>, objects: &[ConfigMap]) -> Vec<String> {
        let mut told = intake.take(Event::Init);
        for object in objects {
            told.extend(intake.take(Event::InitApply(object.clone())));
        }
        told.extend(intake.take(Event::InitDone));
        names(told)
    }

    #[tokio::test]
    async fn a_list_that_begins_anew_takes_nothing_of_another_place() {
        let shared = Shared::<ConfigMap>::new(Writer::default());
        shared.store.wait_until_ready().await.unwrap();
        let mut a = shared.intake(Place::Namespace("a".to_owned()));
        let mut b = shared.intake(Place::Namespace("b".to_owned()));
        assert_eq!(list(&mut a, &[map("a", "a1"), map("a", "a2")]), ["a1", "a2"]);
        assert_eq!(list(&mut b, &[map("b", "b1")]), ["b1"]);
        assert_eq!(all(&shared), ["a1", "a2", "b1"]);

        // While the connection was lost a1 was deleted, and a3 made.
        assert_eq!(list(&mut a, &[map("a", "a2"), map("a", "a3")]), ["a1", "a2", "a3"]);
        assert_eq!(all(&shared), ["a2", "a3", "b1"]);

        let before = shared.filled().deletions();
        assert_eq!(names(a.take(Event::Delete(map("a", "a2")))), ["a2"]);
        assert_ne!(shared.filled().deletions(), before);
        assert_eq!(names(b.take(Event::Apply(map("b", "b2")))), ["b2"]);
        assert_eq!(all(&shared), ["a3", "b1", "b2"]);
    }

    #[test]
    fn a_list_that_was_cut_off_deletes_nothing() {
        let shared = Shared::<ConfigMap>::new(Writer::default());
        let mut all_of_it = shared.intake(Place::Cluster);
        list(&mut all_of_it, &[map("a", "one"), map("b", "two")]);
        all_of_it.take(Event::Init);
        all_of_it.take(Event::InitApply(map("a", "one")));
        all_of_it.take(Event::Init);
        assert_eq!(all(&shared), ["one", "two"]);
        assert_eq!(list(&mut all_of_it, &[map("b", "two")]), ["one", "two"]);
        assert_eq!(all(&shared), ["two"]);
    }
}
