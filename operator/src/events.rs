//! Events, for what a person should notice: a resource that became ready, or stopped being so, or stalled.
//!
//! They are made from the step from one status to the next, so a state that lasts is told once, also over a
//! restart of the operator.

use kube::runtime::events::{Event, EventType};
use mail_laser_crds::MailLaserStatus;
use mail_laser_crds::conditions::{ConditionType, Reason};

use crate::status::find;

/// Longest note of an Event, in bytes: the API server permits 1024.
const NOTE_BYTES_MAX: usize = 1024;

/// The Event for the step from `previous` to `current`, if it is worth one.
pub fn event(previous: Option<&MailLaserStatus>, current: &MailLaserStatus) -> Option<Event> {
    let ready = find(current, ConditionType::Ready)?;
    let before = previous.and_then(|status| find(status, ConditionType::Ready));
    if before.is_some_and(|before| before.reason == ready.reason && before.status == ready.status) {
        return None;
    }
    let in_order = [Reason::RollingOut, Reason::WaitingForDeletion].map(Reason::as_str);
    let type_ = if ready.status == "True" || in_order.contains(&ready.reason.as_str()) {
        EventType::Normal
    } else {
        EventType::Warning
    };
    Some(Event {
        type_,
        reason: ready.reason.clone(),
        note: Some(cut(&ready.message, NOTE_BYTES_MAX).to_owned()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
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
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn ready(status: &str, reason: Reason, message: &str) -> MailLaserStatus {
        let condition = Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.as_str().to_owned(),
            message: message.to_owned(),
            observed_generation: Some(1),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        MailLaserStatus { conditions: vec![condition], ..MailLaserStatus::default() }
    }

    #[test]
    fn a_state_that_lasts_is_told_once() {
        let missing = ready("False", Reason::SecretNotFound, "a");
        let event = event(None, &missing).unwrap();
        assert_eq!((event.type_, event.reason.as_str()), (EventType::Warning, "SecretNotFound"));
        assert!(super::event(Some(&missing), &ready("False", Reason::SecretNotFound, "b")).is_none());
    }

    #[test]
    fn what_is_in_order_is_no_warning() {
        let rolling = ready("False", Reason::RollingOut, "");
        let available = ready("True", Reason::Available, "");
        assert_eq!(event(None, &rolling).unwrap().type_, EventType::Normal);
        assert_eq!(event(Some(&rolling), &available).unwrap().type_, EventType::Normal);
    }

    #[test]
    fn a_note_is_short_enough_and_whole() {
        let event = event(None, &ready("False", Reason::Refused, &"é".repeat(600))).unwrap();
        assert_eq!(event.note.unwrap(), "é".repeat(512));
        assert_eq!(cut("aé", 2), "a");
    }
}
