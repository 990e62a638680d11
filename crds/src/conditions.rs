//! Every condition type and reason that the operator reports.
//!
//! A `MailLaser` always has all three conditions, each with the generation it describes. They follow what
//! GitOps tools read: `Reconciling` while the cluster may still get there by itself, `Stalled` when a person
//! has to act, neither when all is well. What may come by itself is waited for 10 minutes, and stalls then. `Ready` says whether the resource, as it is written now, is in force
//! and serves.

/// The types of conditions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ConditionType {
    /// `True` when the pods run what the resource says and mail is accepted. Reasons when `True`:
    /// [`Reason::Available`], [`Reason::PartlyAvailable`], [`Reason::ScaledToZero`], [`Reason::NoRecipients`]; when `False`: all that
    /// `Reconciling` and `Stalled` have when `True`.
    Ready,
    /// `True` when the cluster is on its way to what the resource says and nobody has to act, or when what is
    /// missing may still come. Reasons when `True`: [`Reason::RollingOut`], [`Reason::PartlyAvailable`],
    /// [`Reason::Unavailable`], [`Reason::SecretNotFound`], [`Reason::ConfigMapNotFound`],
    /// [`Reason::ServiceNotFound`], [`Reason::WaitingForDeletion`], [`Reason::RequestFailed`],
    /// [`Reason::Forbidden`], [`Reason::ClaimPending`], [`Reason::Growing`], [`Reason::Draining`]; when `False`:
    /// [`Reason::UpToDate`], [`Reason::DeadLetters`], [`Reason::Suspended`], and the reason of `Stalled` when that is
    /// `True`.
    Reconciling,
    /// `True` when a person has to act. Reasons when `True`: [`Reason::NameConflict`], [`Reason::InvalidSpec`],
    /// [`Reason::WrongSecretType`], [`Reason::InvalidConfiguration`], [`Reason::ProgressDeadlineExceeded`],
    /// [`Reason::Refused`], [`Reason::ClaimCannotGrow`], and after 10 minutes [`Reason::SecretNotFound`],
    /// [`Reason::ConfigMapNotFound`], [`Reason::ServiceNotFound`], [`Reason::ClaimPending`], [`Reason::Forbidden`];
    /// when `False`: [`Reason::NotStalled`].
    Stalled,
}

impl ConditionType {
    /// All types, in the order in which they are reported.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Reconciling, Self::Stalled];

    /// As in the status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
        }
    }
}

/// The reasons of conditions.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// All replicas are ready with what the resource says.
    Available,
    /// Everything runs what the resource says, but only some replicas are ready: the number was just changed,
    /// or a pod is being replaced.
    PartlyAvailable,
    /// `spec.replicas` is 0, and no pod runs.
    ScaledToZero,
    /// All replicas are ready, and mail is taken for nobody: there are no `targetEmails`, and no route has a recipient.
    NoRecipients,
    /// Pods with what the resource says are being started, or older ones are still there.
    RollingOut,
    /// Everything runs what the resource says, but no replica is ready.
    Unavailable,
    /// A Secret, or a key in it, is missing. Running pods stay as they are.
    SecretNotFound,
    /// The Secret that `spec.tls.secretName` names is not of type `kubernetes.io/tls`, which no Secret can
    /// become later. Running pods stay as they are.
    WrongSecretType,
    /// A ConfigMap, or a key in it, is missing. Running pods stay as they are.
    ConfigMapNotFound,
    /// The Service that `spec.webhook.serviceRef` names is missing. The pods run, and deliveries fail.
    ServiceNotFound,
    /// An object of a deleted resource of this name is still there, or the namespace is being deleted; both go
    /// by themselves.
    WaitingForDeletion,
    /// The API server could not do what it was asked; it is tried again.
    RequestFailed,
    /// The API server did not let the operator do what it has to: a right is missing, or a policy or a quota is in the
    /// way. It is tried again.
    Forbidden,
    /// An object of this resource's name belongs to someone else, and is left untouched.
    NameConflict,
    /// The resource contradicts itself in a way that the schema refuses today: it was written before.
    InvalidSpec,
    /// The daemon refused its configuration (exit code 78); the message is what it said.
    InvalidConfiguration,
    /// The pods did not become ready within 10 minutes.
    ProgressDeadlineExceeded,
    /// The API server refuses an object as it would have to be.
    Refused,
    /// No pod can start because its claim has no volume yet.
    ClaimPending,
    /// Claims grow to `spec.delivery.spool.size`. Mail is accepted meanwhile.
    Growing,
    /// A claim cannot grow: its storage class does not allow it, or its volume was not made by one.
    ClaimCannotGrow,
    /// What removed replicas left in their spools is being delivered. Mail is accepted meanwhile; more replicas
    /// are not made until it is done.
    Draining,
    /// Everything is as the resource says, but claims of removed replicas still hold dead letters: mails that
    /// the webhook refused for good, or that were tried for too long. A person decides what becomes of them.
    DeadLetters,
    /// Nothing is left to do.
    UpToDate,
    /// `spec.suspend` is true.
    Suspended,
    /// Nobody has to act.
    NotStalled,
}

impl Reason {
    /// As in the status, and in Events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Available => "Available",
            Self::PartlyAvailable => "PartlyAvailable",
            Self::ScaledToZero => "ScaledToZero",
            Self::NoRecipients => "NoRecipients",
            Self::RollingOut => "RollingOut",
            Self::Unavailable => "Unavailable",
            Self::SecretNotFound => "SecretNotFound",
            Self::WrongSecretType => "WrongSecretType",
            Self::ConfigMapNotFound => "ConfigMapNotFound",
            Self::ServiceNotFound => "ServiceNotFound",
            Self::WaitingForDeletion => "WaitingForDeletion",
            Self::RequestFailed => "RequestFailed",
            Self::Forbidden => "Forbidden",
            Self::NameConflict => "NameConflict",
            Self::InvalidSpec => "InvalidSpec",
            Self::InvalidConfiguration => "InvalidConfiguration",
            Self::ProgressDeadlineExceeded => "ProgressDeadlineExceeded",
            Self::Refused => "Refused",
            Self::ClaimPending => "ClaimPending",
            Self::Growing => "Growing",
            Self::ClaimCannotGrow => "ClaimCannotGrow",
            Self::Draining => "Draining",
            Self::DeadLetters => "DeadLetters",
            Self::UpToDate => "UpToDate",
            Self::Suspended => "Suspended",
            Self::NotStalled => "NotStalled",
        }
    }
}
