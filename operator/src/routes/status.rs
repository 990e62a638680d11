//! From what gateways say of a route to the status that is written: pure.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use mail_laser_crds::route_conditions::{RouteConditionType, RouteReason};
use mail_laser_crds::{CONTROLLER_NAME, MailRoute, MailRouteStatus, ParentRef, RouteParentStatus};

use super::caches::namespace_of;
use super::table::{Claim, Verdict};
use crate::key::Key;
use crate::status::{condition, cut};

/// What is known of a route at one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The gateway has said this.
    Verdict(Verdict),
    /// There is no such gateway.
    NoParent,
    /// Nothing yet, or it is somebody else's: what the status says stays.
    Unknown,
}

/// The status of a route, given what is known of it at each of its parents.
pub fn status(route: &MailRoute, answers: &[(ParentRef, Answer)], now: Timestamp) -> MailRouteStatus {
    let previous = route.status.clone().unwrap_or_default();
    let (own, others): (Vec<_>, Vec<_>) =
        previous.parents.into_iter().partition(|parent| parent.controller_name == CONTROLLER_NAME);
    let generation = route.metadata.generation.unwrap_or_default();
    let parents = answers.iter().filter_map(|(parent_ref, answer)| {
        let before = own.iter().find(|before| before.parent_ref == *parent_ref);
        let (generation, claims) = match answer {
            Answer::Verdict(verdict) => (
                verdict.generation,
                [verdict.accepted.clone(), verdict.resolved.clone(), verdict.programmed.clone()],
            ),
            Answer::NoParent => (generation, no_parent(route, parent_ref)),
            Answer::Unknown => return before.cloned(),
        };
        let conditions = RouteConditionType::ALL.iter().zip(claims).map(|(type_, claim)| {
            let before = before.and_then(|before| find(before, *type_));
            let Claim { holds, reason, message } = claim;
            condition(before, type_.as_str(), holds, reason.as_str(), &message, generation, now)
        });
        Some(RouteParentStatus {
            parent_ref: parent_ref.clone(),
            controller_name: CONTROLLER_NAME.to_owned(),
            conditions: conditions.collect(),
        })
    });
    let parents = parents.chain(others).collect();
    let verdicts = answers.iter().filter_map(|(_, answer)| match answer {
        Answer::Verdict(verdict) => Some(verdict),
        Answer::NoParent | Answer::Unknown => None,
    });
    // A gateway may know of a host what another one does not permit.
    let host = verdicts.map(|verdict| verdict.host.clone()).reduce(Option::or);
    MailRouteStatus { destination: host.unwrap_or(previous.destination), parents }
}

/// Whether the status of a route says what a gateway has to say to it; nothing, where it is not one of the route's.
pub fn is_told(route: &MailRoute, gateway: &Key, verdict: Option<&Verdict>) -> bool {
    let told = of_gateway(route, gateway);
    let Some(verdict) = verdict else { return told.is_none() };
    let is_true = |holds| if holds { "True" } else { "False" };
    let claims = [&verdict.accepted, &verdict.resolved, &verdict.programmed];
    let says = |parent: &RouteParentStatus| {
        RouteConditionType::ALL.iter().zip(claims).all(|(type_, claim)| {
            find(parent, *type_).is_some_and(|condition| {
                condition.status == is_true(claim.holds)
                    && condition.reason == claim.reason.as_str()
                    && condition.message == cut(&claim.message)
                    && condition.observed_generation == Some(verdict.generation)
            })
        })
    };
    let destination = route.status.as_ref().and_then(|status| status.destination.as_ref());
    told.is_some_and(says) && (verdict.host.is_none() || verdict.host.as_ref() == destination)
}

/// The generation of the route that a gateway's pods have, by its status.
pub fn programmed_generation(route: &MailRoute, gateway: &Key) -> Option<i64> {
    let condition = find(of_gateway(route, gateway)?, RouteConditionType::Programmed)?;
    condition.observed_generation.filter(|_| condition.status == "True")
}

/// What the status of a route says of a gateway.
fn of_gateway<'r>(route: &'r MailRoute, (namespace, name): &Key) -> Option<&'r RouteParentStatus> {
    route.status.as_ref()?.parents.iter().find(|it| {
        let parent = &it.parent_ref;
        it.controller_name == CONTROLLER_NAME
            && (namespace_of(parent, route), &parent.name) == (namespace.as_str(), name)
    })
}

/// A condition of a parent.
pub fn find(parent: &RouteParentStatus, type_: RouteConditionType) -> Option<&Condition> {
    parent.conditions.iter().find(|condition| condition.type_ == type_.as_str())
}

