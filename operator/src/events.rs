//! Events, for what a person should notice: a resource that became ready, or stopped being so, or stalled; and
//! mail that is left where no pod is.
//!
//! They are made from the step from one status to the next, so a state that lasts is told once, also over a
//! restart of the operator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType};
use mail_laser_crds::conditions::{ConditionType, Reason};
use mail_laser_crds::{MailLaserStatus, NAME_LABEL};

use crate::spool::report::list;
use crate::status::find;

/// Longest note of an Event, in bytes: the API server permits 1024.
const NOTE_BYTES_MAX: usize = 1024;

/// How many claims an Event names: of the longest name, with the rest of the note, as many as it can hold.
const CLAIMS_NAMED_MAX: usize = 12;

/// What is in order, and needs no warning.
const IN_ORDER: [Reason; 5] =
    [Reason::RollingOut, Reason::WaitingForDeletion, Reason::ClaimPending, Reason::Growing, Reason::Draining];

/// The Events for the step from `previous` to `current`.
pub fn events(previous: Option<&MailLaserStatus>, current: &MailLaserStatus) -> Vec<Event> {
    let mut events = Vec::new();
    events.extend(changed(previous, current, ConditionType::Ready));
    events.extend(changed(previous, current, ConditionType::Reconciling).filter(|condition| {
        [Reason::Draining, Reason::DeadLetters].iter().any(|reason| reason.as_str() == condition.reason)
    }));
    events.into_iter().map(event).collect()
}

/// The condition, if it is another than before.
fn changed<'a>(
    previous: Option<&MailLaserStatus>,
    current: &'a MailLaserStatus,
    type_: ConditionType,
) -> Option<&'a Condition> {
    let before = previous.and_then(|status| find(status, type_));
    find(current, type_)
        .filter(|now| before.is_none_or(|before| before.reason != now.reason || before.status != now.status))
}

fn event(condition: &Condition) -> Event {
    let is_ready = condition.type_ == ConditionType::Ready.as_str() && condition.status == "True";
    let in_order = IN_ORDER.iter().any(|reason| reason.as_str() == condition.reason);
    Event {
        type_: if is_ready || in_order { EventType::Normal } else { EventType::Warning },
        reason: condition.reason.clone(),
        note: Some(cut_note(&condition.message)),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

/// The Event for a resource that is gone, and the claims that stay.
pub fn left_behind(name: &str, claims: &[String]) -> Option<Event> {
    let names = list(claims, CLAIMS_NAMED_MAX)?;
    let note = format!(
        "claims stay, with the mail that was not delivered: {names}. A MailLaser {name} in this namespace takes them \
         up again; to give the mail up, run `kubectl delete pvc --selector {NAME_LABEL}={name}`"
    );
    Some(Event {
        type_: EventType::Normal,
        reason: "ClaimsLeft".to_owned(),
        note: Some(cut_note(&note)),
        action: "Delete".to_owned(),
        secondary: None,
    })
}

/// As much of a text as the note of an Event may have.
pub(crate) fn cut_note(text: &str) -> String {
    cut(text, NOTE_BYTES_MAX).to_owned()
}

/// At most `bytes_max` bytes of a text, ending between two characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn of(type_: ConditionType, status: &str, reason: Reason, message: &str) -> MailLaserStatus {
        let condition = Condition {
            type_: type_.as_str().to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        MailLaserStatus { conditions: vec![condition], ..MailLaserStatus::default() }
    }

    fn ready(status: &str, reason: Reason, message: &str) -> MailLaserStatus {
        of(ConditionType::Ready, status, reason, message)
    }

    fn only(previous: Option<&MailLaserStatus>, current: &MailLaserStatus) -> Event {
        let mut events = events(previous, current);
        assert_eq!(events.len(), 1);
        events.remove(0)
    }

    #[test]
    fn a_state_that_lasts_is_told_once() {
        let missing = ready("False", Reason::SecretNotFound, "a");
        let event = only(None, &missing);
        assert_eq!((event.type_, event.reason.as_str()), (EventType::Warning, "SecretNotFound"));
        assert!(events(Some(&missing), &ready("False", Reason::SecretNotFound, "b")).is_empty());
    }

    #[test]
    fn what_is_in_order_is_no_warning() {
        let rolling = ready("False", Reason::RollingOut, "");
        let available = ready("True", Reason::Available, "");
        assert_eq!(only(None, &rolling).type_, EventType::Normal);
        assert_eq!(only(Some(&rolling), &available).type_, EventType::Normal);
    }

    #[test]
    fn mail_that_is_left_is_told_once() {
        let reconciling = |holds, reason| of(ConditionType::Reconciling, holds, reason, "claim x");
        let well = reconciling("False", Reason::UpToDate);
        let draining = reconciling("True", Reason::Draining);
        let dead = reconciling("False", Reason::DeadLetters);
        assert!(events(None, &well).is_empty());
        assert_eq!(only(Some(&well), &draining).type_, EventType::Normal);
        let event = only(Some(&draining), &dead);
        assert_eq!((event.type_, event.note.as_deref()), (EventType::Warning, Some("claim x")));
        assert!(events(Some(&dead), &dead).is_empty());
        assert!(events(Some(&dead), &well).is_empty());
    }

    #[test]
    fn claims_that_stay_are_named() {
        assert!(left_behind("alarms", &[]).is_none());
        let event = left_behind("alarms", &["spool-alarms-0".to_owned()]).unwrap();
        let note = event.note.unwrap();
        assert!(note.contains("spool-alarms-0.") && note.contains("mail-laser.dev/name=alarms"), "{note}");
    }

    #[test]
    fn a_note_is_short_enough_and_whole() {
        let event = only(None, &ready("False", Reason::Refused, &"é".repeat(600)));
        assert_eq!(event.note.unwrap(), "é".repeat(512));
        assert_eq!(cut("aé", 2), "a");
    }
}
