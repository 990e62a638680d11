//! From what was found to the status that is written: pure.
//!
//! - All three conditions are always there, each with the generation that it is about; the time of the last
//!   transition changes with `status` alone.
//! - `Ready` is `False` while a change of the pods' template rolls out, although mail is accepted all along:
//!   the resource as it is written is not in force yet. It stays `True` when only the number of pods changes
//!   or some of them are not ready, as long as one is: what is accepted then is what the resource says.
//! - While `Stalled` is `True`, nothing is on its way: `Reconciling` is `False` and `Ready` is, too.
//! - What may still come by itself is waited for as long as pods are. Then it stalls, so that GitOps tools and
//!   people see what is broken as broken; if it comes after all, the resource goes on.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mail_laser_crds::MailLaserStatus;
use mail_laser_crds::conditions::{ConditionType, Reason};

use crate::problem::{Problem, worst};
use crate::resources::deployment::PROGRESS_DEADLINE_SECONDS;
use crate::resources::labels;
use crate::spool::report::Notes;
use crate::workload::{Counts, Observation, Workload};

/// Longest message of a condition, in characters; the schema permits 32768.
const MESSAGE_LENGTH_MAX: usize = 4096;

/// Everything that the status depends on.
pub struct Situation<'a> {
    /// Name of the resource.
    pub name: &'a str,
    /// Its generation.
    pub generation: i64,
    /// Its status so far.
    pub previous: Option<&'a MailLaserStatus>,
    /// Whether it is suspended.
    pub suspended: bool,
    /// What was found on the way, apart from the pods.
    pub problems: &'a [Problem],
    /// Whether nothing that had to be written failed to be.
    pub is_intact: bool,
    /// What the pods are up to.
    pub observation: &'a Observation,
    /// What is to be said of claims.
    pub notes: &'a Notes,
    /// The host of the webhook that is in force, if that is known anew.
    pub webhook_host: HostInForce,
    /// How many routes have a recipient, if that is known anew.
    pub routes: Option<usize>,
    /// Whether mail is taken for somebody whatever routes there are.
    pub has_own_recipients: bool,
    /// The time.
    pub now: Timestamp,
}

/// What is known of the host of the webhook that is in force.
#[derive(Clone, Debug, PartialEq)]
pub enum HostInForce {
    /// It is this, or cannot be known.
    Now(Option<String>),
    /// The pods were left as they are, and with them the host.
    Unchanged,
}

/// A condition without its times.
#[derive(Clone, Debug, PartialEq)]
struct Claim {
    holds: bool,
    reason: Reason,
    message: String,
}

impl Claim {
    fn new(holds: bool, reason: Reason, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}

/// The three conditions.
struct Verdict {
    ready: Claim,
    reconciling: Claim,
    stalled: Claim,
}

/// The status of a resource.
pub fn status(situation: &Situation<'_>) -> MailLaserStatus {
    let verdict = verdict(situation);
    let counts = counts(&situation.observation.workload);
    MailLaserStatus {
        observed_generation: Some(situation.generation),
        replicas: Some(counts.total + situation.observation.others),
        ready_replicas: Some(counts.ready),
        selector: Some(labels::selector_text(situation.name)),
        webhook_host: match &situation.webhook_host {
            HostInForce::Now(host) => host.clone(),
            HostInForce::Unchanged => situation.previous.and_then(|status| status.webhook_host.clone()),
        },
        routes: routes(situation),
        image: situation.observation.image.clone(),
        conditions: [
            (ConditionType::Ready, verdict.ready),
            (ConditionType::Reconciling, verdict.reconciling),
            (ConditionType::Stalled, verdict.stalled),
        ]
        .map(|(type_, claim)| {
            let before = situation.previous.and_then(|status| find(status, type_));
            let (holds, reason) = (claim.holds, claim.reason.as_str());
            condition(
                before,
                type_.as_str(),
                holds,
                reason,
                &claim.message,
                situation.generation,
                situation.now,
            )
        })
        .into(),
    }
}

/// How many routes have a recipient.
fn routes(situation: &Situation<'_>) -> Option<i32> {
    let known = situation.routes.map(|number| i32::try_from(number).unwrap_or(i32::MAX));
    known.or_else(|| situation.previous.and_then(|status| status.routes))
}

/// A condition; `previous` is the one of its type that there was, whose time it keeps while `status` is the same.
pub(crate) fn condition(
    previous: Option<&Condition>,
    type_: &str,
    holds: bool,
    reason: &str,
    message: &str,
    generation: i64,
    now: Timestamp,
) -> Condition {
    let status = if holds { "True" } else { "False" };
    let since = previous.filter(|it| it.status == status).map(|it| it.last_transition_time.clone());
    Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: cut(message),
        observed_generation: Some(generation),
        last_transition_time: since.unwrap_or_else(|| Time(whole_seconds(now))),
    }
}

