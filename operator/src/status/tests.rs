use super::*;

const NOW: i64 = 1_000_000;

fn rolled_out(wanted: i32, ready: i32) -> Workload {
    Workload::RolledOut(Counts { wanted, total: wanted, updated: wanted, ready })
}

fn rolling_out() -> Workload {
    Workload::RollingOut(Counts { wanted: 2, total: 3, updated: 1, ready: 2 })
}

fn observed(workload: Workload) -> Observation {
    Observation { workload, image: Some("daemon:1".to_owned()), ..Observation::default() }
}

#[derive(Clone)]
struct Case {
    workload: Workload,
    problems: Vec<Problem>,
    is_intact: bool,
    suspended: bool,
    notes: Notes,
}

fn compute(case: &Case, previous: Option<&MailLaserStatus>, now: i64) -> MailLaserStatus {
    status(&Situation {
        name: "alarms",
        generation: 7,
        previous,
        suspended: case.suspended,
        problems: &case.problems,
        is_intact: case.is_intact,
        observation: &observed(case.workload.clone()),
        notes: &case.notes,
        webhook_host: HostInForce::Now(Some("example.com".to_owned())),
        routes: Some(0),
        has_own_recipients: true,
        now: Timestamp::from_second(now).unwrap(),
    })
}

/// The conditions as `Ready=True/Available Reconciling=... Stalled=...`.
fn summary(status: &MailLaserStatus) -> String {
    let conditions: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| format!("{}={}/{}", condition.type_, condition.status, condition.reason))
        .collect();
    conditions.join(" ")
}

#[test]
fn every_situation_has_its_conditions() {
    let with = |reason| vec![Problem::new(reason, "because")];
    for (workload, problems, suspended, expected) in [
        (
            Workload::Absent,
            vec![],
            false,
            "Ready=False/RollingOut Reconciling=True/RollingOut Stalled=False/NotStalled",
        ),
        (
            rolling_out(),
            vec![],
            false,
            "Ready=False/RollingOut Reconciling=True/RollingOut Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            vec![],
            false,
            "Ready=True/Available Reconciling=False/UpToDate Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 1),
            vec![],
            false,
            "Ready=True/PartlyAvailable Reconciling=True/PartlyAvailable Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 0),
            vec![],
            false,
            "Ready=False/Unavailable Reconciling=True/Unavailable Stalled=False/NotStalled",
        ),
        (
            rolled_out(0, 0),
            vec![],
            false,
            "Ready=True/ScaledToZero Reconciling=False/UpToDate Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            with(Reason::SecretNotFound),
            false,
            "Ready=False/SecretNotFound Reconciling=True/SecretNotFound Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            with(Reason::ServiceNotFound),
            false,
            "Ready=False/ServiceNotFound Reconciling=True/ServiceNotFound Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            with(Reason::NameConflict),
            false,
            "Ready=False/NameConflict Reconciling=False/NameConflict Stalled=True/NameConflict",
        ),
        (
            rolling_out(),
            with(Reason::InvalidConfiguration),
            false,
            "Ready=False/InvalidConfiguration Reconciling=False/InvalidConfiguration Stalled=True/InvalidConfiguration",
        ),
        (
            rolled_out(2, 2),
            with(Reason::RequestFailed),
            false,
            "Ready=False/RequestFailed Reconciling=True/RequestFailed Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            with(Reason::Forbidden),
            false,
            "Ready=False/Forbidden Reconciling=True/Forbidden Stalled=False/NotStalled",
        ),
        (
            rolled_out(2, 2),
            vec![],
            true,
            "Ready=True/Available Reconciling=False/Suspended Stalled=False/NotStalled",
        ),
        (
            Workload::Absent,
            vec![],
            true,
            "Ready=False/RollingOut Reconciling=False/Suspended Stalled=False/NotStalled",
        ),
    ] {
        let case = Case { workload, problems, is_intact: true, suspended, notes: Notes::default() };
        let status = compute(&case, None, NOW);
        assert_eq!(summary(&status), expected);
        assert_eq!(status.observed_generation, Some(7));
        for condition in &status.conditions {
            assert_eq!(condition.observed_generation, Some(7));
            assert!(!condition.message.is_empty());
        }
    }
}

fn good() -> Case {
    let notes = Notes::default();
    Case { workload: rolled_out(2, 2), problems: vec![], is_intact: true, suspended: false, notes }
}

#[test]
fn drains_and_dead_letters_leave_ready_as_it_is() {
    let draining = Notes { draining: Some("draining x".to_owned()), ..Notes::default() };
    let dead = Notes { dead_letters: Some("dead letters in x".to_owned()), ..Notes::default() };
    let both = Notes { dead_letters: dead.dead_letters.clone(), ..draining.clone() };
    for (workload, notes, expected) in [
        (rolled_out(2, 2), &draining, "Ready=True/Available Reconciling=True/Draining"),
        (rolled_out(2, 2), &both, "Ready=True/Available Reconciling=True/Draining"),
        (rolled_out(2, 2), &dead, "Ready=True/Available Reconciling=False/DeadLetters"),
        (rolled_out(0, 0), &draining, "Ready=True/ScaledToZero Reconciling=True/Draining"),
        (rolled_out(2, 1), &draining, "Ready=True/PartlyAvailable Reconciling=True/Draining"),
        (rolled_out(2, 1), &dead, "Ready=True/PartlyAvailable Reconciling=True/PartlyAvailable"),
        (rolling_out(), &draining, "Ready=False/RollingOut Reconciling=True/RollingOut"),
    ] {
        let status = compute(&Case { workload, notes: notes.clone(), ..good() }, None, NOW);
        assert_eq!(summary(&status), format!("{expected} Stalled=False/NotStalled"));
        let reconciling = &find(&status, ConditionType::Reconciling).unwrap().message;
        assert_eq!(reconciling.contains("draining x"), notes.draining.is_some(), "{reconciling}");
    }
}

