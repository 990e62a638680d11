//! Whether an object has to be written: pure comparisons of what is sent with what is there.
//!
//! Two questions, because server-side apply has two effects. [`changed`]: is a field that is sent not there,
//! or different? [`dropped`]: does the field set of this operator hold a field that is no longer sent, which
//! an apply would remove? When both answers are no, an apply would change nothing and is not made.
//!
//! What others add (annotations, sidecars, fields that the API server fills in) is left alone.

use serde_json::{Map, Value};

use crate::quantity;

/// The path of the first field of `sent` that `live` does not have, or has otherwise.
///
/// Lists that the API merges by key are compared by key, and entries of others in them are tolerated; all
/// other lists must be equal. An empty value equals an absent one, as the API server drops those. Quantities
/// of resources are compared by value.
pub fn changed(sent: &Value, live: &Value) -> Option<String> {
    changed_at("", "", sent, Some(live))
}

fn changed_at(path: &str, field: &str, sent: &Value, live: Option<&Value>) -> Option<String> {
    let Some(live) = live else {
        return (!is_blank(sent)).then(|| path.to_owned());
    };
    match (sent, live) {
        (Value::Object(sent), Value::Object(live)) => sent
            .iter()
            .find_map(|(name, value)| {
                // Below `limits` and `requests` names are those of resources.
                let is_quantity = matches!(field, "limits" | "requests")
                    || matches!(&**name, "averageValue" | "divisor" | "sizeLimit");
                if is_quantity && same_quantity(value, live.get(name)) {
                    return None;
                }
                changed_at(&format!("{path}.{name}"), name, value, live.get(name))
            })
            .or_else(|| {
                let added = |(name, value): &(&String, &Value)| !sent.contains_key(*name) && !is_blank(value);
                let (name, _) = live.iter().filter(|_| is_whole(field)).find(added)?;
                Some(format!("{path}.{name}"))
            }),
        (Value::Array(sent), Value::Array(live)) => match merge_keys(field) {
            Some(keys) => sent.iter().find_map(|item| {
                let matching = live.iter().find(|candidate| same_keys(keys, item, candidate));
                changed_at(&format!("{path}[{}]", label(keys, item)), "", item, matching)
            }),
            // Nobody else can have a part in these: what is in one is ours to take out as well.
            None if matches!(field, "egress" | "ingress" | "metrics" | "policies")
                && sent.len() == live.len() =>
            {
                let item = |index: usize| format!("{path}[{index}]");
                let mut pairs = sent.iter().zip(live).enumerate();
                pairs.find_map(|(index, (sent, live))| {
                    changed_at(&item(index), "", sent, Some(live))
                        .or_else(|| changed_at(&item(index), "", live, Some(sent)))
                })
            }
            // Of two families where one is asked for the cluster chose the second.
            None if field == "ipFamilies" && live.starts_with(sent) => None,
            None if sent.len() != live.len() => Some(path.to_owned()),
            None => sent.iter().zip(live).enumerate().find_map(|(index, (sent, live))| {
                changed_at(&format!("{path}[{index}]"), "", sent, Some(live))
            }),
        },
        _ => (sent != live && !(is_blank(sent) && is_blank(live))).then(|| path.to_owned()),
    }
}

fn same_quantity(sent: &Value, live: Option<&Value>) -> bool {
    matches!((sent.as_str(), live.and_then(Value::as_str)), (Some(a), Some(b)) if quantity::equal(a, b))
}

/// What the API server does not store. `false` is not among them: it is stored wherever the operator sends
/// it, and its absence means true there.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(_) => false,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_blank),
    }
}

/// Whether an object belongs as a whole to who writes it, which the API calls atomic: what somebody has added is ours to
/// take out, as a label that no pod has leaves a Service without pods.
fn is_whole(field: &str) -> bool {
    matches!(field, "matchLabels" | "nodeSelector" | "podSelector" | "selector")
}

/// By which fields the API merges the items of a list, of those lists that the operator sends. Of several
/// the items have at least the first.
fn merge_keys(field: &str) -> Option<&'static [&'static str]> {
    Some(match field {
        "containers" | "env" | "groups" | "imagePullSecrets" | "initContainers" | "volumes" => &["name"],
        "ownerReferences" => &["uid"],
        "ports" => &["containerPort", "port", "protocol"],
        "topologySpreadConstraints" => &["topologyKey", "whenUnsatisfiable"],
        "volumeMounts" => &["mountPath"],
        _ => return None,
    })
}

fn same_keys(keys: &[&str], a: &Value, b: &Value) -> bool {
    keys.iter().all(|key| match (a.get(key), b.get(key)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => true,
        _ => false,
    })
}

fn label(keys: &[&str], item: &Value) -> String {
    keys.iter()
        .find_map(|key| item.get(key))
        .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        .unwrap_or_default()
}

