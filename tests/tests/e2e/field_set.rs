//! Which fields of an object the operator set, as the API server keeps it: `metadata.managedFields`.

use std::fmt;

use serde_json::{Map, Value};

const MANAGER: &str = "mail-laser-operator";

#[derive(Clone, Debug, PartialEq)]
enum Step {
    /// A field of an object.
    Field(String),
    /// The item of a list that has these values.
    Item(Map<String, Value>),
}

/// The way to a field, which holds also when the items of a list change places.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Path(Vec<Step>);

impl Path {
    /// Where it is in an object, as a JSON pointer.
    pub(crate) fn pointer(&self, object: &Value) -> Option<String> {
        let (mut pointer, mut place) = (String::new(), object);
        for step in &self.0 {
            match step {
                Step::Field(name) => {
                    place = place.get(name)?;
                    pointer += &format!("/{}", name.replace('~', "~0").replace('/', "~1"));
                }
                Step::Item(keys) => {
                    let items = place.as_array()?;
                    let has_all = |item: &Value| keys.iter().all(|(key, value)| item.get(key) == Some(value));
                    let index = items.iter().position(has_all)?;
                    place = &items[index];
                    pointer += &format!("/{index}");
                }
            }
        }
        Some(pointer)
    }

    /// What is there.
    pub(crate) fn find<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        object.pointer(&self.pointer(object)?)
    }

    /// Whether it is one of the fields by which the items of its list are told apart: with another value it would be
    /// another item.
    pub(crate) fn is_key(&self) -> bool {
        match self.0.as_slice() {
            [.., Step::Item(keys), Step::Field(name)] => keys.contains_key(name),
            [.., Step::Item(_)] => true,
            _ => false,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| match step {
            Step::Field(name) => write!(f, "/{name}"),
            Step::Item(keys) => write!(f, "/{}", Value::Object(keys.clone())),
        })
    }
}

/// The fields that the operator set, and the items of lists.
pub(crate) fn owned_paths(object: &Value) -> Vec<Path> {
    let mut paths = Vec::new();
    let entries = object["metadata"]["managedFields"].as_array();
    let ours = entries.into_iter().flatten().filter(|entry| {
        entry["manager"] == MANAGER && entry["subresource"].as_str().unwrap_or_default().is_empty()
    });
    for entry in ours {
        collect(&mut Vec::new(), &entry["fieldsV1"], &mut paths);
    }
    paths
}

fn collect(path: &mut Vec<Step>, fields: &Value, all: &mut Vec<Path>) {
    let inner = fields.as_object().into_iter().flatten().filter(|(name, _)| *name != ".");
    let mut is_leaf = true;
    for (name, fields) in inner {
        let step = match name.split_once(':') {
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", keys)) => match serde_json::from_str(keys) {
                Ok(keys) => Step::Item(keys),
                Err(_) => continue,
            },
            // A member of a set is its own value, and comes with the list.
            _ => continue,
        };
        is_leaf = false;
        path.push(step);
        collect(path, fields, all);
        path.pop();
    }
    // The operator may have set a field in two ways, and then has it twice.
    let is_new = !all.iter().any(|known| known.0 == *path);
    if is_new && !path.is_empty() && (is_leaf || matches!(path.last(), Some(Step::Item(_)))) {
        all.push(Path(path.clone()));
    }
}

/// Whether what is there is what was set: others may have added fields and items.
pub(crate) fn in_force(found: &Value, set: &Value) -> bool {
    match (found, set) {
        (Value::Object(found), Value::Object(set)) => {
            set.iter().all(|(name, value)| found.get(name).is_some_and(|found| in_force(found, value)))
        }
        (Value::Array(found), Value::Array(set)) => {
            set.iter().all(|value| found.iter().any(|found| in_force(found, value)))
        }
        (found, set) => found == set,
    }
}
