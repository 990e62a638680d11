//! The statuses that the operator writes, for the tests of what GitOps tools make of them: one for each reason.
//!
//! `UPDATE_EXPECT=1` writes them anew, which is `make generate`; `tests/gitops` has what is expected of each.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::{env, fs};

use k8s_openapi::jiff::Timestamp;
use mail_laser_crds::conditions::Reason;
use mail_laser_crds::route_conditions::RouteReason;
use mail_laser_crds::{MailLaserStatus, MailRoute, MailRouteSpec, ParentRef};
use mail_laser_operator::problem::Problem;
use mail_laser_operator::routes::status::{Answer, status as status_of_route};
use mail_laser_operator::routes::table::{Claim, Verdict};
use mail_laser_operator::spool::report::Notes;
use mail_laser_operator::status::workload::{Counts, Observation, Workload};
use mail_laser_operator::status::{HostInForce, Situation, status};
use serde_json::{Value, json};

const FILE: &str = "../tests/gitops/statuses.json";
/// From here on, in seconds; far from the deadline of what a situation waits for.
const NOW: i64 = 1_800_000_000;
const HOUR: i64 = 3600;

/// Something that a resource can be in, and how it came into it.
#[derive(Default)]
struct Case {
    name: &'static str,
    workload: Workload,
    others: i32,
    problem: Option<Reason>,
    notes: Notes,
    suspended: bool,
    /// Whether there is neither a recipient of its own nor a route.
    takes_nothing: bool,
    /// The status before, and how many seconds ago.
    previous: Option<(MailLaserStatus, i64)>,
}

impl Case {
    fn new(name: &'static str, workload: Workload) -> Self {
        Self { name, workload, ..Self::default() }
    }

    fn because_of(name: &'static str, reason: Reason, workload: Workload) -> Self {
        Self { problem: Some(reason), ..Self::new(name, workload) }
    }

    /// The same, an hour after it began.
    fn for_an_hour(self, name: &'static str) -> Self {
        let before = self.status(NOW - HOUR);
        Self { name, previous: Some((before, HOUR)), ..self }
    }

    fn status(&self, now: i64) -> MailLaserStatus {
        let problems: Vec<_> =
            self.problem.iter().map(|reason| Problem::new(*reason, "what is the matter")).collect();
        status(&Situation {
            name: "support",
            generation: 2,
            previous: self.previous.as_ref().map(|(status, _)| status),
            suspended: self.suspended,
            problems: &problems,
            is_intact: true,
            observation: &Observation {
                workload: self.workload.clone(),
                image: Some("daemon:1".to_owned()),
                others: self.others,
                ..Observation::default()
            },
            notes: &self.notes,
            webhook_host: HostInForce::Now(Some("example.com".to_owned())),
            routes: Some(0),
            has_own_recipients: !self.takes_nothing,
            now: Timestamp::from_second(now).unwrap(),
        })
    }
}

fn rolled_out(wanted: i32, ready: i32) -> Workload {
    Workload::RolledOut(Counts { wanted, total: wanted, updated: wanted, ready })
}

fn rolling_out() -> Workload {
    Workload::RollingOut(Counts { wanted: 2, total: 3, updated: 1, ready: 2 })
}

fn cases() -> Vec<Case> {
    let draining = Notes { draining: Some("draining spool-support-2".to_owned()), ..Notes::default() };
    let dead = Notes { dead_letters: Some("dead letters are left".to_owned()), ..Notes::default() };
    let ready = Case::new("ready", rolled_out(2, 2));
    let was_ready = Some((ready.status(NOW - HOUR), HOUR));
    let mut cases = vec![
        ready,
        Case::new("just made", Workload::Absent),
        Case::new("rolling out", rolling_out()),
        Case::new(
            "scaling down to zero",
            Workload::RollingOut(Counts { wanted: 0, total: 1, updated: 1, ready: 1 }),
        ),
        Case::new("scaled to zero", rolled_out(0, 0)),
        Case::new("some replicas ready", rolled_out(2, 1)),
        Case::new("no replica ready", rolled_out(2, 0)),
        Case { others: 1, ..Case::new("changing its mode", rolled_out(2, 2)) },
        Case { suspended: true, ..Case::new("suspended", rolled_out(2, 2)) },
        Case { suspended: true, ..Case::new("suspended without pods", Workload::Absent) },
        Case { takes_nothing: true, ..Case::new("without recipients", rolled_out(2, 2)) },
        Case { notes: draining.clone(), ..Case::new("draining", rolled_out(2, 2)) },
        Case { notes: draining, ..Case::new("draining before it scales up", rolled_out(2, 1)) },
        Case { notes: dead, ..Case::new("dead letters kept", rolled_out(2, 2)) },
        Case {
            previous: was_ready,
            ..Case::because_of("the API server fails", Reason::RequestFailed, rolled_out(2, 2))
        },
        Case::because_of("the API server fails at first", Reason::RequestFailed, Workload::Absent),
        Case::because_of("waiting for a deletion", Reason::WaitingForDeletion, Workload::Absent),
        Case::because_of("a claim grows", Reason::Growing, rolled_out(2, 2)),
        Case::because_of("a claim cannot grow", Reason::ClaimCannotGrow, rolled_out(2, 2)),
        Case::because_of("a name is taken", Reason::NameConflict, Workload::Absent),
        Case::because_of("the daemon refuses its configuration", Reason::InvalidConfiguration, rolling_out()),
        Case::because_of("pods do not start in time", Reason::ProgressDeadlineExceeded, rolling_out()),
        Case::because_of("an object is refused", Reason::Refused, rolled_out(2, 2)),
        Case::because_of("the resource contradicts itself", Reason::InvalidSpec, Workload::Absent),
        Case::because_of("a Secret of the wrong type", Reason::WrongSecretType, rolled_out(2, 2)),
    ];
    for (name, later, reason, workload) in [
        ("no Secret", "no Secret for an hour", Reason::SecretNotFound, Workload::Absent),
        ("no Secret any more", "no Secret any more for an hour", Reason::SecretNotFound, rolled_out(2, 2)),
        ("no ConfigMap", "no ConfigMap for an hour", Reason::ConfigMapNotFound, Workload::Absent),
        ("no Service", "no Service for an hour", Reason::ServiceNotFound, rolled_out(2, 2)),
        ("no volume", "no volume for an hour", Reason::ClaimPending, rolling_out()),
        ("no right", "no right for an hour", Reason::Forbidden, rolled_out(2, 2)),
    ] {
        cases.push(Case::because_of(name, reason, workload.clone()));
        cases.push(Case::because_of(name, reason, workload).for_an_hour(later));
    }
    cases
}

