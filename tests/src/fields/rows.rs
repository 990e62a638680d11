//! The table itself.

use serde_json::{Value, json};

use super::additions::additions;
use super::{Effect, Row, Step};

const TEMPLATE: &str = "/spec/template";
const CONTAINER: &str = "/spec/template/spec/containers/0";

/// All rows that every cluster has the kinds for.
#[must_use]
pub fn rows() -> Vec<Row> {
    [addresses(), webhook(), behaviour(), spool(), variables(), pods(), placement(), service(), additions()]
        .concat()
}

pub(super) fn row<const N: usize>(name: &'static str, steps: [(Value, Vec<Effect>); N]) -> Row {
    let steps = steps.into_iter().map(|(change, effects)| Step { change, effects }).collect();
    Row { name, base: json!({}), steps, is_immutable: false }
}

impl Row {
    pub(super) fn on(self, base: Value) -> Self {
        Self { base, ..self }
    }

    fn immutable(self) -> Self {
        Self { is_immutable: true, ..self }
    }
}

pub(super) fn effect(kind: &'static str, pointer: impl Into<String>, value: Value) -> Effect {
    Effect { kind, pointer: pointer.into(), value: Some(value) }
}

/// A variable of the daemon. `Effect::pointer` may name an item of a list by its name.
fn env(name: &str, value: &str) -> Vec<Effect> {
    vec![effect("Deployment", format!("{CONTAINER}/env/name={name}/value"), json!(value))]
}

fn env_from(name: &str, source: Value) -> Vec<Effect> {
    vec![effect("Deployment", format!("{CONTAINER}/env/name={name}/valueFrom"), source)]
}

pub(super) fn container(pointer: &str, value: Value) -> Vec<Effect> {
    vec![effect("Deployment", format!("{CONTAINER}{pointer}"), value)]
}

pub(super) fn pod(pointer: &str, value: Value) -> Vec<Effect> {
    vec![effect("Deployment", format!("{TEMPLATE}/spec{pointer}"), value)]
}

pub(super) fn volume(name: &str, source: Value) -> Vec<Effect> {
    pod(&format!("/volumes/name={name}"), source)
}

fn service_has(pointer: &str, value: Value) -> Vec<Effect> {
    vec![effect("Service", pointer, value)]
}

pub(super) fn key(name: &str, key: &str) -> Value {
    json!({"name": name, "key": key})
}

/// Beyond what a gateway for its own namespace mounts.
fn more_routes() -> Vec<Effect> {
    pod("/volumes/name=routes/projected/sources/31/secret/optional", json!(true))
}

fn addresses() -> Vec<Row> {
    vec![
        row(
            "allowedRoutes",
            [
                json!({"namespaces": {"from": "All"}, "domains": ["example.com"], "allowPrivateAddresses": true}),
                json!({"namespaces": {"from": "Selector", "selector": {
                    "matchLabels": {"a": "b"},
                    "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
                }}}),
            ]
            .map(|allowed| (json!({"allowedRoutes": [{}, allowed]}), more_routes())),
        ),
        row(
            "targetEmails",
            [
                (
                    json!({"targetEmails": ["a@example.com", "b@example.com"]}),
                    env("MAIL_LASER_TARGET_EMAILS", "a@example.com,b@example.com"),
                ),
                (
                    json!({"targetEmails": ["c@example.com"]}),
                    env("MAIL_LASER_TARGET_EMAILS", "c@example.com"),
                ),
            ],
        ),
        row(
            "webhook.url",
            [
                (
                    json!({"webhook": {"url": "https://a.example.com/x", "serviceRef": null}}),
                    env("MAIL_LASER_WEBHOOK_URL", "https://a.example.com/x"),
                ),
                (
                    json!({"webhook": {"url": "https://b.example.com/y"}}),
                    env("MAIL_LASER_WEBHOOK_URL", "https://b.example.com/y"),
                ),
            ],
        ),
        row(
            "webhook.urlFrom",
            [
                (
                    json!({"webhook": {"serviceRef": null, "urlFrom": {"secretKeyRef": key("hook", "url")}}}),
                    env_from("MAIL_LASER_WEBHOOK_URL", json!({"secretKeyRef": key("hook", "url")})),
                ),
                (
                    json!({"webhook": {"urlFrom": {"secretKeyRef": key("other", "address")}}}),
                    env_from("MAIL_LASER_WEBHOOK_URL", json!({"secretKeyRef": key("other", "address")})),
                ),
            ],
        ),
        row(
            "webhook.serviceRef",
            [
                (
                    json!({"webhook": {"serviceRef": {"name": "other", "port": 8081, "path": "/b", "scheme": "https"}}}),
                    env("MAIL_LASER_WEBHOOK_URL", "https://other.NAMESPACE.svc:8081/b"),
                ),
                (
                    json!({"webhook": {"serviceRef": {"name": "webhook", "port": 81, "path": "/c", "scheme": "http"}}}),
                    env("MAIL_LASER_WEBHOOK_URL", "http://webhook.NAMESPACE.svc:81/c"),
                ),
            ],
        ),
    ]
}

