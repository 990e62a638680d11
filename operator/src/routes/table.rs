//! What comes of all routes of a gateway: what the pods are given, and what each route is told. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mail_laser_crds::MailRoute;
use mail_laser_crds::route_conditions::RouteReason;
use mail_laser_routes::files::Entry;

use super::attach::{Attachment, Gateway, Labels, Obstacle, Why, attach};
use super::webhook::{Known, Resolved, Unresolved, resolve};
use crate::key::{Key, key};

/// How many of its obstacles a route is told; the rest is a number.
const OBSTACLES_TOLD: usize = 5;

/// A condition without its type and times.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// Whether it is `True`.
    pub holds: bool,
    /// Its reason.
    pub reason: RouteReason,
    /// What it says.
    pub message: String,
}

impl Claim {
    /// A condition.
    pub fn new(holds: bool, reason: RouteReason, message: impl Into<String>) -> Self {
        Self { holds, reason, message: message.into() }
    }
}

/// What a gateway has to say to a route.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The generation of the route that it is about.
    pub generation: i64,
    /// Whether the route has a recipient here.
    pub accepted: Claim,
    /// Whether its webhook can be used.
    pub resolved: Claim,
    /// Whether the pods have it.
    pub programmed: Claim,
    /// The host of its webhook.
    pub host: Option<String>,
}

/// What comes of all routes of a gateway.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// For each route.
    pub verdicts: BTreeMap<Key, Verdict>,
    /// What the pods are given, of the older routes first.
    pub entries: Vec<Entry>,
}

/// How it went to give the pods what they are to have.
#[derive(Clone, Debug, PartialEq)]
pub enum Programming {
    /// They have it, but for those that had no room.
    Done(BTreeSet<String>),
    /// It could not be written.
    Failed(String),
}

impl Evaluation {
    /// How many routes have a recipient.
    pub fn accepted(&self) -> usize {
        self.entries.len()
    }

    /// What each route is told of the pods; `before` gives what it was told last, and `status` the generation that the
    /// pods have by its status.
    pub fn program(
        &mut self,
        programming: &Programming,
        before: impl Fn(&Key) -> Option<Verdict>,
        status: impl Fn(&Key) -> Option<i64>,
    ) {
        let has_failed = matches!(programming, Programming::Failed(_));
        self.verdicts.retain(|key, verdict| {
            let before = before(key);
            // What the status says from before this process stays until more is known.
            if has_failed && before.is_none() && status(key) == Some(verdict.generation) {
                return false;
            }
            // A request that failed takes nothing from the pods that they have.
            let same = |before: &Verdict| {
                let about = |it: &Verdict| (it.generation, it.accepted.clone(), it.resolved.clone());
                has_failed && about(before) == about(verdict)
            };
            let told = before.filter(same).map(|before| before.programmed);
            verdict.programmed = told.unwrap_or_else(|| programmed(key, verdict, programming));
            true
        });
    }
}

fn programmed((namespace, name): &Key, verdict: &Verdict, programming: &Programming) -> Claim {
    if !verdict.accepted.holds {
        return not_accepted(&verdict.accepted);
    }
    match programming {
        Programming::Done(left_out) if left_out.contains(&format!("{namespace}/{name}")) => Claim::new(
            false,
            RouteReason::TooManyRoutes,
            "the part of the gateway's table that the route is in is full, and this namespace has most of it: no mail is \
             taken for the route. Remove routes, make what they refer to smaller (a bundle of certificates, above \
             all), or attach some to another gateway",
        ),
        Programming::Done(_) if verdict.resolved.holds => {
            Claim::new(true, RouteReason::Programmed, "the gateway's pods are given the route")
        }
        Programming::Done(_) => Claim::new(
            false,
            RouteReason::Deferred,
            "mail for the recipients is answered with 451 until the webhook can be used: see ResolvedRefs",
        ),
        Programming::Failed(why) => Claim::new(
            false,
            RouteReason::Pending,
            format!("the gateway's table could not be written, which is tried again: {why}"),
        ),
    }
}

fn not_accepted(accepted: &Claim) -> Claim {
    Claim::new(false, accepted.reason, "the gateway's pods do not have the route")
}