fn resource(name: &str, generation: i64, suspended: bool, status: &Value) -> Value {
    let mut spec =
        json!({"targetEmails": ["support@example.com"], "webhook": {"url": "https://example.com/"}});
    if suspended {
        spec["suspend"] = json!(true);
    }
    json!({
        "name": name,
        "resource": {
            "apiVersion": "mail-laser.dev/v1alpha1",
            "kind": "MailLaser",
            "metadata": {"name": "support", "namespace": "helpdesk", "generation": generation},
            "spec": spec,
            "status": status,
        },
    })
}

/// What the API server puts into a resource that no operator has seen.
fn default_status() -> Value {
    let crd = serde_json::to_value(&mail_laser_crds::crds().unwrap()[0]).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["default"].clone()
}

fn resources() -> Vec<Value> {
    let mut resources = vec![resource("never seen", 1, false, &default_status())];
    for case in cases() {
        let status = json!(case.status(NOW));
        if case.name == "ready" {
            resources.push(resource("ready, then changed", 3, false, &status));
        }
        resources.push(resource(case.name, 2, case.suspended, &status));
    }
    resources.extend(routes());
    resources
}

/// Routes as gateways answer them.
fn routes() -> Vec<Value> {
    let yes = |reason| Claim::new(true, reason, "what is in order");
    let no = |reason| Claim::new(false, reason, "what is the matter");
    let verdict = |accepted: Claim, resolved: Claim, programmed: Claim| {
        Answer::Verdict(Verdict { generation: 2, accepted, resolved, programmed, host: None })
    };
    let (accepted, resolved) = (yes(RouteReason::Accepted), yes(RouteReason::ResolvedRefs));
    let programmed = yes(RouteReason::Programmed);
    let fine = || verdict(accepted.clone(), resolved.clone(), programmed.clone());
    let conflict = || verdict(no(RouteReason::Conflict), resolved.clone(), no(RouteReason::Conflict));
    [
        ("route that nobody has seen", vec![Answer::Unknown]),
        ("route in force", vec![fine()]),
        (
            "route partly in force",
            vec![verdict(yes(RouteReason::PartlyAccepted), resolved.clone(), programmed.clone())],
        ),
        ("route in conflict", vec![conflict()]),
        ("route of no gateway", vec![Answer::NoParent]),
        (
            "route without its Secret",
            vec![verdict(accepted.clone(), no(RouteReason::SecretNotFound), no(RouteReason::Deferred))],
        ),
        ("route on its way", vec![verdict(accepted.clone(), resolved.clone(), no(RouteReason::Pending))]),
        ("route in force at one of two gateways", vec![fine(), conflict()]),
    ]
    .map(|(name, answers)| route(name, answers))
    .into()
}

fn route(name: &str, answers: Vec<Answer>) -> Value {
    let parents = ["edge", "inner"].map(|name| ParentRef { name: name.to_owned(), namespace: None });
    let mut route = MailRoute::new("billing", MailRouteSpec::default());
    route.metadata.generation = Some(2);
    route.metadata.namespace = Some("helpdesk".to_owned());
    route.spec.recipients = vec!["billing@example.com".to_owned()];
    let answers: Vec<_> = parents.into_iter().zip(answers).collect();
    route.spec.parent_refs = answers.iter().map(|(parent, _)| parent.clone()).collect();
    route.status = Some(status_of_route(&route, &answers, Timestamp::from_second(NOW).unwrap()));
    let mut resource = json!(route);
    if resource["status"]["parents"].is_null() {
        // As the definition has it by default.
        resource["status"]["parents"] = json!([]);
    }
    json!({"name": name, "resource": resource})
}

#[test]
fn the_statuses_for_gitops_tools_are_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let expected = format!("{:#}\n", json!(resources()));
    if env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &expected).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{FILE} is stale: run `make generate`");
}

#[test]
fn every_reason_is_among_them() {
    let statuses = json!(resources()).to_string();
    let reasons: Vec<&str> = include_str!("../../crds/src/conditions.rs")
        .split("impl Reason {")
        .nth(1)
        .unwrap()
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(reason, _)| reason)
        .collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    for reason in reasons {
        assert!(statuses.contains(&format!("\"reason\":\"{reason}\"")), "{reason} is in no status");
    }
}