fn webhook() -> Vec<Row> {
    let number = |name: &'static str, field: &str, variable: &str| {
        row(name, [7, 8].map(|value| (json!({"webhook": {field: value}}), env(variable, &value.to_string()))))
    };
    let breaker = |threshold: i32, reset: i32| {
        let change = json!({"webhook": {"circuitBreaker": {"threshold": threshold, "resetSeconds": reset}}});
        let effects = [
            env("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", &threshold.to_string()),
            env("MAIL_LASER_CIRCUIT_BREAKER_RESET", &reset.to_string()),
        ];
        (change, effects.concat())
    };
    let roots = |of: &str, name: &str, named: &str| {
        let item = json!({"items": [{"key": "ca.crt", "path": "ca.crt"}]});
        let mut source = json!({ of: item });
        source[of][named] = name.into();
        [volume("webhook-ca", source), env("MAIL_LASER_WEBHOOK_CA_FILE", "/etc/mail-laser/webhook-ca/ca.crt")]
            .concat()
    };
    vec![
        number("webhook.timeoutSeconds", "timeoutSeconds", "MAIL_LASER_WEBHOOK_TIMEOUT"),
        number("webhook.maxRetries", "maxRetries", "MAIL_LASER_WEBHOOK_MAX_RETRIES"),
        number("webhook.concurrency", "concurrency", "MAIL_LASER_WEBHOOK_CONCURRENCY"),
        row("webhook.circuitBreaker", [breaker(7, 13), breaker(8, 14)]),
        row(
            "webhook.allowHTTP",
            [
                (json!({"webhook": {"allowHTTP": true}}), env("MAIL_LASER_WEBHOOK_ALLOW_HTTP", "true")),
                (
                    json!({"webhook": {"allowHTTP": true, "url": "http://plain.example.com"}}),
                    env("MAIL_LASER_WEBHOOK_URL", "http://plain.example.com"),
                ),
            ],
        )
        .on(json!({"webhook": {"serviceRef": null, "url": "https://base.example.com"}})),
        row(
            "webhook.bearerTokenFrom",
            [("hook", "token"), ("other", "second")].map(|(name, of)| {
                let source = json!({"secretKeyRef": key(name, of)});
                (
                    json!({"webhook": {"bearerTokenFrom": source}}),
                    env_from("MAIL_LASER_WEBHOOK_BEARER_TOKEN", source),
                )
            }),
        ),
        row(
            "webhook.caBundleFrom",
            [
                (
                    json!({"webhook": {"caBundleFrom": {"configMapKeyRef": key("roots", "ca.crt")}}}),
                    roots("configMap", "roots", "name"),
                ),
                (
                    json!({"webhook": {"caBundleFrom": {"configMapKeyRef": null, "secretKeyRef": key("hook", "ca.crt")}}}),
                    roots("secret", "hook", "secretName"),
                ),
            ],
        ),
    ]
}