fn no_parent(route: &MailRoute, parent: &ParentRef) -> [Claim; 3] {
    let own = route.namespace().unwrap_or_default();
    let namespace = parent.namespace.as_deref().unwrap_or(&own);
    let missing = format!(
        "there is no MailLaser {} in namespace {namespace}: create it, or correct spec.parentRefs",
        parent.name
    );
    [
        Claim::new(false, RouteReason::NoMatchingParent, missing),
        Claim::new(false, RouteReason::Pending, "nothing is looked up without a gateway"),
        Claim::new(false, RouteReason::NoMatchingParent, "there are no pods without a gateway"),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn route(status: &serde_json::Value) -> MailRoute {
        serde_json::from_value(json!({
            "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailRoute",
            "metadata": {"name": "r", "namespace": "b", "generation": 2},
            "spec": {"parentRefs": [{"name": "edge"}], "recipients": ["a@b"], "webhook": {}},
            "status": status,
        }))
        .unwrap()
    }

    fn verdict() -> Answer {
        let yes = |reason| Claim::new(true, reason, "because");
        Answer::Verdict(Verdict {
            generation: 2,
            accepted: yes(RouteReason::Accepted),
            resolved: yes(RouteReason::ResolvedRefs),
            programmed: yes(RouteReason::Programmed),
            host: Some("api.example.com".to_owned()),
        })
    }

    fn parent(name: &str) -> ParentRef {
        ParentRef { name: name.to_owned(), namespace: None }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_status_tells_which_generation_the_pods_have() {
        let told = |answer| {
            let status = status(&route(&json!({})), &[(parent("edge"), answer)], at(100));
            let gateway = |name: &str| ("b".to_owned(), name.to_owned());
            let route = route(&json!(status));
            [gateway("edge"), gateway("other")].map(|gateway| programmed_generation(&route, &gateway))
        };
        assert_eq!(told(verdict()), [Some(2), None]);
        assert_eq!(told(Answer::NoParent), [None, None]);
        assert_eq!(told(Answer::Unknown), [None, None]);
    }

    #[test]
    fn each_parent_has_its_entry_and_those_of_others_stay() {
        let theirs =
            json!({"parentRef": {"name": "edge"}, "controllerName": "example.com/other", "conditions": []});
        let gone =
            json!({"parentRef": {"name": "gone"}, "controllerName": CONTROLLER_NAME, "conditions": []});
        let route = route(&json!({"parents": [theirs, gone]}));
        let answers = [(parent("edge"), verdict()), (parent("none"), Answer::NoParent)];
        let status = status(&route, &answers, at(100));
        let summary: Vec<_> = status
            .parents
            .iter()
            .map(|parent| {
                let conditions: Vec<_> = parent
                    .conditions
                    .iter()
                    .map(|it| format!("{}={}/{}", it.type_, it.status, it.reason))
                    .collect();
                format!("{} {} {}", parent.parent_ref.name, parent.controller_name, conditions.join(" "))
            })
            .collect();
        assert_eq!(
            summary,
            [
                format!(
                    "edge {CONTROLLER_NAME} Accepted=True/Accepted ResolvedRefs=True/ResolvedRefs \
                     Programmed=True/Programmed"
                ),
                format!(
                    "none {CONTROLLER_NAME} Accepted=False/NoMatchingParent ResolvedRefs=False/Pending \
                     Programmed=False/NoMatchingParent"
                ),
                "edge example.com/other ".to_owned(),
            ]
        );
        assert_eq!(status.destination.as_deref(), Some("api.example.com"));
        let message = &find(&status.parents[1], RouteConditionType::Accepted).unwrap().message;
        assert!(message.contains("no MailLaser none in namespace b"), "{message}");
        assert!(status.parents[0].conditions.iter().all(|it| it.observed_generation == Some(2)));
    }

    #[test]
    fn a_status_that_says_all_but_where_mail_goes_now_is_outdated() {
        let gateway = ("b".to_owned(), "edge".to_owned());
        let told = route(&json!(status(&route(&json!({})), &[(parent("edge"), verdict())], at(100))));
        let with_host = |host: Option<&str>| {
            let Answer::Verdict(verdict) = verdict() else { unreachable!() };
            Verdict { host: host.map(str::to_owned), ..verdict }
        };
        let is_told = |host| is_told(&told, &gateway, Some(&with_host(host)));
        assert!(is_told(Some("api.example.com")) && !is_told(Some("new.example.com")));
        assert!(is_told(None), "another gateway may know of one");
        let answers = [None, Some("new.example.com"), None]
            .map(|host| (parent("edge"), Answer::Verdict(with_host(host))));
        let destination = |answers| status(&told, answers, at(200)).destination;
        assert_eq!(destination(&answers).as_deref(), Some("new.example.com"));
        assert_eq!(destination(&answers[..1]), None);
        assert_eq!(destination(&[]).as_deref(), Some("api.example.com"));
    }

    #[test]
    fn what_has_not_changed_keeps_its_time_and_what_is_not_known_stays() {
        let first = status(&route(&json!({})), &[(parent("edge"), verdict())], at(100));
        let again = route(&json!(first));
        assert_eq!(status(&again, &[(parent("edge"), verdict())], at(200)), first);
        assert_eq!(status(&again, &[(parent("edge"), Answer::Unknown)], at(200)), first);
        assert_eq!(status(&again, &[], at(200)).parents, []);
    }
}