/// What comes of these routes at a gateway; `labels` gives those of a namespace.
pub fn evaluate(
    gateway: &Gateway,
    routes: &[&MailRoute],
    labels: impl Fn(&str) -> Labels,
    known: &impl Known,
) -> Evaluation {
    let mut evaluation = Evaluation::default();
    let mut routes = routes.to_vec();
    routes.sort_by_cached_key(|route| {
        // Of two of the same second it is always the same one.
        (route.metadata.creation_timestamp.as_ref().map(|created| created.0), key(*route))
    });
    for (route, attachment) in routes.iter().zip(attach(gateway, &routes, labels)) {
        let resolved = resolve(route, attachment.allow_private, known);
        let (namespace, name) = key(*route);
        let mut verdict = Verdict {
            generation: route.metadata.generation.unwrap_or_default(),
            accepted: accepted(&attachment),
            resolved: claim(&resolved),
            programmed: Claim::new(false, RouteReason::Pending, "the gateway's table is about to be written"),
            host: resolved.as_ref().ok().and_then(|resolved| resolved.host.clone()),
        };
        if verdict.accepted.holds {
            let entry = Entry {
                name: format!("{namespace}/{name}"),
                recipients: attachment.recipients,
                webhook: resolved.ok().map(|resolved| resolved.webhook),
            };
            evaluation.entries.push(entry);
        } else {
            verdict.programmed = not_accepted(&verdict.accepted);
        }
        evaluation.verdicts.insert((namespace, name), verdict);
    }
    evaluation
}

fn accepted(attachment: &Attachment) -> Claim {
    let Attachment { recipients, obstacles, .. } = attachment;
    match (recipients.len(), obstacles.first()) {
        (has, None) => Claim::new(
            true,
            RouteReason::Accepted,
            format!("mail for all {has} recipients is taken for this route"),
        ),
        (0, Some(first)) => Claim::new(false, reason(&first.why), told(obstacles)),
        (has, Some(_)) => {
            let all = has + obstacles.len();
            let told = told(obstacles);
            Claim::new(
                true,
                RouteReason::PartlyAccepted,
                format!("mail for {has} of {all} recipients is taken for this route; {told}"),
            )
        }
    }
}

/// The reason of a route that has nothing, by what it does not have first.
fn reason(why: &Why) -> RouteReason {
    match why {
        Why::Unreadable(_) => RouteReason::InvalidRecipients,
        Why::NamespaceNotAllowed | Why::DomainNotAllowed => RouteReason::NotAllowed,
        Why::OfTheGateway | Why::Taken(_) => RouteReason::Conflict,
    }
}