fn behaviour() -> Vec<Row> {
    let list = |name: &'static str, variable: &str, first: [&str; 2], second: &str| {
        row(
            name,
            [
                (json!({ name: first }), env(variable, &first.join(","))),
                (json!({ name: [second] }), env(variable, second)),
            ],
        )
    };
    let certificate = |name: &str| {
        let effects = [
            volume("tls", json!({"secret": {"secretName": name}})),
            env("MAIL_LASER_TLS_CERT_FILE", "/etc/mail-laser/tls/tls.crt"),
        ];
        (json!({"tls": {"secretName": name}}), effects.concat())
    };
    let suspended = Effect { value: None, ..env("MAIL_LASER_HEADER_PREFIX", "")[0].clone() };
    vec![
        list("headerPrefixes", "MAIL_LASER_HEADER_PREFIX", ["X-A", "X-B"], "X-C"),
        list("proxyProtocolFrom", "MAIL_LASER_PROXY_PROTOCOL_FROM", ["10.0.0.0/8", "192.0.2.7"], "192.0.2.8"),
        row(
            "delivery.mode",
            [
                (json!({"delivery": {"mode": "Confirm"}}), env("MAIL_LASER_DELIVERY", "confirm")),
                (
                    json!({"delivery": {"mode": "Spool", "spool": {"size": "1Gi"}}}),
                    vec![effect(
                        "StatefulSet",
                        format!("{CONTAINER}/env/name=MAIL_LASER_DELIVERY/value"),
                        json!("spool"),
                    )],
                ),
            ],
        ),
        row(
            "tls.mode",
            [("Require", "require"), ("Off", "off")]
                .map(|(mode, value)| (json!({"tls": {"mode": mode}}), env("MAIL_LASER_TLS", value))),
        ),
        row("tls.secretName", [certificate("pair"), certificate("second-pair")]),
        row(
            "tls.smtpsPort",
            [465, 466].map(|port| {
                let effects = [
                    service_has("/spec/ports/name=smtps/port", json!(port)),
                    env("MAIL_LASER_SMTPS_PORT", "4465"),
                ];
                (json!({"tls": {"smtpsPort": port}}), effects.concat())
            }),
        ),
        row(
            "suspend",
            [
                (
                    json!({"suspend": true, "headerPrefixes": ["X-Suspended"]}),
                    vec![
                        suspended,
                        effect("MailLaser", "/status/conditions/type=Reconciling/reason", json!("Suspended")),
                    ],
                ),
                (json!({"suspend": false}), env("MAIL_LASER_HEADER_PREFIX", "X-Suspended")),
            ],
        )
        .on(json!({"suspend": false})),
    ]
}

fn spool() -> Vec<Row> {
    let disk = |size: &str, class: &str, lifetime: i32| {
        let change = json!({"delivery": {"mode": "Spool", "spool": {
            "size": size, "storageClassName": class, "lifetimeSeconds": lifetime,
        }}});
        let claim = "/spec/volumeClaimTemplates/0/spec";
        let effects = vec![
            effect("StatefulSet", format!("{claim}/resources/requests/storage"), json!(size)),
            effect("StatefulSet", format!("{claim}/storageClassName"), json!(class)),
            effect(
                "StatefulSet",
                format!("{CONTAINER}/env/name=MAIL_LASER_SPOOL_LIFETIME/value"),
                json!(lifetime.to_string()),
            ),
        ];
        (change, effects)
    };
    let grown = |size: &str, lifetime: i32| {
        let (mut change, mut effects) = disk(size, "", lifetime);
        if let Some(spool) = change["delivery"]["spool"].as_object_mut() {
            spool.remove("storageClassName");
        }
        effects.remove(1);
        (change, effects)
    };
    vec![
        row("delivery.spool", [disk("1Gi", "first", 100), disk("2Gi", "second", 200)]).immutable(),
        row("delivery.spool.size", [grown("1Gi", 100), grown("2Gi", 200)]),
    ]
}

