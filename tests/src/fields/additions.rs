//! Rows of what a resource may have beside the daemon: volumes, containers, and objects that come and go.

use serde_json::{Value, json};

use super::rows::{container, effect, key, pod, row, volume};
use super::{Effect, Row, merge};

/// Those that the cluster has all kinds for.
pub(super) fn additions() -> Vec<Row> {
    vec![
        autoscaling(),
        network_policy(),
        dashboard(),
        security_context(),
        runtime_class(),
        volumes(),
        containers(),
    ]
}

/// Those for which a cluster must have the kinds of the Prometheus Operator.
#[must_use]
pub fn rows_of_prometheus() -> Vec<Row> {
    let monitoring = |of: &str, value: Value| json!({"monitoring": {of: value}});
    vec![
        row(
            "monitoring.podMonitor",
            [11, 12].map(|seconds| {
                let labels = json!({"a": seconds.to_string()});
                let asked = json!({"enabled": true, "labels": labels, "intervalSeconds": seconds});
                let interval = format!("{seconds}s");
                let effects = vec![
                    effect("PodMonitor", "/metadata/labels", labels),
                    effect("PodMonitor", "/spec/podMetricsEndpoints/0/interval", json!(interval)),
                ];
                (monitoring("podMonitor", asked), effects)
            }),
        ),
        row(
            "monitoring.prometheusRule",
            ["1", "2"].map(|value| {
                let labels = json!({"a": value});
                let asked = json!({"enabled": true, "labels": labels});
                (
                    monitoring("prometheusRule", asked),
                    vec![effect("PrometheusRule", "/metadata/labels", labels)],
                )
            }),
        ),
    ]
}

fn autoscaling() -> Row {
    let kind = "HorizontalPodAutoscaler";
    row(
        "autoscaling",
        [2, 3].map(|number| {
            let metric = format!("metric_{number}");
            let change = json!({"autoscaling": {
                "minReplicas": number,
                "maxReplicas": number + 1,
                "targetCPUUtilizationPercentage": number + 2,
                "metrics": [{"name": metric, "targetAverageValue": (number + 3).to_string()}],
                "scaleDownStabilizationSeconds": number + 4,
            }});
            let effects = vec![
                effect(kind, "/spec/minReplicas", json!(number)),
                effect(kind, "/spec/maxReplicas", json!(number + 1)),
                effect(
                    kind,
                    "/spec/metrics/0/containerResource/target/averageUtilization",
                    json!(number + 2),
                ),
                effect(kind, "/spec/metrics/1/pods/metric/name", json!(metric)),
                effect(kind, "/spec/metrics/1/pods/target/averageValue", json!((number + 3).to_string())),
                effect(kind, "/spec/behavior/scaleDown/stabilizationWindowSeconds", json!(number + 4)),
            ];
            (change, effects)
        }),
    )
    // What the percentage is of.
    .on(json!({"resources": {"requests": {"cpu": "10m"}}}))
}

fn network_policy() -> Row {
    let peers = |of: &str, number: i32| {
        let labels = json!({
            "matchLabels": {of: number.to_string()},
            "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
        });
        json!([
            {"ipBlock": {"cidr": "192.0.2.0/24", "except": [format!("192.0.2.{number}/32")]}},
            {"podSelector": labels, "namespaceSelector": labels},
        ])
    };
    row(
        "networkPolicy",
        [1, 2].map(|number| {
            let [from, metrics, to] = ["from", "metrics", "to"].map(|of| peers(of, number));
            let change = json!({"networkPolicy": {
                "enabled": true, "from": from, "metricsFrom": metrics, "to": to,
            }});
            let effects = vec![
                effect("NetworkPolicy", "/spec/ingress/0/from", from),
                effect("NetworkPolicy", "/spec/ingress/2/from", metrics),
                effect("NetworkPolicy", "/spec/egress/1/to", to),
            ];
            (change, effects)
        }),
    )
}

fn dashboard() -> Row {
    row(
        "monitoring.dashboard",
        ["1", "2"].map(|value| {
            let (labels, annotations) = (json!({"a": value}), json!({"b": value}));
            let asked = json!({"enabled": true, "labels": labels, "annotations": annotations});
            let effects = vec![
                effect("ConfigMap", "/metadata/labels", labels),
                effect("ConfigMap", "/metadata/annotations", annotations),
            ];
            (json!({"monitoring": {"dashboard": asked}}), effects)
        }),
    )
}

fn of_template(name: &'static str, field: &str, pointer: &str, values: [Value; 2]) -> Row {
    row(name, values.map(|value| (json!({"podTemplate": {field: value}}), pod(pointer, value))))
}

fn security_context() -> Row {
    let values = [1, 2].map(|number| {
        json!({
            "runAsUser": 70_000 + number,
            "runAsGroup": 70_010 + number,
            "fsGroup": 70_020 + number,
            "supplementalGroups": [70_030 + number],
            "seccompProfile": {"type": "Localhost", "localhostProfile": format!("{number}.json")},
            "appArmorProfile": {"type": "Localhost", "localhostProfile": format!("profile-{number}")},
            "seLinuxOptions": {"level": format!("s0:c{number}")},
        })
    });
    of_template("podTemplate.securityContext", "securityContext", "/securityContext", values)
}

