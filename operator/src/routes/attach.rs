//! Which of a gateway's recipients each route has: pure.
//!
//! A grant of the gateway has to cover a pattern; the gateway's own addresses beat every route; of several routes with
//! one pattern the older has it. What a route does not get it is told, and of another namespace's route no more than
//! that there is one.

use std::collections::BTreeMap;
use std::fmt;

use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use mail_laser_crds::{AllowedRoutes, FromNamespaces, MailLaserSpec, MailRoute, RouteNamespaces};
use mail_laser_routes::address::Address;
use mail_laser_routes::claims::{Claimant, Claims};
use mail_laser_routes::grant::DomainGrant;
use mail_laser_routes::pattern::{Pattern, PatternError};

use crate::resources::environment::TARGET_EMAILS;

/// The labels of a namespace.
pub type Labels = BTreeMap<String, String>;

/// A `MailLaser` as its routes see it.
#[derive(Debug)]
pub struct Gateway {
    claimant: Claimant,
    /// Its own recipients.
    own: Vec<Pattern>,
    grants: Vec<Grant>,
}

#[derive(Debug)]
struct Grant {
    to: Whose,
    /// All when absent.
    domains: Option<Vec<DomainGrant>>,
    allow_private: bool,
}

#[derive(Debug)]
enum Whose {
    Same,
    All,
    Selected(Selector),
    /// What cannot be read selects nobody.
    Nobody,
}

impl Gateway {
    /// What a resource of this namespace and name says of routes.
    pub fn new(namespace: &str, name: &str, spec: &MailLaserSpec) -> Self {
        let claimant = Claimant { created_s: None, namespace: namespace.to_owned(), name: name.to_owned() };
        // The variable takes the place of the field.
        let own: Vec<&str> = match spec.env.iter().find(|entry| entry.name == TARGET_EMAILS) {
            Some(entry) => entry.value.iter().flat_map(|value| value.split(',')).collect(),
            None => spec.target_emails.iter().flatten().map(String::as_str).collect(),
        };
        let own = own.into_iter().filter_map(|text| Address::parse(text.trim()).ok());
        let own = own.map(|address| Pattern::exact(&address)).collect();
        Self { claimant, own, grants: spec.allowed_routes.iter().map(Grant::new).collect() }
    }

    /// Whether routes of a namespace may have recipients here.
    pub fn takes_routes_of(&self, namespace: &str, labels: &Labels) -> bool {
        !self.grants_to(namespace, labels).is_empty()
    }

    /// The grants to a namespace.
    fn grants_to(&self, namespace: &str, labels: &Labels) -> Vec<&Grant> {
        let is_same = namespace == self.claimant.namespace;
        let covers = |grant: &&Grant| match &grant.to {
            Whose::Same => is_same,
            Whose::All => true,
            Whose::Selected(selector) => selector.matches(labels),
            Whose::Nobody => false,
        };
        self.grants.iter().filter(covers).collect()
    }
}

impl Grant {
    fn new(allowed: &AllowedRoutes) -> Self {
        let RouteNamespaces { from, selector } = &allowed.namespaces;
        let to = match (from, selector) {
            (FromNamespaces::Same, _) => Whose::Same,
            (FromNamespaces::All, _) => Whose::All,
            (FromNamespaces::Selector, Some(selector)) => {
                Selector::try_from(selector.clone()).map_or(Whose::Nobody, Whose::Selected)
            }
            (FromNamespaces::Selector, None) => Whose::Nobody,
        };
        // One that cannot be read grants nothing, and does not make the others go.
        let domains = (!allowed.domains.is_empty())
            .then(|| allowed.domains.iter().filter_map(|domain| domain.parse().ok()).collect());
        Self { to, domains, allow_private: allowed.allow_private_addresses }
    }

    fn covers(&self, pattern: &Pattern) -> bool {
        self.domains.as_ref().is_none_or(|domains| domains.iter().any(|domain| domain.covers(pattern)))
    }
}

/// What a route has of a gateway.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attachment {
    /// The patterns that are its own.
    pub recipients: Vec<Pattern>,
    /// What it asked for and does not have.
    pub obstacles: Vec<Obstacle>,
    /// Whether each of its patterns is by a grant that permits addresses that are not public.
    pub allow_private: bool,
}

/// Why a route does not have a recipient that it asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Obstacle {
    /// As the route has it.
    pub recipient: String,
    /// Why.
    pub why: Why,
}