fn variables() -> Vec<Row> {
    let from = |name: &'static str, of: &str, first: Value, second: Value| {
        row(
            name,
            [first, second].map(|source| {
                let source = json!({ of: source });
                let change = json!({"env": [{"name": "RUST_LOG", "valueFrom": source}]});
                (change, env_from("RUST_LOG", source))
            }),
        )
    };
    let optional = |name: &str, of: &str| json!({"name": name, "key": of, "optional": true});
    vec![
        row(
            "env",
            ["debug", "trace"].map(|level| {
                (json!({"env": [{"name": "RUST_LOG", "value": level}]}), env("RUST_LOG", level))
            }),
        ),
        from("env.secretKeyRef", "secretKeyRef", key("hook", "level"), optional("absent", "b")),
        from("env.configMapKeyRef", "configMapKeyRef", key("roots", "level"), optional("absent", "b")),
        from(
            "env.fieldRef",
            "fieldRef",
            json!({"fieldPath": "metadata.name"}),
            json!({"fieldPath": "status.podIP"}),
        ),
        from(
            "env.resourceFieldRef",
            "resourceFieldRef",
            json!({"resource": "limits.memory", "divisor": "1Mi"}),
            json!({"resource": "limits.cpu", "divisor": "1m"}),
        ),
    ]
}

fn pods() -> Vec<Row> {
    let probe = |name: &'static str, of: &'static str, shown: &str| {
        row(
            name,
            [20, 30].map(|first| {
                let timing = json!({
                    "initialDelaySeconds": first + 1, "periodSeconds": first + 2,
                    "timeoutSeconds": first + 3, "failureThreshold": first + 4,
                });
                (json!({"probes": {of: timing}}), container(shown, timing))
            }),
        )
    };
    let quantities = |name: &'static str, of: &str| {
        row(
            name,
            [json!({"memory": "64Mi", "cpu": "50m"}), json!({"memory": "128Mi"})].map(|values| {
                (json!({"resources": {of: values}}), container(&format!("/resources/{of}"), values))
            }),
        )
    };
    let replicas = |number: i32| effect("Deployment", "/spec/replicas", json!(number));
    vec![
        row(
            "replicas",
            [
                (json!({"replicas": 1}), vec![replicas(1)]),
                (
                    json!({"replicas": 2}),
                    vec![replicas(2), effect("PodDisruptionBudget", "/spec/maxUnavailable", json!(1))],
                ),
            ],
        )
        // Nothing is to be seen in pods that run.
        .on(json!({"podTemplate": {"nodeSelector": {"no": "node"}}})),
        row(
            "image",
            ["registry.example.com/a:1", "registry.example.com/b:2"]
                .map(|image| (json!({"image": image}), container("/image", json!(image)))),
        ),
        row(
            "imagePullPolicy",
            ["Always", "Never"].map(|policy| {
                (json!({"imagePullPolicy": policy}), container("/imagePullPolicy", json!(policy)))
            }),
        ),
        row(
            "imagePullSecrets",
            ["first", "second"].map(|name| {
                let secrets = json!([{ "name": name }]);
                (json!({"imagePullSecrets": secrets}), pod("/imagePullSecrets", secrets))
            }),
        ),
        quantities("resources.limits", "limits"),
        quantities("resources.requests", "requests"),
        probe("probes.liveness", "liveness", "/livenessProbe"),
        probe("probes.readiness", "readiness", "/readinessProbe"),
    ]
}

