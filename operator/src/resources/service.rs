//! The Service that receives the mails. As in [`super::pod`], defaults of the API server are sent, too.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mail_laser_crds::{ExternalTrafficPolicy, MailLaserSpec, ServiceType};

use super::{labels, pod};
use crate::validate::ValidatedMailLaser;

/// The Service of a resource.
pub fn build(resource: &ValidatedMailLaser) -> Service {
    let service = &resource.spec.service;
    let mut metadata = super::metadata(resource);
    if !service.annotations.is_empty() {
        metadata.annotations = Some(service.annotations.clone());
    }
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service.type_.as_str().to_owned()),
            selector: Some(labels::selector(&resource.name)),
            ports: Some(ports(&resource.spec)),
            load_balancer_class: service.load_balancer_class.clone(),
            external_traffic_policy: external_traffic_policy(service)
                .map(|policy| policy.as_str().to_owned()),
            internal_traffic_policy: Some("Cluster".to_owned()),
            session_affinity: Some("None".to_owned()),
            allocate_load_balancer_node_ports: (service.type_ == ServiceType::LoadBalancer).then_some(true),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn ports(spec: &MailLaserSpec) -> Vec<ServicePort> {
    let port = |name: &str, port: i32, node_port: Option<i32>| ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::String(name.to_owned())),
        protocol: Some("TCP".to_owned()),
        node_port,
        ..ServicePort::default()
    };
    let smtp = port(pod::SMTP_PORT_NAME, spec.service.port, spec.service.node_port);
    let smtps = spec.tls.smtps_port.map(|number| port(pod::SMTPS_PORT_NAME, number, None));
    [smtp].into_iter().chain(smtps).collect()
}

/// A Service that is reached from outside has a policy, `Cluster` by default.
fn external_traffic_policy(service: &mail_laser_crds::Service) -> Option<ExternalTrafficPolicy> {
    match service.type_ {
        ServiceType::ClusterIP => None,
        ServiceType::NodePort | ServiceType::LoadBalancer => {
            Some(service.external_traffic_policy.unwrap_or(ExternalTrafficPolicy::Cluster))
        }
    }
}

/// Whether pods see the addresses of clients rather than those of nodes. From outside the cluster they do
/// only with the policy `Local`.
pub fn shows_client_addresses(service: &mail_laser_crds::Service) -> bool {
    external_traffic_policy(service) != Some(ExternalTrafficPolicy::Cluster)
}
