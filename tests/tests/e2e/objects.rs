//! Looking into objects.

use serde_json::Value;

/// Follows a JSON pointer, of which a step into a list may name an item by a field: `env/name=RUST_LOG`.
pub(crate) fn at<'a>(object: &'a Value, pointer: &str) -> Option<&'a Value> {
    pointer.split('/').skip(1).try_fold(object, |inner, step| {
        let step = step.replace("~1", "/").replace("~0", "~");
        match (inner, step.split_once('=')) {
            (Value::Array(items), Some((field, value))) => items.iter().find(|item| item[field] == value),
            (Value::Array(items), None) => items.get(step.parse::<usize>().ok()?),
            (inner, _) => inner.get(&step),
        }
    })
}

/// Whether all of `part` is in `whole`: objects may have more fields; lists must be equally long.
pub(crate) fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|found| contains(found, value)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(whole, part)| contains(whole, part))
        }
        (whole, part) => whole == part,
    }
}