fn placement() -> Vec<Row> {
    let part = |name: &'static str, field: &str, pointer: &str, first: Value, second: Value| {
        row(
            name,
            [first, second].map(|value| {
                let effects = vec![effect("Deployment", format!("{TEMPLATE}{pointer}"), value.clone())];
                (json!({"podTemplate": {field: value}}), effects)
            }),
        )
    };
    let constraint = |max_skew: i32| {
        json!([{
            "topologyKey": "zone", "maxSkew": max_skew, "minDomains": max_skew + 1, "whenUnsatisfiable": "DoNotSchedule",
            "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor", "matchLabelKeys": ["pod-template-hash"],
            "labelSelector": {
                "matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
            },
        }])
    };
    let tolerations = |seconds: i32| {
        json!([
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": seconds},
        ])
    };
    vec![
        part(
            "podTemplate.labels",
            "labels",
            "/metadata/labels",
            json!({"a": "1"}),
            json!({"a": "2", "b": "3"}),
        ),
        part(
            "podTemplate.annotations",
            "annotations",
            "/metadata/annotations",
            json!({"a": "1"}),
            json!({"a": "2", "b": "3"}),
        ),
        part(
            "podTemplate.nodeSelector",
            "nodeSelector",
            "/spec/nodeSelector",
            json!({"a": "1"}),
            json!({"b": "3"}),
        ),
        part("podTemplate.tolerations", "tolerations", "/spec/tolerations", tolerations(1), tolerations(2)),
        part("podTemplate.affinity", "affinity", "/spec/affinity", affinity(1), affinity(2)),
        part(
            "podTemplate.topologySpreadConstraints",
            "topologySpreadConstraints",
            "/spec/topologySpreadConstraints",
            constraint(1),
            constraint(2),
        ),
        part(
            "podTemplate.priorityClassName",
            "priorityClassName",
            "/spec/priorityClassName",
            json!("first"),
            json!("second"),
        ),
    ]
}

/// One with all of its fields.
fn affinity(weight: i32) -> Value {
    let labels = json!({
        "matchLabels": {"a": "b"},
        "matchExpressions": [{"key": "c", "operator": "In", "values": ["d"]}],
    });
    let node = json!({
        "matchExpressions": [{"key": "zone", "operator": "In", "values": ["a", "b"]}],
        "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node"]}],
    });
    let term = json!({
        "topologyKey": "zone", "namespaces": ["x"], "labelSelector": labels, "namespaceSelector": labels,
        "matchLabelKeys": ["pod-template-hash"], "mismatchLabelKeys": ["tenant"],
    });
    let of_pods = json!({
        "requiredDuringSchedulingIgnoredDuringExecution": [term],
        "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "podAffinityTerm": term}],
    });
    json!({
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [node]},
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": weight, "preference": node}],
        },
        "podAffinity": of_pods,
        "podAntiAffinity": of_pods,
    })
}

fn service() -> Vec<Row> {
    vec![
        row(
            "service.port",
            [26, 27].map(|port| {
                (json!({"service": {"port": port}}), service_has("/spec/ports/name=smtp/port", json!(port)))
            }),
        ),
        row(
            "service.annotations",
            [json!({"a": "1"}), json!({"a": "2", "b": "3"})].map(|annotations| {
                (
                    json!({"service": {"annotations": annotations}}),
                    service_has("/metadata/annotations", annotations),
                )
            }),
        ),
        row(
            "service.type",
            ["NodePort", "LoadBalancer"]
                .map(|kind| (json!({"service": {"type": kind}}), service_has("/spec/type", json!(kind)))),
        ),
        row(
            "service.nodePort",
            // From the middle of the range that the cluster takes from at random.
            // Of the band that the API server gives to nobody who does not ask.
            [30_017, 30_018].map(|port| {
                let change = json!({"service": {"type": "NodePort", "nodePort": port}});
                (change, service_has("/spec/ports/name=smtp/nodePort", json!(port)))
            }),
        ),
        row(
            "service.loadBalancerSourceRanges",
            [json!(["192.0.2.0/24", "198.51.100.0/24"]), json!(["203.0.113.0/24"])].map(|ranges| {
                let change = json!({"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ranges}});
                (change, service_has("/spec/loadBalancerSourceRanges", ranges))
            }),
        ),
        row(
            "service.externalTrafficPolicy",
            ["Local", "Cluster"].map(|policy| {
                let change = json!({"service": {"type": "NodePort", "externalTrafficPolicy": policy}});
                (change, service_has("/spec/externalTrafficPolicy", json!(policy)))
            }),
        ),
        row(
            "service.loadBalancerClass",
            ["example.com/a", "example.com/b"].map(|class| {
                let change = json!({"service": {"type": "LoadBalancer", "loadBalancerClass": class}});
                (change, service_has("/spec/loadBalancerClass", json!(class)))
            }),
        )
        .immutable(),
    ]
}
