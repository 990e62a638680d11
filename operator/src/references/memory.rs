//! What was read of objects, by the version that they had.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Holder;
use crate::caches::Caches;

/// An object by kind, namespace and name.
pub(crate) type Object = (Holder, String, String);

/// How many objects are remembered before it is worth to look for those that are gone.
const KNOWN_MIN: usize = 64;

/// Objects that somebody refers to or did.
pub(crate) struct Memory<V>(Mutex<Remembered<V>>);

struct Remembered<V> {
    known: HashMap<Object, (String, Arc<V>)>,
    /// How many there were when those that are gone were dropped last.
    swept: usize,
}

impl<V> Default for Memory<V> {
    fn default() -> Self {
        Self(Mutex::new(Remembered { known: HashMap::new(), swept: 0 }))
    }
}

impl<V> Memory<V> {
    fn remembered(&self) -> MutexGuard<'_, Remembered<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read of an object in this version.
    pub(crate) fn find(&self, object: &Object, version: &str) -> Option<Arc<V>> {
        let memory = self.remembered();
        memory.known.get(object).filter(|(of, _)| of == version).map(|(_, value)| Arc::clone(value))
    }

    /// Remembers an object. Each time that there are twice as many, those that are gone are dropped: where nobody refers
    /// to one any more, nothing else does.
    pub(crate) fn remember(&self, caches: &Caches, object: Object, version: String, value: &Arc<V>) {
        let mut memory = self.remembered();
        memory.known.insert(object, (version, Arc::clone(value)));
        if memory.known.len() > 2 * memory.swept.max(KNOWN_MIN) {
            memory
                .known
                .retain(|(holder, namespace, name), _| caches.version(*holder, namespace, name).is_some());
            memory.swept = memory.known.len();
        }
    }

    /// Drops an object that is gone.
    pub(crate) fn forget(&self, object: &Object) {
        self.remembered().known.remove(object);
    }
}