/// The path of the first field in `owned`, a `fieldsV1`, that `sent` does not have.
pub fn dropped(owned: &Value, sent: &Value) -> Option<String> {
    owned.as_object().and_then(|fields| dropped_at("", fields, sent))
}

fn dropped_at(path: &str, fields: &Map<String, Value>, sent: &Value) -> Option<String> {
    fields.iter().find_map(|(entry, inner)| {
        let (path, value) = match entry.split_once(':') {
            Some(("f", name)) => (format!("{path}.{name}"), sent.get(name)),
            Some(("k", keys)) => (format!("{path}[{keys}]"), item_with(sent, keys)),
            Some(("v", text)) => (format!("{path}[{text}]"), item_equal_to(sent, text)),
            // "." stands for the field itself, and "i:" for a position in a list that is owned as a whole.
            _ => return None,
        };
        match (value, inner.as_object()) {
            (None, _) => Some(path),
            (Some(value), Some(inner)) => dropped_at(&path, inner, value),
            (Some(_), None) => None,
        }
    })
}

fn item_with<'a>(list: &'a Value, keys: &str) -> Option<&'a Value> {
    let keys: Map<String, Value> = serde_json::from_str(keys).ok()?;
    list.as_array()?.iter().find(|item| keys.iter().all(|(key, value)| item.get(key) == Some(value)))
}