#[test]
fn pods_of_the_mode_before_count_until_they_are_gone() {
    let observation = Observation { others: 2, ..observed(rolled_out(2, 2)) };
    let status = status(&Situation {
        name: "alarms",
        generation: 7,
        previous: None,
        suspended: false,
        problems: &[],
        is_intact: true,
        observation: &observation,
        notes: &Notes::default(),
        webhook_host: HostInForce::Unchanged,
        routes: None,
        has_own_recipients: true,
        now: Timestamp::UNIX_EPOCH,
    });
    assert!(summary(&status).starts_with("Ready=False/RollingOut"), "{}", summary(&status));
    assert_eq!(status.replicas, Some(4));
}

#[test]
fn the_same_situation_gives_the_same_status_however_late() {
    let first = compute(&good(), None, NOW);
    assert_eq!(compute(&good(), Some(&first), NOW + 60), first);
}

#[test]
fn only_conditions_that_flip_get_a_new_time() {
    let before = compute(&good(), None, NOW);
    let partly = Case { workload: rolled_out(2, 1), ..good() };
    let after = compute(&partly, Some(&before), NOW + 60);
    let since = |type_| find(&after, type_).unwrap().last_transition_time.0.as_second();
    assert_eq!(since(ConditionType::Ready), NOW);
    assert_eq!(since(ConditionType::Reconciling), NOW + 60);
    assert_eq!(since(ConditionType::Stalled), NOW);
}

#[test]
fn a_failed_request_does_not_take_ready_away_from_what_was_in_force() {
    let failed = Case { problems: vec![Problem::new(Reason::RequestFailed, "503")], ..good() };
    let before = compute(&good(), None, NOW);
    assert!(summary(&compute(&failed, Some(&before), NOW)).starts_with("Ready=True/Available"));
    let broken = Case { is_intact: false, ..failed.clone() };
    assert!(summary(&compute(&broken, Some(&before), NOW)).starts_with("Ready=False/RequestFailed"));
    let mut of_another_version = before;
    for condition in &mut of_another_version.conditions {
        condition.observed_generation = Some(6);
    }
    let status = compute(&failed, Some(&of_another_version), NOW);
    assert!(summary(&status).starts_with("Ready=False/RequestFailed"));
}

#[test]
fn what_does_not_come_by_itself_stalls_in_the_end() {
    let deadline = i64::from(PROGRESS_DEADLINE_SECONDS);
    let missing = Case { problems: vec![Problem::new(Reason::SecretNotFound, "x")], ..good() };
    let first = compute(&missing, Some(&compute(&good(), None, NOW - 9999)), NOW);
    let waiting = compute(&missing, Some(&first), NOW + deadline - 1);
    assert_eq!(waiting, first);
    assert!(is_awaited(&waiting) && !is_awaited(&compute(&good(), None, NOW)));
    let stalled = compute(&missing, Some(&waiting), NOW + deadline);
    assert_eq!(
        summary(&stalled),
        "Ready=False/SecretNotFound Reconciling=False/SecretNotFound Stalled=True/SecretNotFound"
    );
    assert!(!is_awaited(&stalled));
    assert_eq!(compute(&missing, Some(&stalled), NOW + 2 * deadline), stalled);
    assert!(summary(&compute(&good(), Some(&stalled), NOW + 2 * deadline)).starts_with("Ready=True"));
    let forbidden = Case { problems: vec![Problem::new(Reason::Forbidden, "x")], is_intact: false, ..good() };
    let first = compute(&forbidden, Some(&compute(&good(), None, NOW - 9999)), NOW);
    assert!(summary(&first).ends_with("Reconciling=True/Forbidden Stalled=False/NotStalled"));
    let stalled = compute(&forbidden, Some(&first), NOW + deadline);
    assert!(summary(&stalled).ends_with("Stalled=True/Forbidden"), "{}", summary(&stalled));
    for reason in [Reason::RequestFailed, Reason::WaitingForDeletion, Reason::Growing] {
        let passing = Case { problems: vec![Problem::new(reason, "x")], ..good() };
        let status = compute(&passing, Some(&stalled), NOW + 2 * deadline);
        assert!(summary(&status).ends_with("Stalled=False/NotStalled"), "{}", summary(&status));
    }
}

#[test]
fn pods_that_are_left_as_they_are_keep_their_host() {
    let before = compute(&good(), None, NOW);
    let situation = Situation {
        name: "alarms",
        generation: 8,
        previous: Some(&before),
        suspended: true,
        problems: &[],
        is_intact: true,
        observation: &observed(rolled_out(2, 2)),
        notes: &Notes::default(),
        webhook_host: HostInForce::Unchanged,
        routes: None,
        has_own_recipients: true,
        now: Timestamp::UNIX_EPOCH,
    };
    assert_eq!(status(&situation).webhook_host.as_deref(), Some("example.com"));
}

#[test]
fn the_numbers_are_those_of_the_scale_subresource() {
    let status = compute(&Case { workload: rolling_out(), ..good() }, None, NOW);
    assert_eq!((status.replicas, status.ready_replicas), (Some(3), Some(2)));
    assert_eq!(status.selector.as_deref(), Some("mail-laser.dev/name=alarms"));
    assert_eq!(status.image.as_deref(), Some("daemon:1"));
}

#[test]
fn messages_are_bounded() {
    let long = Problem::new(Reason::Refused, "x".repeat(10_000));
    let status = compute(&Case { problems: vec![long], ..good() }, None, NOW);
    assert_eq!(find(&status, ConditionType::Stalled).unwrap().message.len(), MESSAGE_LENGTH_MAX);
}