fn told(obstacles: &[Obstacle]) -> String {
    let mut text = String::new();
    for (number, Obstacle { recipient, why }) in obstacles.iter().take(OBSTACLES_TOLD).enumerate() {
        let separator = if number == 0 { "" } else { "; " };
        // A String takes whatever is written.
        let _ = write!(text, "{separator}{recipient}: {why}");
    }
    match obstacles.len().saturating_sub(OBSTACLES_TOLD) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

fn claim(resolved: &Result<Resolved, Unresolved>) -> Claim {
    match resolved {
        Ok(_) => Claim::new(true, RouteReason::ResolvedRefs, "all that the webhook refers to is there"),
        Err(Unresolved { reason, message }) => Claim::new(false, *reason, message.clone()),
    }
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::MailLaserSpec;
    use serde_json::json;

    use super::super::webhook::{MapFound, SecretFound, ServiceFound};
    use super::*;

    /// Where there is nothing.
    struct Nothing;

    impl Known for Nothing {
        fn secret(&self, _: &str, _: &str) -> SecretFound {
            SecretFound::Missing
        }

        fn config_map(&self, _: &str, _: &str) -> MapFound {
            MapFound::Missing
        }

        fn service(&self, _: &str, _: &str) -> ServiceFound {
            ServiceFound::Missing
        }
    }

    fn route(name: &str, recipients: &[&str], webhook: &serde_json::Value) -> MailRoute {
        serde_json::from_value(json!({
            "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailRoute",
            "metadata": {"name": name, "namespace": "mail", "generation": 3},
            "spec": {"parentRefs": [{"name": "edge"}], "recipients": recipients, "webhook": webhook},
        }))
        .unwrap()
    }

    fn evaluated(routes: &[MailRoute]) -> Evaluation {
        let edge = Gateway::new("mail", "edge", &MailLaserSpec::default());
        let routes: Vec<_> = routes.iter().collect();
        evaluate(&edge, &routes, |_| Labels::new(), &Nothing)
    }

    fn summary(evaluation: &Evaluation, name: &str) -> [(bool, RouteReason); 3] {
        let Verdict { accepted, resolved, programmed, .. } =
            &evaluation.verdicts[&("mail".to_owned(), name.to_owned())];
        [accepted, resolved, programmed].map(|claim| (claim.holds, claim.reason))
    }

    #[test]
    fn each_route_is_told_what_came_of_it() {
        use RouteReason::*;
        let fine = json!({"url": "https://api.example.com/in"});
        let routes = [
            route("a", &["a@example.com"], &fine),
            route("b", &["a@example.com", "b@example.com"], &fine),
            route("c", &["a@example.com"], &fine),
            route("d", &["d@example.com"], &json!({"serviceRef": {"name": "gone", "port": 80}})),
        ];
        let mut evaluation = evaluated(&routes);
        assert_eq!(evaluation.accepted(), 3);
        assert_eq!(summary(&evaluation, "a"), [(true, Accepted), (true, ResolvedRefs), (false, Pending)]);
        assert_eq!(summary(&evaluation, "c"), [(false, Conflict), (true, ResolvedRefs), (false, Conflict)]);
        evaluation.program(&Programming::Done(BTreeSet::new()), |_| None, |_| None);
        assert_eq!(summary(&evaluation, "a")[2], (true, Programmed));
        assert_eq!(
            summary(&evaluation, "b"),
            [(true, PartlyAccepted), (true, ResolvedRefs), (true, Programmed)]
        );
        assert_eq!(summary(&evaluation, "c")[2], (false, Conflict));
        assert_eq!(
            summary(&evaluation, "d"),
            [(true, Accepted), (false, ServiceNotFound), (false, Deferred)]
        );
        let b = &evaluation.verdicts[&("mail".to_owned(), "b".to_owned())];
        assert_eq!(
            b.accepted.message,
            "mail for 1 of 2 recipients is taken for this route; a@example.com: the MailRoute a has it"
        );
        assert_eq!((b.generation, b.host.as_deref()), (3, Some("api.example.com")));
        // What has no destination for now keeps its recipients: their mail is not for others.
        assert!(evaluation.entries[2].webhook.is_none() && evaluation.entries[2].name == "mail/d");
        // A request that fails takes nothing from those that have been told, and have not changed.
        let before = evaluation.clone();
        let failed = Programming::Failed("forbidden".to_owned());
        evaluation.program(&failed, |key| before.verdicts.get(key).cloned(), |_| Some(3));
        assert_eq!(evaluation.verdicts, before.verdicts);
        let older = |verdict: &Verdict| Verdict { generation: 2, ..verdict.clone() };
        evaluation.program(&failed, |key| before.verdicts.get(key).map(older), |_| Some(2));
        assert_eq!(summary(&evaluation, "a")[2], (false, Pending));
        assert_eq!(summary(&evaluation, "c")[2], (false, Conflict));
        evaluation.program(&Programming::Done(["mail/b".to_owned()].into()), |_| None, |_| Some(3));
        assert_eq!(summary(&evaluation, "a")[2], (true, Programmed));
        assert_eq!(summary(&evaluation, "b")[2], (false, TooManyRoutes));
        // Nor from those that were told before the operator was restarted; others learn of it.
        let generations = |(_, name): &Key| [("a", 3), ("b", 2)].into_iter().find(|(it, _)| it == name);
        evaluation.program(&failed, |_| None, |key| generations(key).map(|(_, generation)| generation));
        assert!(!evaluation.verdicts.contains_key(&("mail".to_owned(), "a".to_owned())));
        assert_eq!(summary(&evaluation, "b")[2], (false, Pending));
        assert_eq!(summary(&evaluation, "d")[2], (false, Pending));
    }

    #[test]
    fn obstacles_are_told_up_to_a_number() {
        let texts: Vec<String> = (0..8).map(|n| format!("*{n}@example.com")).collect();
        let texts: Vec<_> = texts.iter().map(String::as_str).collect();
        let evaluation = evaluated(&[route("a", &texts, &json!({"url": "https://x.example/"}))]);
        let accepted = &evaluation.verdicts[&("mail".to_owned(), "a".to_owned())].accepted;
        assert_eq!(accepted.reason, RouteReason::InvalidRecipients);
        assert!(
            accepted.message.contains("*4@") && accepted.message.ends_with("; and 3 more"),
            "{accepted:?}"
        );
    }
}