fn item_equal_to<'a>(list: &'a Value, text: &str) -> Option<&'a Value> {
    let value: Value = serde_json::from_str(text).ok()?;
    list.as_array()?.iter().find(|item| **item == value)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::needless_pass_by_value)] // JSON literals read better by value.

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(sent: Value, live: Value, expected: Option<&str>) {
        assert_eq!(changed(&sent, &live).as_deref(), expected, "sent {sent}, live {live}");
    }

    #[test]
    fn what_is_there_needs_no_write() {
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 1, "c": 2}, "d": 3}), None);
    }

    #[test]
    fn a_different_or_missing_field_does() {
        check(json!({"a": {"b": 1}}), json!({"a": {"b": 2}}), Some(".a.b"));
        check(json!({"a": {"b": 1}}), json!({"a": {}}), Some(".a.b"));
        check(json!({"a": {"b": 1}}), json!({}), Some(".a"));
        check(json!({"a": "1"}), json!({"a": 1}), Some(".a"));
    }

    #[test]
    fn blank_equals_absent_but_false_does_not() {
        for blank in [json!(null), json!(""), json!(0), json!([]), json!({}), json!({"x": {"y": []}})] {
            check(json!({ "a": blank }), json!({}), None);
        }
        check(json!({"a": false}), json!({}), Some(".a"));
        check(json!({"a": 0}), json!({"a": 5}), Some(".a"));
        check(json!({"a": ""}), json!({"a": "x"}), Some(".a"));
    }

    #[test]
    fn quantities_are_compared_by_value_and_other_text_is_not() {
        let resources = |cpu: &str| json!({"resources": {"limits": {"cpu": cpu}}});
        check(resources("1000m"), resources("1"), None);
        check(resources("1000m"), resources("2"), Some(".resources.limits.cpu"));
        check(json!({"divisor": "1000m"}), json!({"divisor": "1"}), None);
        check(json!({"sizeLimit": "1024Mi"}), json!({"sizeLimit": "1Gi"}), None);
        check(json!({"image": "1000m"}), json!({"image": "1"}), Some(".image"));
    }

    #[test]
    fn lists_by_key_tolerate_order_and_additions() {
        let sent = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": ""}]});
        check(
            sent.clone(),
            json!({"env": [{"name": "X"}, {"name": "B"}, {"name": "A", "value": "1"}]}),
            None,
        );
        check(
            sent.clone(),
            json!({"env": [{"name": "A", "value": "2"}, {"name": "B"}]}),
            Some(".env[A].value"),
        );
        check(sent, json!({"env": [{"name": "A", "value": "1"}]}), Some(".env[B]"));
    }

    #[test]
    fn ports_of_containers_and_of_services_are_lists_by_key() {
        let port = |key: &str, port: u16, name: &str| json!({key: port, "protocol": "TCP", "name": name});
        for key in ["containerPort", "port"] {
            let sent = json!({"ports": [port(key, 25, "smtp")]});
            check(sent.clone(), json!({"ports": [port(key, 1, "x"), port(key, 25, "smtp")]}), None);
            check(sent.clone(), json!({"ports": [port(key, 26, "smtp")]}), Some(".ports[25]"));
            check(sent, json!({"ports": [port(key, 25, "x")]}), Some(".ports[25].name"));
        }
    }

    #[test]
    fn other_lists_must_be_equal() {
        check(json!({"drop": ["ALL"]}), json!({"drop": ["ALL", "X"]}), Some(".drop"));
        check(json!({"drop": ["ALL"]}), json!({"drop": ["X"]}), Some(".drop[0]"));
        check(
            json!({"tolerations": [{"key": "a"}]}),
            json!({"tolerations": [{"key": "a"}, {}]}),
            Some(".tolerations"),
        );
    }

    #[test]
    fn nobody_else_has_a_part_in_a_rule_of_a_network_policy() {
        let sent = json!({"ingress": [{"ports": [{"port": 1, "protocol": "TCP"}]}, {}]});
        check(sent.clone(), sent.clone(), None);
        let with = |pointer: &str, value: Value| {
            let mut live = sent.clone();
            *live.pointer_mut(pointer).unwrap() = value;
            live
        };
        let both = json!([{"port": 1, "protocol": "TCP"}, {"port": 2, "protocol": "TCP"}]);
        check(sent.clone(), with("/ingress/0/ports", both), Some(".ingress[0].ports[2]"));
        check(
            sent.clone(),
            with("/ingress/1", json!({"from": [{"podSelector": {}}]})),
            Some(".ingress[1].from"),
        );
    }

    #[test]
    fn what_is_added_to_a_selector_is_a_change() {
        for field in ["matchLabels", "nodeSelector", "podSelector", "selector"] {
            let selector = |labels: Value| json!({"spec": {field: labels}});
            let sent = selector(json!({"a": "1"}));
            check(sent.clone(), selector(json!({"a": "1", "empty": []})), None);
            let path = format!(".spec.{field}.version");
            check(sent, selector(json!({"a": "1", "version": "2"})), Some(&path));
        }
        let labels = |labels: Value| json!({"metadata": {"labels": labels}});
        check(labels(json!({"a": "1"})), labels(json!({"a": "1", "b": "2"})), None);
    }

    #[test]
    fn the_cluster_chooses_the_second_family_and_not_the_first() {
        let families = |families: &[&str]| json!({ "ipFamilies": families });
        check(families(&["IPv6"]), families(&["IPv6", "IPv4"]), None);
        check(families(&["IPv6"]), families(&["IPv4", "IPv6"]), Some(".ipFamilies"));
        check(families(&["IPv6", "IPv4"]), families(&["IPv6"]), Some(".ipFamilies"));
    }

    #[test]
    fn a_field_of_ours_that_is_no_longer_sent_is_found() {
        let owned = json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {
                "f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}}},
                "f:set": {"v:\"x\"": {}},
            },
        });
        let sent = json!({
            "metadata": {"labels": {"a": "1"}},
            "spec": {"containers": [{"name": "c", "image": "i"}], "set": ["x"]},
        });
        assert_eq!(dropped(&owned, &sent), None);
        for (pointer, path) in [
            ("/metadata/labels", ".metadata.labels.a"),
            ("/spec/containers/0", ".spec.containers[{\"name\":\"c\"}]"),
            ("/spec/set", ".spec.set[\"x\"]"),
        ] {
            let mut sent = sent.clone();
            *sent.pointer_mut(pointer).unwrap() = json!({});
            assert_eq!(dropped(&owned, &sent).as_deref(), Some(path));
        }
    }

    /// Field names with a meaning of their own among others without.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2_i64..3).prop_map(Value::from),
            "[a-z0-9]{0,3}".prop_map(Value::from),
        ];
        let field = prop_oneof![
            "[a-c]",
            Just("name".to_owned()),
            Just("env".to_owned()),
            Just("ports".to_owned()),
            Just("port".to_owned()),
            Just("limits".to_owned()),
        ];
        leaf.prop_recursive(4, 24, 4, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map(field.clone(), inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    /// Has each item of a list that is merged by key a key of its own, as the API demands.
    fn with_distinct_keys(value: Value) -> Value {
        match value {
            Value::Object(fields) => fields
                .into_iter()
                .map(|(field, value)| {
                    let mut value = with_distinct_keys(value);
                    if let (Some(keys), Some(items)) = (merge_keys(&field), value.as_array_mut()) {
                        for (index, item) in items.iter_mut().enumerate() {
                            *item = json!({ keys[0]: index, "value": item });
                        }
                    }
                    (field, value)
                })
                .collect(),
            Value::Array(items) => items.into_iter().map(with_distinct_keys).collect(),
            other => other,
        }
    }

    proptest! {
        #[test]
        fn an_object_needs_no_write_to_become_itself(value in json().prop_map(with_distinct_keys)) {
            prop_assert_eq!(changed(&value, &value), None);
        }

        #[test]
        fn what_others_add_is_left_alone(
            value in json().prop_map(with_distinct_keys), addition in json(),
        ) {
            let sent = json!({"spec": value});
            let mut live = sent.clone();
            live["status"] = addition.clone();
            live["metadata"] = json!({"annotations": addition});
            prop_assert_eq!(changed(&sent, &live), None);
        }

        #[test]
        fn another_value_needs_a_write(sent in "[a-z0-9]{1,3}", live in json()) {
            prop_assume!(live != sent.as_str());
            prop_assert_eq!(changed(&json!({"x": sent}), &json!({"x": live})), Some(".x".to_owned()));
        }
    }
}