fn runtime_class() -> Row {
    let values = ["first", "second"].map(|name| json!(name));
    of_template("podTemplate.runtimeClassName", "runtimeClassName", "/runtimeClassName", values)
}

fn volumes() -> Row {
    row(
        "podTemplate.volumes",
        [1, 2].map(|number| {
            let file = format!("file-{number}");
            let of_keys = |named: &str, name: &str, key: &str| {
                json!({
                    named: name, "items": [{"key": key, "path": file}], "defaultMode": 0o400 + number,
                    "optional": true,
                })
            };
            let sources = [
                ("map", json!({"configMap": of_keys("name", "roots", "ca.crt")})),
                ("secret", json!({"secret": of_keys("secretName", "hook", "token")})),
                ("scratch", json!({"emptyDir": {"medium": "Memory", "sizeLimit": format!("{number}Mi")}})),
                (
                    "claim",
                    json!({"persistentVolumeClaim": {"claimName": format!("disk-{number}"), "readOnly": true}}),
                ),
            ];
            let mount = json!({
                "name": "map", "mountPath": format!("/extra-{number}"), "subPath": file, "readOnly": true,
            });
            let mut effects = container(&format!("/volumeMounts/mountPath=~1extra-{number}"), mount.clone());
            let mut volumes = Vec::new();
            for (name, source) in sources {
                effects.extend(volume(name, source.clone()));
                volumes.push(named(name, source));
            }
            (json!({"podTemplate": {"volumes": volumes, "volumeMounts": [mount]}}), effects)
        }),
    )
}

fn containers() -> Row {
    let probe = |number: i32, what: Value| {
        let mut probe = json!({
            "initialDelaySeconds": number, "periodSeconds": number + 1, "timeoutSeconds": number + 2,
            "failureThreshold": number + 3,
        });
        merge(&mut probe, &what);
        probe
    };
    row(
        "podTemplate.containers",
        [4, 5].map(|number| {
            let probes = [
                json!({"httpGet": {"path": format!("/{number}"), "port": 8081}}),
                json!({"tcpSocket": {"port": 8000 + number}}),
                json!({"exec": {"command": ["true", number.to_string()]}}),
            ]
            .map(|what| probe(number, what));
            let containers: Vec<Value> = ["a", "b", "c"]
                .into_iter()
                .enumerate()
                .map(|(index, name)| {
                    let [startup, liveness, readiness] =
                        [0, 1, 2].map(|offset| probes[(index + offset) % 3].clone());
                    let probes = json!({
                        "startupProbe": startup, "livenessProbe": liveness, "readinessProbe": readiness,
                    });
                    let mut container = beside(name, number);
                    merge(&mut container, &probes);
                    container
                })
                .collect();
            let effects: Vec<Effect> = containers
                .iter()
                .flat_map(|container| {
                    let name = container["name"].as_str().unwrap_or_default();
                    pod(&format!("/initContainers/name={name}"), container.clone())
                })
                .collect();
            (json!({"podTemplate": {"containers": containers}}), effects)
        }),
    )
    .on(json!({"podTemplate": {"volumes": [{"name": "scratch", "emptyDir": {}}]}}))
}

/// A container with all of its fields but the probes.
fn beside(name: &str, number: i32) -> Value {
    let optional = |name: &str, of: &str| {
        let mut selected = key(name, of);
        selected["optional"] = true.into();
        selected
    };
    let from = |variable: &str, source: Value| json!({"name": variable, "valueFrom": source});
    json!({
        "name": name,
        "image": format!("registry.example.com/{name}:{number}"),
        "imagePullPolicy": if number % 2 == 0 { "Always" } else { "Never" },
        "command": ["run", number.to_string()],
        "args": [number.to_string()],
        "env": [
            {"name": "A", "value": number.to_string()},
            from("B", json!({"secretKeyRef": optional("hook", "token")})),
            from("C", json!({"configMapKeyRef": optional("roots", "level")})),
            from("D", json!({"fieldRef": {"fieldPath": "metadata.name"}})),
            from("E", json!({"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}})),
        ],
        // The containers of a pod share its ports.
        "ports": [{"name": format!("port-{name}"), "containerPort": 7000 + number}],
        "resources": {"limits": {"memory": format!("{number}Mi")}, "requests": {"memory": "1Mi"}},
        "volumeMounts": [
            {"name": "scratch", "mountPath": format!("/scratch-{number}"), "subPath": name, "readOnly": true},
        ],
        "securityContext": {
            "runAsUser": 70_000 + number, "runAsGroup": 70_010 + number, "readOnlyRootFilesystem": number % 2 == 0,
        },
    })
}

fn named(name: &str, mut value: Value) -> Value {
    value["name"] = name.into();
    value
}