/// Why a route does not have a recipient.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// It is no pattern.
    Unreadable(PatternError),
    /// No grant is to the route's namespace.
    NamespaceNotAllowed,
    /// None of those to its namespace has the domain.
    DomainNotAllowed,
    /// The gateway takes mail for it itself.
    OfTheGateway,
    /// A route has it, of this name where that is of the same namespace.
    Taken(Option<String>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(error) => error.fmt(f),
            Self::NamespaceNotAllowed => {
                f.write_str("spec.allowedRoutes of the gateway does not have this namespace")
            }
            Self::DomainNotAllowed => {
                f.write_str("spec.allowedRoutes of the gateway does not give this namespace the domain")
            }
            Self::OfTheGateway => f.write_str("it is one of the gateway's own spec.targetEmails"),
            Self::Taken(Some(name)) => write!(f, "the MailRoute {name} has it"),
            Self::Taken(None) => f.write_str("a route of another namespace has it"),
        }
    }
}

/// What routes have of a gateway, in their order; `labels` gives those of a namespace.
pub fn attach<'r>(
    gateway: &Gateway,
    routes: &[&'r MailRoute],
    labels: impl Fn(&str) -> Labels,
) -> Vec<Attachment> {
    let asked: Vec<Asked<'r>> = routes.iter().map(|route| Asked::new(gateway, route, &labels)).collect();
    let own = gateway.own.iter().map(|pattern| (&gateway.claimant, pattern));
    let of_routes =
        asked.iter().flat_map(|asked| asked.granted.iter().map(|(_, pattern, _)| (&asked.claimant, pattern)));
    let claims = Claims::settle(own.chain(of_routes));
    asked.iter().map(|asked| asked.settled(gateway, &claims)).collect()
}

/// What a route asks for.
struct Asked<'r> {
    claimant: Claimant,
    /// What grants cover: as it is written, as it is compared, and whether by a grant that permits private addresses.
    granted: Vec<(&'r str, Pattern, bool)>,
    obstacles: Vec<Obstacle>,
}

impl<'r> Asked<'r> {
    fn new(gateway: &Gateway, route: &'r MailRoute, labels: &impl Fn(&str) -> Labels) -> Self {
        let namespace = route.namespace().unwrap_or_default();
        let grants = gateway.grants_to(&namespace, &labels(&namespace));
        let created_s = route.creation_timestamp().map_or(i64::MAX, |time| time.0.as_second());
        let claimant = Claimant { created_s: Some(created_s), namespace, name: route.name_any() };
        let (mut granted, mut obstacles) = (Vec::new(), Vec::new());
        for text in &route.spec.recipients {
            match grant(&grants, text) {
                // Written in two ways, it is still one.
                Ok((pattern, _)) if granted.iter().any(|(_, known, _)| *known == pattern) => {}
                Ok((pattern, private)) => granted.push((text.as_str(), pattern, private)),
                Err(why) => obstacles.push(Obstacle { recipient: text.clone(), why }),
            }
        }
        Self { claimant, granted, obstacles }
    }

    fn settled(&self, gateway: &Gateway, claims: &Claims<'_>) -> Attachment {
        let mut attachment =
            Attachment { recipients: Vec::new(), obstacles: self.obstacles.clone(), allow_private: true };
        for (text, pattern, private) in &self.granted {
            let winner = claims.winner(pattern).unwrap_or(&self.claimant);
            if *winner == self.claimant {
                attachment.recipients.push(pattern.clone());
                attachment.allow_private &= private;
                continue;
            }
            let why = if *winner == gateway.claimant {
                Why::OfTheGateway
            } else {
                let is_visible = winner.namespace == self.claimant.namespace;
                Why::Taken(is_visible.then(|| winner.name.clone()))
            };
            attachment.obstacles.push(Obstacle { recipient: (*text).to_owned(), why });
        }
        attachment.allow_private &= !attachment.recipients.is_empty();
        attachment
    }
}

