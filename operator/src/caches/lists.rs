//! Which watches have told what there is. Until all of a place have, nothing in it can be decided: what is not known
//! cannot be told from what is not there. One place that cannot be read holds up no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::scope::Place;

/// How many watches of each place have not told yet what there is. Clones share the numbers.
#[derive(Clone, Default)]
pub struct Lists(Arc<Mutex<BTreeMap<Place, usize>>>);

impl Lists {
    fn missing(&self) -> MutexGuard<'_, BTreeMap<Place, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another watch of a place begins.
    pub(crate) fn expect_one_more(&self, place: &Place) {
        *self.missing().entry(place.clone()).or_default() += 1;
    }

    /// A watch has told what there is; whether it was the last one of its place.
    pub(crate) fn one_more_is_there(&self, place: &Place) -> bool {
        let mut missing = self.missing();
        let Some(number) = missing.get_mut(place) else { return false };
        *number = number.saturating_sub(1);
        *number == 0
    }

    /// Whether all is known that there is in a namespace.
    pub fn are_complete(&self, namespace: Option<&str>) -> bool {
        self.missing().iter().filter(|(place, _)| place.covers(namespace)).all(|(_, number)| *number == 0)
    }

    /// The places of which not all is known.
    pub fn incomplete(&self) -> Vec<Place> {
        self.missing().iter().filter(|(_, number)| **number > 0).map(|(place, _)| place.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_read_holds_up_no_other() {
        let [a, b] = ["a", "b"].map(|name| Place::Namespace(name.to_owned()));
        let lists = Lists::default();
        for place in [&a, &a, &b] {
            lists.expect_one_more(place);
        }
        assert!(!lists.one_more_is_there(&a));
        assert!(!lists.are_complete(Some("a")));
        assert!(lists.one_more_is_there(&a));
        assert!(lists.are_complete(Some("a")) && !lists.are_complete(Some("b")));
        assert_eq!(lists.incomplete(), std::slice::from_ref(&b));
        assert!(lists.one_more_is_there(&b));
        assert_eq!(lists.incomplete(), []);
    }

    #[test]
    fn the_cluster_is_one_place_for_all_namespaces() {
        let lists = Lists::default();
        lists.expect_one_more(&Place::Cluster);
        assert!(!lists.are_complete(Some("a")));
        lists.one_more_is_there(&Place::Cluster);
        assert!(lists.are_complete(Some("a")));
    }
}
