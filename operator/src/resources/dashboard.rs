//! A dashboard for Grafana, in a ConfigMap that its sidecar finds by a label.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::monitoring::job;
use crate::validate::ValidatedMailLaser;

/// The label that Grafana's charts look for.
const LABEL: (&str, &str) = ("grafana_dashboard", "1");
/// Two panels in a row, of the 24 columns that Grafana has.
const WIDTH: usize = 12;
const HEIGHT: usize = 8;

/// The name of the ConfigMap of the resource `name`: many a user has one that is called as what it configures.
pub fn name(name: &str) -> String {
    format!("{name}-dashboard")
}

/// The ConfigMap of a resource, if it asks for one.
pub fn build(resource: &ValidatedMailLaser) -> Option<ConfigMap> {
    let monitoring = resource.spec.monitoring.as_ref()?;
    let asked = monitoring.dashboard.as_ref().filter(|dashboard| dashboard.enabled)?;
    let mut labels = asked.labels.clone();
    labels.entry(LABEL.0.to_owned()).or_insert_with(|| LABEL.1.to_owned());
    let mut metadata = super::labelled(resource, &labels);
    metadata.name = Some(name(&resource.name));
    metadata.annotations = super::some(asked.annotations.clone());
    let file = format!("mail-laser-{}-{}.json", resource.namespace, resource.name);
    let dashboard = format!("{:#}", dashboard(&job(resource)));
    Some(ConfigMap { metadata, data: Some([(file, dashboard)].into()), ..ConfigMap::default() })
}

/// A panel: its title, the unit of its values, and what it shows, each with its legend. `JOB` stands for the label.
type Panel = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const PANELS: &[Panel] = &[
    (
        "What became of mails",
        "ops",
        &[(
            r#"sum by (outcome) (rate(mail_laser_messages_total{job="JOB"}[$__rate_interval]))"#,
            "{{outcome}}",
        )],
    ),
    (
        "Replies to senders",
        "ops",
        &[(
            r#"sum by (code) (rate(mail_laser_smtp_replies_total{job="JOB"}[$__rate_interval]))"#,
            "{{code}}",
        )],
    ),
    ("Sessions", "short", &[(r#"mail_laser_smtp_sessions{job="JOB"}"#, "{{pod}}")]),
    (
        "Connections",
        "ops",
        &[(
            r#"sum by (result) (rate(mail_laser_smtp_connections_total{job="JOB"}[$__rate_interval]))"#,
            "{{result}}",
        )],
    ),
    (
        "Answers of the webhook",
        "ops",
        &[(
            r#"sum by (route, result) (rate(mail_laser_webhook_attempts_total{job="JOB"}[$__rate_interval]))"#,
            "{{route}} {{result}}",
        )],
    ),
    (
        "Time of an attempt",
        "s",
        &[
            (
                r#"histogram_quantile(0.5, sum by (le) (rate(mail_laser_webhook_attempt_seconds_bucket{job="JOB"}[$__rate_interval])))"#,
                "half of them",
            ),
            (
                r#"histogram_quantile(0.99, sum by (le) (rate(mail_laser_webhook_attempt_seconds_bucket{job="JOB"}[$__rate_interval])))"#,
                "99 of 100",
            ),
        ],
    ),
    (
        "From accepted to delivered",
        "s",
        &[
            (
                r#"histogram_quantile(0.5, sum by (le) (rate(mail_laser_delivery_seconds_bucket{job="JOB"}[$__rate_interval])))"#,
                "half of them",
            ),
            (
                r#"histogram_quantile(0.99, sum by (le) (rate(mail_laser_delivery_seconds_bucket{job="JOB"}[$__rate_interval])))"#,
                "99 of 100",
            ),
        ],
    ),
    (
        "Circuit: 0 closed, 1 half-open, 2 open",
        "short",
        &[(r#"max by (route) (mail_laser_circuit_breaker_state{job="JOB"})"#, "{{route}}")],
    ),
    (
        "Mails that wait",
        "short",
        &[
            (r#"sum(mail_laser_queue_messages{job="JOB"})"#, "in memory"),
            (r#"sum(mail_laser_spool_messages{job="JOB"})"#, "on disk"),
            (r#"sum(mail_laser_dead_letters{job="JOB"})"#, "dead letters"),
        ],
    ),
    (
        "Bytes that wait",
        "bytes",
        &[
            (r#"sum(mail_laser_queue_bytes{job="JOB"})"#, "in memory"),
            (r#"sum(mail_laser_spool_bytes{job="JOB"})"#, "on disk"),
        ],
    ),
    (
        "Age of the oldest mail on disk",
        "s",
        &[(r#"max by (pod) (mail_laser_spool_oldest_seconds{job="JOB"})"#, "{{pod}}")],
    ),
];

fn dashboard(job: &str) -> Value {
    let panels: Vec<Value> =
        PANELS.iter().enumerate().map(|(index, described)| panel(index, described, job)).collect();
    json!({
        // At most 40 characters, and another for each resource of the cluster.
        "uid": uid(job),
        "title": format!("MailLaser {job}"),
        "tags": ["mail-laser"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": panels,
    })
}

fn uid(job: &str) -> String {
    Sha256::digest(job).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn panel(index: usize, (title, unit, queries): &Panel, job: &str) -> Value {
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let targets: Vec<Value> = ('A'..)
        .zip(*queries)
        .map(|(letter, (expression, legend))| {
            json!({
                "refId": letter,
                "datasource": source,
                "expr": expression.replace("JOB", job),
                "legendFormat": legend,
            })
        })
        .collect();
    json!({
        "id": index + 1,
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": {"x": index % 2 * WIDTH, "y": index / 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": targets,
    })
}
