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

pub mod workload;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use mail_laser_crds::MailLaserStatus;
use mail_laser_crds::conditions::{ConditionType, Reason};

use self::workload::{Counts, Observation, Workload};
use crate::problem::{Problem, worst};
use crate::resources::deployment::PROGRESS_DEADLINE_SECONDS;
use crate::resources::labels;
use crate::spool::report::Notes;

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
mod tests;
