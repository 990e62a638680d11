//! The Service that receives the mails. As in [`super::pod`], defaults of the API server are sent, too.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mail_laser_crds::{ExternalTrafficPolicy, MailLaserSpec, ServiceType};

use super::environment::is_told_of_clients;
use super::{labels, opaque_ports, pod};
use crate::validate::ValidatedMailLaser;

/// What the ports speak, for service meshes: Istio would wait for the client's first bytes to find out, and a server
/// of SMTP speaks first. It knows no name for SMTP.
const APP_PROTOCOL: &str = "tcp";

/// The Service of a resource.
pub fn build(resource: &ValidatedMailLaser) -> Service {
    let spec = &resource.spec;
    let service = &spec.service;
    let ports = ports(spec);
    let mut metadata = super::metadata(resource);
    metadata.annotations =
        Some(opaque_ports::annotated(&service.annotations, ports.iter().map(|port| port.port)));
    Service {
        metadata,
        spec: Some(ServiceSpec {
            type_: Some(service.type_.as_str().to_owned()),
            selector: Some(labels::selector(&resource.name)),
            ports: Some(ports),
            load_balancer_class: service.load_balancer_class.clone(),
            load_balancer_source_ranges: super::some(service.load_balancer_source_ranges.clone()),
            external_traffic_policy: external_traffic_policy(spec).map(|policy| policy.as_str().to_owned()),
            internal_traffic_policy: Some("Cluster".to_owned()),
            ip_family_policy: Some(service.ip_family_policy.as_str().to_owned()),
            ip_families: super::some(
                service.ip_families.iter().map(|family| family.as_str().to_owned()).collect::<Vec<_>>(),
            ),
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
        app_protocol: Some(APP_PROTOCOL.to_owned()),
        node_port,
    };
    let smtp = port(pod::SMTP_PORT_NAME, spec.service.port, spec.service.node_port);
    let smtps = spec.tls.smtps_port.map(|number| port(pod::SMTPS_PORT_NAME, number, None));
    [smtp].into_iter().chain(smtps).collect()
}

/// A Service that is reached from outside has a policy: one that keeps the client's address, unless a load balancer
/// tells of it.
fn external_traffic_policy(spec: &MailLaserSpec) -> Option<ExternalTrafficPolicy> {
    let default =
        if is_told_of_clients(spec) { ExternalTrafficPolicy::Cluster } else { ExternalTrafficPolicy::Local };
    match spec.service.type_ {
        ServiceType::ClusterIP => None,
        ServiceType::NodePort | ServiceType::LoadBalancer => {
            Some(spec.service.external_traffic_policy.unwrap_or(default))
        }
    }
}

/// Whether pods see the addresses of clients rather than those of nodes. From outside the cluster they do
/// only with the policy `Local`.
pub fn shows_client_addresses(spec: &MailLaserSpec) -> bool {
    external_traffic_policy(spec) != Some(ExternalTrafficPolicy::Cluster)
}
