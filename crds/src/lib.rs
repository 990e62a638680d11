//! The Kubernetes API of MailLaser: types, and the schema that is made from them.
//!
//! ```
//! use mail_laser_crds::{MailLaser, MailLaserSpec, ServiceRef, Webhook};
//!
//! let spec = MailLaserSpec {
//!     target_emails: Some(vec!["support@example.com".to_owned()]),
//!     webhook: Some(Webhook {
//!         service_ref: Some(ServiceRef::new("receiver", 8080)),
//!         ..Webhook::default()
//!     }),
//!     ..MailLaserSpec::default()
//! };
//! let support = MailLaser::new("support", spec);
//! assert_eq!(support.spec.replicas, 1);
//! ```
//!
//! There is no client and no async code here. Doc comments of the fields become the descriptions that
//! `kubectl explain` prints; defaults, bounds and rules become the schema that the API server enforces.
//! [`crds`] is the only way to the manifest: what `deploy/crd` holds, what the tests apply, and what the
//! operator was written against are the same.

// `KubeSchema` makes a private copy of each public type, with its visibility.
#![allow(unreachable_pub)]

mod allowed_routes;
mod autoscaling;
pub mod conditions;
mod delivery;
mod env;
mod mail_laser;
mod monitoring;
mod network_policy;
mod pod_template;
mod probes;
mod references;
mod reserved;
mod route;
pub mod route_conditions;
mod route_status;
mod route_webhook;
mod schema;
mod security;
mod service;
mod sidecar;
mod status;
mod tls;
mod volume;
mod webhook;

pub use allowed_routes::{AllowedRoutes, FromNamespaces, RouteNamespaces};
pub use autoscaling::{Autoscaling, AutoscalingMetric};
pub use delivery::{Delivery, DeliveryMode, Spool};
pub use env::{EnvVar, EnvVarSource, FieldRef, ResourceFieldRef, reserved_env_name};
pub use mail_laser::{ImagePullPolicy, MailLaser, MailLaserSpec, NAME_LENGTH_MAX, Resources};
pub use monitoring::{Dashboard, Monitoring, PodMonitor, PrometheusRule};
pub use network_policy::NetworkPolicy;
pub use pod_template::PodTemplate;
pub use probes::{LivenessProbe, ProbeTiming, Probes, ReadinessProbe};
pub use references::{
    CaBundleSource, ConfigMapKeySelector, LocalReference, OptionalConfigMapKeySelector,
    OptionalSecretKeySelector, SecretKeySelector, SecretSource,
};
pub use route::{MailRoute, MailRouteSpec, ParentRef};
pub use route_status::{CONTROLLER_NAME, MailRouteStatus, RouteParentStatus};
pub use route_webhook::{RouteWebhook, Signing, WEBHOOK_SECRET_TYPE};
pub use schema::{crds, manifest};
pub use security::{ContainerSecurityContext, PodSecurityContext, Profile, ProfileType, SeLinuxOptions};
pub use service::{ExternalTrafficPolicy, IpFamily, IpFamilyPolicy, Service, ServiceType};
pub use sidecar::{Exec, HttpGet, Sidecar, SidecarPort, SidecarProbe, TcpSocket};
pub use status::MailLaserStatus;
pub use tls::{Tls, TlsMode};
pub use volume::{
    ClaimVolume, ConfigMapVolume, EmptyDirMedium, EmptyDirVolume, SecretVolume, Volume, VolumeItem,
    VolumeMount,
};
pub use webhook::{CircuitBreaker, Scheme, ServiceRef, Webhook};

/// The API group of all kinds.
pub const GROUP: &str = "mail-laser.dev";

/// The label by which a `MailLaser`'s pods are selected; its value is the resource's name.
pub const NAME_LABEL: &str = "mail-laser.dev/name";

/// The label of pods that deliver what a removed replica left; its value is the resource's name. They have no
/// [`NAME_LABEL`], so that no Service sends them mail.
pub const DRAIN_LABEL: &str = "mail-laser.dev/drain";
