//! Alerts and dashboard are about metrics that the daemon has: the two sides of a contract that no type holds together.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use mail_laser::metrics::{ConnectionResult, MessageOutcome, Metrics};
use mail_laser_crds::MailLaser;
use mail_laser_operator::resources::{dashboard, monitoring};
use mail_laser_operator::validate::{ValidatedMailLaser, validate};
use serde_json::Value;

fn everything() -> MailLaser {
    serde_yaml_ng::from_str(include_str!("fixtures/everything.yaml")).unwrap()
}

fn validated(resource: &MailLaser) -> ValidatedMailLaser {
    validate(resource, "daemon:1").unwrap()
}

fn alerts(resource: &MailLaser) -> Vec<Value> {
    let rule = monitoring::prometheus_rule(&validated(resource)).unwrap();
    rule["spec"]["groups"][0]["rules"].as_array().unwrap().clone()
}

fn board(resource: &MailLaser) -> Value {
    let data = dashboard::build(&validated(resource)).unwrap().data.unwrap();
    serde_json::from_str(data.values().next().unwrap()).unwrap()
}

fn expressions() -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let of_alerts = alerts(&everything()).iter().map(|alert| text(&alert["expr"])).collect::<Vec<_>>();
    let board = board(&everything());
    let panels = board["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    of_alerts.into_iter().chain(targets.map(|target| text(&target["expr"]))).collect()
}

/// What the daemon shows.
fn shown() -> String {
    let metrics = Metrics::default();
    let route = metrics.route("default");
    route.message(MessageOutcome::Forwarded);
    route.attempt("2xx", 0.1);
    metrics.connection(ConnectionResult::TooMany);
    metrics.connection(ConnectionResult::OutOfMemory);
    metrics.reply(452);
    metrics.spool().dead_letters("default", 1);
    metrics.encode().unwrap()
}

#[test]
fn every_metric_that_is_asked_for_is_the_daemons() {
    let shown = shown();
    let mut asked = BTreeSet::new();
    for expression in expressions() {
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let names = expression.split(|c| !is_of_name(c)).filter(|name| name.starts_with("mail_laser_"));
        asked.extend(names.map(str::to_owned));
    }
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        let has = |end: &str| shown.lines().any(|line| line.starts_with(&format!("{name}{end}")));
        assert!(has("{") || has(" "), "{name} is not in\n{shown}");
    }
}

#[test]
fn every_label_that_is_asked_for_is_the_daemons() {
    let shown = shown();
    for label in [
        r#"outcome="failed""#,
        r#"outcome="dropped""#,
        r#"code="452""#,
        r#"result="too_many""#,
        r#"result="out_of_memory""#,
    ] {
        assert!(shown.contains(label), "{label} is not in\n{shown}");
    }
}

#[test]
fn everything_is_about_one_resource() {
    for expression in expressions() {
        assert!(expression.contains(r#"job="savanna/zebra""#), "{expression}");
        assert!(!expression.contains("JOB"), "{expression}");
        for (open, close) in [('(', ')'), ('{', '}'), ('[', ']')] {
            let count = |which: char| expression.chars().filter(|c| *c == which).count();
            assert_eq!(count(open), count(close), "{expression}");
        }
    }
}

#[test]
fn nobody_is_told_that_a_resource_without_pods_has_none() {
    let has_down =
        |resource: &MailLaser| alerts(resource).iter().any(|alert| alert["alert"] == "MailLaserDown");
    let mut resource = everything();
    assert!(has_down(&resource));
    resource.spec.replicas = 0;
    assert!(!has_down(&resource));
}

#[test]
fn panels_have_their_own_place_and_dashboards_their_own_name() {
    let one = board(&everything());
    let panels = one["panels"].as_array().unwrap();
    let places: BTreeSet<_> = panels.iter().map(|panel| panel["gridPos"].to_string()).collect();
    assert_eq!(places.len(), panels.len());
    let mut other = everything();
    other.metadata.namespace = Some("desert".to_owned());
    assert_ne!(board(&other)["uid"], one["uid"]);
    assert!(one["uid"].as_str().unwrap().len() <= 40);
}

#[test]
fn nothing_is_there_unless_it_is_asked_for() {
    let mut resource = everything();
    for off in [None, Some(serde_yaml_ng::from_str("{podMonitor: {enabled: false}}").unwrap())] {
        resource.spec.monitoring = off;
        let resource = validated(&resource);
        assert_eq!(monitoring::pod_monitor(&resource), None);
        assert_eq!(monitoring::prometheus_rule(&resource), None);
        assert_eq!(dashboard::build(&resource), None);
    }
}