/// The pattern of a text, if a grant covers it, and whether one that permits private addresses does.
fn grant(grants: &[&Grant], text: &str) -> Result<(Pattern, bool), Why> {
    let pattern: Pattern = text.parse().map_err(Why::Unreadable)?;
    let covering: Vec<_> = grants.iter().filter(|grant| grant.covers(&pattern)).collect();
    match (grants.is_empty(), covering.is_empty()) {
        (true, _) => Err(Why::NamespaceNotAllowed),
        (_, true) => Err(Why::DomainNotAllowed),
        _ => Ok((pattern, covering.iter().any(|grant| grant.allow_private))),
    }
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::MailRouteSpec;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn gateway(spec: serde_json::Value) -> Gateway {
        Gateway::new("mail", "edge", &serde_json::from_value(spec).unwrap())
    }

    fn route(namespace: &str, name: &str, created_s: i64, recipients: &[&str]) -> MailRoute {
        let recipients = recipients.iter().map(|&text| text.to_owned()).collect();
        let mut route = MailRoute::new(name, MailRouteSpec { recipients, ..MailRouteSpec::default() });
        route.metadata.namespace = Some(namespace.to_owned());
        route.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
            k8s_openapi::jiff::Timestamp::from_second(created_s).unwrap(),
        ));
        route
    }

    fn named(namespace: &str) -> Labels {
        [("kubernetes.io/metadata.name".to_owned(), namespace.to_owned())].into()
    }

    /// What each route has, and why not the rest.
    fn outcome(gateway: &Gateway, routes: &[MailRoute]) -> Vec<(Vec<String>, Vec<String>)> {
        let routes: Vec<_> = routes.iter().collect();
        attach(gateway, &routes, named)
            .into_iter()
            .map(|it| {
                let has = it.recipients.iter().map(ToString::to_string).collect();
                let not = it.obstacles.iter().map(|one| format!("{}: {}", one.recipient, one.why)).collect();
                (has, not)
            })
            .collect()
    }

    #[test]
    fn grants_decide_by_namespace_and_domain() {
        let gateway = gateway(json!({"allowedRoutes": [
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}},
             "domains": ["*.b.example.com"]},
            {"namespaces": {"from": "All"}, "domains": ["example.com"]},
        ]}));
        let routes = [
            route("b", "one", 1, &["*@*.b.example.com", "*@b.example.com", "x@example.com"]),
            route("c", "two", 1, &["*@x.b.example.com", "y@example.com"]),
            route("mail", "own", 1, &["z@example.org"]),
        ];
        let no_domain = "spec.allowedRoutes of the gateway does not give this namespace the domain";
        assert_eq!(
            outcome(&gateway, &routes),
            [
                (
                    vec!["*@*.b.example.com".to_owned(), "x@example.com".to_owned()],
                    vec![format!("*@b.example.com: {no_domain}")]
                ),
                (vec!["y@example.com".to_owned()], vec![format!("*@x.b.example.com: {no_domain}")]),
                (vec![], vec![format!("z@example.org: {no_domain}")]),
            ]
        );
    }

    #[test]
    fn by_default_only_the_gateways_namespace_may() {
        let gateway = gateway(json!({}));
        let routes = [route("mail", "own", 1, &["a@example.com"]), route("b", "one", 1, &["b@example.com"])];
        let not = "b@example.com: spec.allowedRoutes of the gateway does not have this namespace";
        assert_eq!(
            outcome(&gateway, &routes),
            [(vec!["a@example.com".to_owned()], vec![]), (vec![], vec![not.to_owned()])]
        );
    }

    #[test]
    fn the_winner_is_named_to_its_own_namespace_alone() {
        let gateway = gateway(json!({
            "targetEmails": ["Own@example.com", "too@example.com"],
            "allowedRoutes": [{"namespaces": {"from": "All"}}],
        }));
        let routes = [
            route("b", "younger", 2, &["a@example.com", "own@example.com", "TOO@example.com"]),
            route("b", "older", 1, &["A@example.com", "a@EXAMPLE.com"]),
            route("c", "thief", 3, &["a@example.com", "*@example.com"]),
        ];
        let own = "it is one of the gateway's own spec.targetEmails";
        assert_eq!(
            outcome(&gateway, &routes),
            [
                (
                    vec![],
                    vec![
                        "a@example.com: the MailRoute older has it".to_owned(),
                        format!("own@example.com: {own}"),
                        format!("TOO@example.com: {own}"),
                    ]
                ),
                (vec!["a@example.com".to_owned()], vec![]),
                (
                    vec!["*@example.com".to_owned()],
                    vec!["a@example.com: a route of another namespace has it".to_owned()]
                ),
            ]
        );
    }

    #[test]
    fn a_gateway_has_to_know_of_the_routes_of_those_that_it_grants_something_to() {
        let namespaces = |namespaces: serde_json::Value| {
            let gateway = gateway(json!({"allowedRoutes": [{"namespaces": namespaces}]}));
            ["mail", "b", "c"].map(|namespace| gateway.takes_routes_of(namespace, &named(namespace)))
        };
        assert_eq!(namespaces(json!({"from": "Same"})), [true, false, false]);
        assert_eq!(namespaces(json!({"from": "All"})), [true, true, true]);
        let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "b"}});
        assert_eq!(namespaces(json!({"from": "Selector", "selector": selector})), [false, true, false]);
    }

    #[test]
    fn the_variable_takes_the_place_of_the_field() {
        let gateway = gateway(json!({
            "targetEmails": ["own@example.com"],
            "env": [{"name": TARGET_EMAILS, "value": "one@example.com, two@example.com"}],
        }));
        let routes = [route("mail", "a", 1, &["own@example.com", "two@example.com"])];
        assert_eq!(outcome(&gateway, &routes)[0].0, ["own@example.com"]);
    }

    #[test]
    fn what_is_not_granted_stands_in_nobodys_way() {
        let gateway = gateway(json!({"allowedRoutes": [
            {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"kubernetes.io/metadata.name": "b"}}}},
        ]}));
        let routes =
            [route("evil", "first", 1, &["a@example.com"]), route("b", "later", 9, &["a@example.com"])];
        assert_eq!(outcome(&gateway, &routes)[1], (vec!["a@example.com".to_owned()], vec![]));
    }

    #[test]
    fn private_addresses_need_a_grant_for_each_pattern() {
        let gateway = gateway(json!({"allowedRoutes": [
            {"namespaces": {"from": "All"}},
            {"namespaces": {"from": "Same"}, "domains": ["in.example.com"], "allowPrivateAddresses": true},
        ]}));
        let routes = [
            route("mail", "a", 1, &["a@in.example.com"]),
            route("mail", "b", 1, &["b@in.example.com", "b@example.com"]),
            route("b", "c", 1, &["c@in.example.com"]),
        ];
        let routes: Vec<_> = routes.iter().collect();
        let private: Vec<_> = attach(&gateway, &routes, named).iter().map(|it| it.allow_private).collect();
        assert_eq!(private, [true, false, false]);
    }

    #[test]
    fn what_cannot_be_read_grants_nothing() {
        for allowed in [
            json!([{"namespaces": {"from": "All"}, "domains": ["*"]}]),
            json!([{"namespaces": {"from": "Selector"}}]),
            json!([{"namespaces": {"from": "Selector", "selector":
                {"matchExpressions": [{"key": "a", "operator": "Maybe"}]}}}]),
            json!([]),
        ] {
            let gateway = gateway(json!({"allowedRoutes": allowed}));
            assert_eq!(
                outcome(&gateway, &[route("b", "b", 1, &["a@example.com"])])[0].0,
                Vec::<String>::new()
            );
        }
    }

    proptest! {
        /// Whatever comes in whatever order: nobody has what another has, and what is granted is somebody's.
        #[test]
        fn each_pattern_has_one_owner(
            wishes in proptest::collection::vec(
                (0..4_usize, 0..3_i64, proptest::collection::vec(0..6_usize, 1..4)), 1..8),
            rotation in 0..8_usize,
        ) {
            const TEXTS: [&str; 6] =
                ["a@example.com", "A@example.com", "*@example.com", "a+*@example.com", "*@*.example.com", "a@x.org"];
            let gateway = gateway(json!({"allowedRoutes": [
                {"namespaces": {"from": "All"}, "domains": ["example.com", "*.example.com"]}]}));
            let routes: Vec<_> = wishes.iter().enumerate().map(|(n, (namespace, created, texts))| {
                let texts: Vec<_> = texts.iter().map(|text| TEXTS[*text]).collect();
                route(&format!("ns{namespace}"), &format!("r{n}"), *created, &texts)
            }).collect();
            let all: Vec<_> = routes.iter().collect();
            let found = attach(&gateway, &all, named);
            let mut owners = BTreeMap::new();
            for (route, attachment) in all.iter().zip(&found) {
                for pattern in &attachment.recipients {
                    prop_assert!(owners.insert(pattern.clone(), route.name_any()).is_none());
                }
            }
            for route in &all {
                for text in route.spec.recipients.iter().filter(|text| !text.ends_with("x.org")) {
                    prop_assert!(owners.contains_key(&text.parse::<Pattern>().unwrap()));
                }
            }
            let mut turned = all.clone();
            turned.rotate_left(rotation % all.len());
            let mut again: Vec<_> = attach(&gateway, &turned, named);
            again.rotate_right(rotation % all.len());
            prop_assert_eq!(found, again);
        }
    }
}
