//! Objects by what they have, so that nobody looks at all of them to find a few.

use std::collections::BTreeSet;
use std::sync::{PoisonError, RwLock};

use kube::runtime::reflector::Lookup;

/// What objects are found by: a label and its value, or a kind and the name of what they refer to, in a namespace, which
/// mostly is theirs.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Term {
    namespace: String,
    attribute: &'static str,
    value: String,
}

impl Term {
    pub(crate) fn new(namespace: &str, attribute: &'static str, value: &str) -> Self {
        Self { namespace: namespace.to_owned(), attribute, value: value.to_owned() }
    }
}

/// The names of objects by the terms that these have.
pub(crate) struct Index<K> {
    terms: fn(&K) -> Vec<Term>,
    /// One tree, in which the names of a term are neighbours: a list for each term would take more memory than the
    /// names.
    names: RwLock<BTreeSet<(Term, String)>>,
}

impl<K: Lookup> Index<K> {
    /// One of no objects; `terms` says what an object has.
    pub(crate) fn new(terms: fn(&K) -> Vec<Term>) -> Self {
        Self { terms, names: RwLock::default() }
    }

    /// Namespaces and names of those objects that had a term when they were written.
    pub(crate) fn names(&self, term: &Term) -> Vec<(String, String)> {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        let first = (term.clone(), String::new());
        let names = names.range(first..).take_while(|(of, _)| of == term).map(|(_, name)| name);
        let whole = |name: &String| match name.split_once('/') {
            Some((namespace, name)) => (namespace.to_owned(), name.to_owned()),
            None => (term.namespace.clone(), name.clone()),
        };
        names.map(whole).collect()
    }

    /// Whether an object has a term.
    pub(crate) fn has(&self, object: &K, term: &Term) -> bool {
        (self.terms)(object).contains(term)
    }

    pub(crate) fn add(&self, object: &K) {
        let entries = self.entries(object);
        self.names.write().unwrap_or_else(PoisonError::into_inner).extend(entries);
    }

    /// Takes an object out, as far as what took its place has no such term.
    pub(crate) fn remove(&self, object: &K, successor: Option<&K>) {
        let stay = successor.map(|successor| self.entries(successor)).unwrap_or_default();
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for entry in self.entries(object).iter().filter(|entry| !stay.contains(entry)) {
            names.remove(entry);
        }
    }

    fn entries(&self, object: &K) -> Vec<(Term, String)> {
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name().unwrap_or_default());
        let named = |term: Term| {
            // No name has a slash.
            let is_same = term.namespace == namespace;
            let name = if is_same { name.clone().into_owned() } else { format!("{namespace}/{name}") };
            (term, name)
        };
        (self.terms)(object).into_iter().map(named).collect()
    }
}
