//! The `MailRoute` kind: a claim of one namespace to recipients of a gateway that another may own.

use kube::core::Rule;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mail_laser::NAME_LENGTH_MAX;
use crate::route_status::MailRouteStatus;
use crate::route_webhook::RouteWebhook;

/// Which recipients a route claims, of which gateways, and where their mail goes.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[allow(clippy::duplicated_attributes)] // Each column has its own.
#[kube(
    group = "mail-laser.dev",
    version = "v1alpha1",
    kind = "MailRoute",
    plural = "mailroutes",
    singular = "mailroute",
    shortname = "mroute",
    namespaced,
    status = "MailRouteStatus",
    derive = "PartialEq",
    derive = "Default",
    doc = "Recipients of a MailLaser whose mails go to a webhook of this namespace.",
    printcolumn(name = "Parent", type_ = "string", json_path = ".spec.parentRefs[*].name"),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Accepted\")].status"
    ),
    printcolumn(name = "Recipients", type_ = "string", json_path = ".spec.recipients"),
    printcolumn(name = "Destination", type_ = "string", json_path = ".status.destination"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Programmed\")].status",
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.parents[*].conditions[?(@.type==\"Accepted\")].message",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
pub struct MailRouteSpec {
    /// The gateways whose mail is claimed. Each has to allow it by its `spec.allowedRoutes`.
    #[schemars(length(min = 1, max = 8))]
    #[x_kube(
        validation = Rule::new("self.all(a, self.exists_one(b, a == b))").message("parentRefs must name each gateway once")
    )]
    pub parent_refs: Vec<ParentRef>,
    /// Which recipients: an address such as `billing@example.com`, its subaddresses `billing+*@example.com`,
    /// every mailbox of a domain `*@example.com`, or of every domain below it `*@*.example.com`. The most
    /// specific one that fits counts, whoever claims it; of two equal ones the older resource has it.
    #[schemars(length(min = 1, max = 256), inner(length(min = 3, max = 320)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = recipients_rule())]
    pub recipients: Vec<String>,
    /// Where their mail goes.
    pub webhook: RouteWebhook,
}

/// A `MailLaser` that a route attaches to.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its name.
    #[schemars(length(min = 1, max = NAME_LENGTH_MAX))]
    pub name: String,
    /// Its namespace; the route's own when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What operator and daemon read as a pattern, apart from quoted local parts and address literals, which no team claims.
fn recipients_rule() -> Rule {
    // A star stands alone, or after a plus.
    let atom = atom("");
    let domain = domain_pattern();
    let pattern = format!(r"^(\*@(\*\.)?|{atom}(\.{atom})*(\+\*)?@){domain}$");
    Rule::new(format!(
        "self.all(recipient, recipient.matches(r\"{pattern}\") && {})",
        is_short("recipient")
    ))
    .message(
        "recipients must be addresses such as billing@example.com, or patterns such as billing+*@example.com, \
         *@example.com and *@*.example.com",
    )
}

/// A part of a mailbox's name in any script (RFC 6531 section 3.3), with these characters, too.
pub(crate) fn atom(more: &str) -> String {
    format!(r"[\p{{L}}\p{{M}}\p{{N}}!#$%&'+/=?^_`{{|}}~{more}-]+")
}

/// That a local part has no more octets than RFC 5321 section 4.5.3.1.1 permits, as an expression of CEL.
pub(crate) fn is_short(address: &str) -> String {
    format!("size(bytes({address}.substring(0, {address}.indexOf('@')))) <= 64")
}

/// Labels in any script: internationalised domains are compared in their A-label form.
pub(crate) fn domain_pattern() -> String {
    let letter = r"[\p{L}\p{M}\p{N}_]";
    let label = format!(r"{letter}([\p{{L}}\p{{M}}\p{{N}}_-]*{letter})?");
    format!(r"{label}(\.{label})*")
}
