//! Every condition type and reason that the operator reports of a route at a gateway, as in Gateway API.

/// The types of conditions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RouteConditionType {
    /// `True` when the route has a recipient at the gateway. Reasons when `True`: [`RouteReason::Accepted`],
    /// [`RouteReason::PartlyAccepted`]; when `False`: [`RouteReason::NoMatchingParent`], [`RouteReason::NotAllowed`],
    /// [`RouteReason::Conflict`], [`RouteReason::InvalidRecipients`].
    Accepted,
    /// `True` when all that the webhook refers to is there and may be used. Reasons when `True`:
    /// [`RouteReason::ResolvedRefs`]; when `False`: [`RouteReason::SecretNotFound`],
    /// [`RouteReason::WrongSecretType`], [`RouteReason::ConfigMapNotFound`], [`RouteReason::ServiceNotFound`],
    /// [`RouteReason::RefNotPermitted`], [`RouteReason::InvalidWebhook`].
    ResolvedRefs,
    /// `True` when the gateway's pods have been given the route as it is now. Reasons when `True`:
    /// [`RouteReason::Programmed`]; when `False`: [`RouteReason::Pending`], [`RouteReason::TooManyRoutes`],
    /// [`RouteReason::Deferred`], and the reason of `Accepted` when that is `False`.
    Programmed,
}

impl RouteConditionType {
    /// All types, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::Accepted, Self::ResolvedRefs, Self::Programmed];

    /// As in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::Programmed => "Programmed",
        }
    }
}

/// The reasons of conditions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum RouteReason {
    /// All recipients of the route are its own.
    Accepted,
    /// Some are; the message says what is in the way of the others.
    PartlyAccepted,
    /// The gateway does not exist.
    NoMatchingParent,
    /// The gateway's `spec.allowedRoutes` allow none of the recipients to the route's namespace.
    NotAllowed,
    /// Others have all recipients that the gateway allows.
    Conflict,
    /// A recipient cannot be read, which the schema refuses today: it was written before.
    InvalidRecipients,
    /// All that the webhook refers to is there.
    ResolvedRefs,
    /// A Secret, or a key in it, is missing.
    SecretNotFound,
    /// A Secret is not of type `mail-laser.dev/webhook`.
    WrongSecretType,
    /// A ConfigMap, or a key in it, is missing.
    ConfigMapNotFound,
    /// A Service is missing.
    ServiceNotFound,
    /// A Service is of type ExternalName, which could lead anywhere.
    RefNotPermitted,
    /// What a reference holds is no address of a webhook, no token or no certificate.
    InvalidWebhook,
    /// The gateway's pods have the route.
    Programmed,
    /// They will have it in a moment.
    Pending,
    /// The route's part of the gateway's table is full, and its namespace has most of it.
    TooManyRoutes,
    /// The gateway answers `451` for the recipients until the references are resolved.
    Deferred,
}

impl RouteReason {
    /// As in the status, and in Events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::PartlyAccepted => "PartlyAccepted",
            Self::NoMatchingParent => "NoMatchingParent",
            Self::NotAllowed => "NotAllowed",
            Self::Conflict => "Conflict",
            Self::InvalidRecipients => "InvalidRecipients",
            Self::ResolvedRefs => "ResolvedRefs",
            Self::SecretNotFound => "SecretNotFound",
            Self::WrongSecretType => "WrongSecretType",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::ServiceNotFound => "ServiceNotFound",
            Self::RefNotPermitted => "RefNotPermitted",
            Self::InvalidWebhook => "InvalidWebhook",
            Self::Programmed => "Programmed",
            Self::Pending => "Pending",
            Self::TooManyRoutes => "TooManyRoutes",
            Self::Deferred => "Deferred",
        }
    }
}
