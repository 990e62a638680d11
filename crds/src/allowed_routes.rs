//! Which routes may attach to a gateway.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::KubeSchema;
use kube::core::Rule;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::route::domain_pattern;

/// Which namespaces may claim which recipients by a `MailRoute`.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AllowedRoutes {
    /// Whose routes.
    #[serde(default)]
    pub namespaces: RouteNamespaces,
    /// Domains whose recipients they may claim: `example.com`, or `*.example.com` for every domain below it and not
    /// itself. Any, when there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 255)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = domains_rule())]
    pub domains: Vec<String>,
    /// Whether their `webhook.url` may be at an address that is not public, such as 10.0.0.7. Loopback and link-local
    /// addresses, and with them the metadata of the cloud, stay out of reach.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

/// Namespaces.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[x_kube(
    validation = Rule::new("(self.from == 'Selector') == has(self.selector)")
        .message("namespaces.selector must be there when namespaces.from is Selector, and only then")
)]
#[serde(rename_all = "camelCase")]
pub struct RouteNamespaces {
    /// Which namespaces.
    #[serde(default)]
    pub from: FromNamespaces,
    /// Labels of the namespaces. Who may change them decides who may attach; `kubernetes.io/metadata.name` is the name,
    /// and nobody can change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum FromNamespaces {
    /// The gateway's own.
    #[default]
    Same,
    /// All.
    All,
    /// Those with labels.
    Selector,
}

impl AllowedRoutes {
    /// What a gateway allows that says nothing: routes of its own namespace.
    pub fn of_same_namespace() -> Vec<Self> {
        vec![Self::default()]
    }
}

fn domains_rule() -> Rule {
    Rule::new(format!("self.all(domain, domain.matches(r\"^(\\*\\.)?{}$\"))", domain_pattern()))
        .message("domains must be such as example.com, or *.example.com for the domains below it")
}
