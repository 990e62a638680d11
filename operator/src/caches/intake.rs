//! One store that several watches fill, each with what is in its own place.
//!
//! A list that begins anew stands for a gap in the watch. A store of `kube` is emptied then, which would take what the
//! other places told with it: so here what a list does not name any more is found out, and deleted one by one. By that
//! also what was deleted in a gap has its event.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kube::runtime::reflector::{Lookup, ObjectRef, Store, store::Writer};
use kube::runtime::watcher::Event;

use super::index::{Index, Term};
use crate::scope::Place;

/// Namespace and name; a store holds one kind.
type Key = (String, String);

/// A store, what is found in it by something else than its name, and how often something went from it.
#[derive(Clone)]
pub(crate) struct Filled<K>
where
    K: Lookup + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    pub(crate) store: Store<K>,
    dynamic_type: K::DynamicType,
    index: Arc<Index<K>>,
    deletions: Arc<AtomicU64>,
}

impl<K> Filled<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// An object by its name.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.store.get(&ObjectRef::new_with(name, self.dynamic_type.clone()).within(namespace))
    }

    /// The objects that have a term, by name.
    pub(crate) fn having(&self, term: &Term) -> Vec<Arc<K>> {
        let names = self.index.names(term);
        let found = names.iter().filter_map(|(namespace, name)| self.get(namespace, name));
        // It may have changed between the two looks.
        found.filter(|object| self.index.has(object, term)).collect()
    }

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
    filled: Filled<K>,
}

impl<K> Shared<K>
where
    K: Lookup + Clone + 'static,
    K::DynamicType: Eq + Hash + Clone,
{
    /// One that is empty; `terms` says what its objects are to be found by.
    pub(crate) fn new(dynamic_type: K::DynamicType, terms: fn(&K) -> Vec<Term>) -> Self {
        let mut writer = Writer::new(dynamic_type.clone());
        // A controller does not begin before its store says that it is filled. What is known is up to `Lists`.
        writer.apply_watcher_event(&Event::Init);
        writer.apply_watcher_event(&Event::InitDone);
        let store = writer.as_reader();
        let index = Arc::new(Index::new(terms));
        let filled = Filled { store, dynamic_type, index, deletions: Arc::default() };
        Self { writer: Arc::new(Mutex::new(writer)), filled }
    }

    pub(crate) fn filled(&self) -> Filled<K> {
        self.filled.clone()
    }

    /// What takes the events of the watch of one place.
    pub(crate) fn intake(&self, place: Place) -> Intake<K> {
        Intake { shared: self.clone(), place, listed: HashSet::new() }
    }

    fn write(&self, event: &Event<K>) {
        let Filled { store, dynamic_type, index, deletions } = &self.filled;
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (Event::Apply(object) | Event::Delete(object)) = event else { return };
        let before = store.get(&object.to_object_ref(dynamic_type.clone()));
        let after = matches!(event, Event::Apply(_)).then_some(object);
        // In this order nobody who looks meanwhile misses what is there before and after.
        after.inspect(|after| index.add(after));
        writer.apply_watcher_event(event);
        before.inspect(|before| index.remove(before, after));
        if after.is_none() {
            deletions.fetch_add(1, Ordering::SeqCst);
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
        let gone = self.shared.filled.store.state_filter(is_gone);
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
    use std::collections::BTreeSet;

    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt;
    use proptest::prelude::*;
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
        names(shared.filled.store.state().iter().map(|object| (**object).clone()))
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
        let shared = Shared::<ConfigMap>::new((), |_| Vec::new());
        shared.filled.store.wait_until_ready().await.unwrap();
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
        let shared = Shared::<ConfigMap>::new((), |_| Vec::new());
        let mut all_of_it = shared.intake(Place::Cluster);
        list(&mut all_of_it, &[map("a", "one"), map("b", "two")]);
        all_of_it.take(Event::Init);
        all_of_it.take(Event::InitApply(map("a", "one")));
        all_of_it.take(Event::Init);
        assert_eq!(all(&shared), ["one", "two"]);
        assert_eq!(list(&mut all_of_it, &[map("b", "two")]), ["one", "two"]);
        assert_eq!(all(&shared), ["two"]);
    }

    const COLOURS: [&str; 3] = ["red", "green", "blue"];

    /// What a map is found by: the colours that it has for keys.
    fn colours(map: &ConfigMap) -> Vec<Term> {
        let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
        let of = |key: &String| COLOURS.into_iter().find(|colour| key == colour);
        map.data
            .iter()
            .flatten()
            .filter_map(|(key, _)| Some(Term::new(namespace, "colour", of(key)?)))
            .collect()
    }

    #[derive(Clone, Debug)]
    enum Happening {
        /// A list is told from the begin on, to its end or not.
        List(Vec<ConfigMap>, bool),
        Apply(ConfigMap),
        Delete(ConfigMap),
    }

    fn coloured(namespace: &'static str) -> impl Strategy<Value = ConfigMap> {
        let colours = proptest::sample::subsequence(COLOURS.to_vec(), 0..=COLOURS.len());
        (0..4_u8, colours).prop_map(move |(number, colours)| {
            let mut map = map(namespace, &number.to_string());
            map.data = Some(colours.into_iter().map(|colour| (colour.to_owned(), String::new())).collect());
            map
        })
    }

    fn happening(namespace: &'static str) -> impl Strategy<Value = (&'static str, Happening)> {
        let list = (proptest::collection::vec(coloured(namespace), 0..4), any::<bool>());
        let happening = prop_oneof![
            1 => list.prop_map(|(maps, ends)| Happening::List(maps, ends)),
            4 => coloured(namespace).prop_map(Happening::Apply),
            2 => coloured(namespace).prop_map(Happening::Delete),
        ];
        happening.prop_map(move |happening| (namespace, happening))
    }

    proptest! {
        #[test]
        fn what_is_found_by_a_term_is_what_looking_at_all_finds(
            happenings in proptest::collection::vec(prop_oneof![happening("a"), happening("b")], 0..40),
        ) {
            let shared = Shared::<ConfigMap>::new((), colours);
            let filled = shared.filled();
            let place = |namespace: &str| shared.intake(Place::Namespace(namespace.to_owned()));
            let (mut a, mut b) = (place("a"), place("b"));
            for (namespace, happening) in happenings {
                let intake = if namespace == "a" { &mut a } else { &mut b };
                match happening {
                    Happening::List(maps, ends) => {
                        intake.take(Event::Init);
                        for map in maps {
                            intake.take(Event::InitApply(map));
                        }
                        if ends {
                            intake.take(Event::InitDone);
                        }
                    }
                    Happening::Apply(map) => drop(intake.take(Event::Apply(map))),
                    Happening::Delete(map) => drop(intake.take(Event::Delete(map))),
                }
                for (namespace, colour) in ["a", "b"].into_iter().flat_map(|it| COLOURS.map(|colour| (it, colour))) {
                    let term = Term::new(namespace, "colour", colour);
                    let found: Vec<_> = filled.having(&term).iter().map(|map| map.name_any()).collect();
                    let all = filled.store.state_filter(|map| colours(map).contains(&term));
                    let all: BTreeSet<_> = all.iter().map(|map| map.name_any()).collect();
                    prop_assert_eq!(found, Vec::from_iter(all), "{} in {}", colour, namespace);
                    // Nothing is kept of what is gone.
                    prop_assert_eq!(filled.index.names(&term).len(), filled.having(&term).len());
                }
            }
        }
    }
}
