//! Objects for the Prometheus Operator: how Prometheus finds the pods, and what it tells people of.
//!
//! Their kinds are no part of Kubernetes, so they are JSON.

use mail_laser_crds::Monitoring;
use serde_json::{Value, json};

use super::labels;
use super::pod::METRICS_PORT_NAME;
use crate::validate::ValidatedMailLaser;

/// The PodMonitor of a resource, if it asks for one.
pub fn pod_monitor(resource: &ValidatedMailLaser) -> Option<Value> {
    let monitor = of(resource)?.pod_monitor.as_ref().filter(|monitor| monitor.enabled)?;
    let mut endpoint = json!({"port": METRICS_PORT_NAME});
    if let Some(seconds) = monitor.interval_seconds {
        endpoint["interval"] = format!("{seconds}s").into();
    }
    Some(json!({
        "metadata": super::labelled(resource, &monitor.labels),
        "spec": {
            "selector": {"matchLabels": labels::selector(&resource.name)},
            "podMetricsEndpoints": [endpoint],
        },
    }))
}

/// The PrometheusRule of a resource, if it asks for one.
pub fn prometheus_rule(resource: &ValidatedMailLaser) -> Option<Value> {
    let rule = of(resource)?.prometheus_rule.as_ref().filter(|rule| rule.enabled)?;
    let job = job(resource);
    let rules: Vec<Value> = ALERTS
        .iter()
        // Where there shall be no pod, none is missing.
        .filter(|alert| resource.spec.replicas > 0 || alert.name != DOWN)
        .map(|alert| alert.rule(&job))
        .collect();
    Some(json!({
        "metadata": super::labelled(resource, &rule.labels),
        "spec": {"groups": [{"name": format!("mail-laser.{}", resource.name), "rules": rules}]},
    }))
}

fn of(resource: &ValidatedMailLaser) -> Option<&Monitoring> {
    resource.spec.monitoring.as_ref()
}

/// The label `job` that series have which Prometheus reads by the PodMonitor.
pub fn job(resource: &ValidatedMailLaser) -> String {
    format!("{}/{}", resource.namespace, resource.name)
}

/// Something that a person should know. In `expression` and texts `JOB` stands for the label.
struct Alert {
    name: &'static str,
    expression: &'static str,
    /// For how long it has to be so.
    lasting: &'static str,
    severity: &'static str,
    summary: &'static str,
    description: &'static str,
}

const DOWN: &str = "MailLaserDown";

/// Five minutes are a rollout and a few restarts; ten, in `increase`, are several readings of any interval in use. An
/// hour is the longest pause between two attempts: a mail that waits for longer has failed many times.
const ALERTS: &[Alert] = &[
    Alert {
        name: DOWN,
        expression: r#"absent(up{job="JOB"} == 1)"#,
        lasting: "5m",
        severity: "critical",
        summary: "MailLaser JOB takes no mail",
        description: "Prometheus has reached no pod of it for 5 minutes. Look at `kubectl describe maillaser`.",
    },
    Alert {
        name: "MailLaserMailsLost",
        expression: r#"sum by (route, outcome) (increase(mail_laser_messages_total{job="JOB", outcome=~"failed|dropped"}[10m])) > 0"#,
        lasting: "0m",
        severity: "critical",
        summary: "MailLaser JOB has lost mails that it had accepted",
        description: "In mode Forward a mail is given up when the webhook does not take it. The log has `retries exhausted` or `mail dropped` with the id of each; Confirm and Spool lose none.",
    },
    Alert {
        name: "MailLaserCircuitOpen",
        expression: r#"max by (route) (mail_laser_circuit_breaker_state{job="JOB"}) == 2"#,
        lasting: "5m",
        severity: "warning",
        summary: "The webhook of MailLaser JOB fails",
        description: "So many deliveries failed in a row that none is tried but one at a time. The log has `delivery attempt failed` with the reason.",
    },
    Alert {
        name: "MailLaserSpoolWaits",
        expression: r#"max(mail_laser_spool_oldest_seconds{job="JOB"}) > 3600"#,
        lasting: "10m",
        severity: "warning",
        summary: "Mails of MailLaser JOB have waited for more than an hour",
        description: "The webhook does not take them. `mail-laser spool list` in a pod shows them, and `mail-laser spool show` every failure.",
    },
    Alert {
        name: "MailLaserSpoolFull",
        expression: r#"sum(increase(mail_laser_spool_refused_total{job="JOB"}[10m])) > 0"#,
        lasting: "0m",
        severity: "critical",
        summary: "MailLaser JOB sends mails away because a spool is full",
        description: "Senders try again for days. Mend the webhook, or let `spec.delivery.spool.size` grow.",
    },
    Alert {
        name: "MailLaserDeadLetters",
        expression: r#"sum by (route) (mail_laser_dead_letters{job="JOB"}) > 0"#,
        lasting: "0m",
        severity: "warning",
        summary: "MailLaser JOB keeps dead letters",
        description: "The webhook refused them for good, or did not take them in time. Look at them with `mail-laser spool list --dead`, and deliver or discard them.",
    },
    Alert {
        name: "MailLaserRoutesStale",
        expression: r#"max(mail_laser_routes_stale{job="JOB"}) == 1"#,
        lasting: "5m",
        severity: "warning",
        summary: "MailLaser JOB does not take its routes over",
        description: "A pod cannot read what the operator gave it, and those before stay in force. Its log has `routes cannot be taken over` with the reason.",
    },
    Alert {
        name: "MailLaserConnectionsRefused",
        expression: r#"sum by (result) (increase(mail_laser_smtp_connections_total{job="JOB", result=~"too_many|out_of_memory"}[10m])) > 0"#,
        lasting: "10m",
        severity: "warning",
        summary: "MailLaser JOB sends connections away",
        description: "It has more sessions or less memory than it can do with: give it more replicas, or memory.",
    },
];

impl Alert {
    fn rule(&self, job: &str) -> Value {
        let text = |text: &str| text.replace("JOB", job);
        json!({
            "alert": self.name,
            "expr": text(self.expression),
            "for": self.lasting,
            "labels": {"severity": self.severity},
            "annotations": {"summary": text(self.summary), "description": text(self.description)},
        })
    }
}