/// As much of a message as a condition may have.
pub(crate) fn cut(message: &str) -> String {
    message.chars().take(MESSAGE_LENGTH_MAX).collect()
}

/// What the API's times hold; more would be lost on the way and look like a change.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A condition of a status.
pub fn find(status: &MailLaserStatus, type_: ConditionType) -> Option<&Condition> {
    status.conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

/// Whether the resource is to become ready by itself, within a time.
pub fn is_awaited(status: &MailLaserStatus) -> bool {
    let is = |type_, value| find(status, type_).is_some_and(|condition| condition.status == value);
    is(ConditionType::Ready, "False") && is(ConditionType::Reconciling, "True")
}

fn verdict(situation: &Situation<'_>) -> Verdict {
    let of_pods = with_notes(with_recipients(of_pods(situation.observation), situation), situation.notes);
    if situation.suspended {
        return Verdict {
            reconciling: Claim::new(
                false,
                Reason::Suspended,
                "spec.suspend is true: nothing is changed until it is false",
            ),
            stalled: not_stalled(),
            ..of_pods
        };
    }
    let mut problems = situation.problems.to_vec();
    problems.extend(situation.observation.problem.clone());
    match worst(&problems) {
        None => of_pods,
        Some(problem) if problem.stalls() || is_overdue(situation, &problem) => Verdict {
            ready: Claim::new(false, problem.reason, &*problem.message),
            reconciling: Claim::new(false, problem.reason, "nothing is on its way: a person has to act"),
            stalled: Claim::new(true, problem.reason, problem.message),
        },
        Some(problem) => Verdict {
            ready: if matches!(problem.reason, Reason::RequestFailed | Reason::Forbidden)
                && was_ready(situation)
            {
                of_pods.ready
            } else {
                Claim::new(false, problem.reason, &*problem.message)
            },
            reconciling: Claim::new(true, problem.reason, problem.message),
            stalled: not_stalled(),
        },
    }
}

/// A gateway that takes mail for nobody is in order, but not what most would expect.
fn with_recipients(of_pods: Verdict, situation: &Situation<'_>) -> Verdict {
    let is_empty = !situation.has_own_recipients && routes(situation) == Some(0);
    if !is_empty || of_pods.ready.reason != Reason::Available {
        return of_pods;
    }
    let message = format!(
        "{}, and no MailRoute has a recipient here: all mail is refused with 550",
        of_pods.ready.message
    );
    Verdict { ready: Claim::new(true, Reason::NoRecipients, message), ..of_pods }
}

/// A drain is on its way after all else is, and dead letters are there when nothing is on its way any more. Neither
/// takes `Ready` away: mail is accepted.
fn with_notes(of_pods: Verdict, notes: &Notes) -> Verdict {
    let Claim { holds, reason, message } = of_pods.reconciling;
    let reconciling = match (&notes.draining, &notes.dead_letters) {
        // With less replicas than there should be, the drain is what they wait for.
        (Some(text), _) if reason == Reason::PartlyAvailable => {
            Claim::new(true, Reason::Draining, format!("{text}; {message}"))
        }
        (Some(text), _) if holds => Claim::new(true, reason, format!("{message}; {text}")),
        (Some(text), _) => Claim::new(true, Reason::Draining, text),
        (None, Some(text)) if !holds => Claim::new(false, Reason::DeadLetters, text),
        (None, _) => Claim::new(holds, reason, message),
    };
    Verdict { reconciling, ..of_pods }
}

/// Whether what could have come by itself did not, in the time that pods have to become ready.
fn is_overdue(situation: &Situation<'_>, problem: &Problem) -> bool {
    let not_ready = situation
        .previous
        .and_then(|status| find(status, ConditionType::Ready))
        .filter(|ready| ready.status == "False");
    let deadline = SignedDuration::from_secs(PROGRESS_DEADLINE_SECONDS.into());
    problem.is_awaited()
        && not_ready
            .is_some_and(|ready| situation.now.duration_since(ready.last_transition_time.0) >= deadline)
}

/// Whether this very version of the resource was in force already, and still is: what failed was only to
/// look whether anything has changed.
fn was_ready(situation: &Situation<'_>) -> bool {
    let ready = situation.previous.and_then(|status| find(status, ConditionType::Ready));
    situation.is_intact
        && ready.is_some_and(|ready| {
            ready.status == "True" && ready.observed_generation == Some(situation.generation)
        })
}

fn not_stalled() -> Claim {
    Claim::new(false, Reason::NotStalled, "nobody has to act")
}

fn counts(workload: &Workload) -> Counts {
    match workload {
        Workload::Absent => Counts::default(),
        Workload::RollingOut(counts) | Workload::RolledOut(counts) => *counts,
    }
}

fn of_pods(observation: &Observation) -> Verdict {
    let counts = counts(&observation.workload);
    let Counts { wanted, total, updated, ready } = counts;
    let on_its_way = |ready: bool, reason: Reason, message: String| Verdict {
        ready: Claim::new(ready, reason, message.clone()),
        reconciling: Claim::new(true, reason, message),
        stalled: not_stalled(),
    };
    let settled = |reason: Reason, message: String| Verdict {
        ready: Claim::new(true, reason, message),
        reconciling: Claim::new(false, Reason::UpToDate, "everything is as the resource says"),
        stalled: not_stalled(),
    };
    let hint = observation.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
    match &observation.workload {
        Workload::Absent => on_its_way(false, Reason::RollingOut, "there are no pods yet".to_owned()),
        _ if wanted == 0 && total + observation.others == 0 => settled(
            Reason::ScaledToZero,
            "spec.replicas is 0: no pod runs, and no mail is accepted".to_owned(),
        ),
        _ if wanted == 0 => {
            let left = total + observation.others;
            on_its_way(false, Reason::RollingOut, format!("{left} pods are still there"))
        }
        Workload::RollingOut(_) => on_its_way(
            false,
            Reason::RollingOut,
            format!(
                "{updated} of {wanted} replicas run what the resource says, {ready} of {total} pods are ready{hint}"
            ),
        ),
        Workload::RolledOut(_) if observation.others > 0 => on_its_way(
            false,
            Reason::RollingOut,
            format!("{} pods of the mode of delivery before are still there", observation.others),
        ),
        Workload::RolledOut(_) if ready >= wanted => {
            settled(Reason::Available, format!("{ready} of {wanted} replicas are ready"))
        }
        Workload::RolledOut(_) => {
            let reason = if ready > 0 { Reason::PartlyAvailable } else { Reason::Unavailable };
            on_its_way(ready > 0, reason, format!("{ready} of {wanted} replicas are ready{hint}"))
        }
    }
}

#[cfg(test)]
mod tests {
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
        let forbidden =
            Case { problems: vec![Problem::new(Reason::Forbidden, "x")], is_intact: false, ..good() };
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
}
