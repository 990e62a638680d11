//! Containers beside the daemon's, within the Pod Security Standard `restricted`.
//!
//! Each is an init container that is restarted: such a one is started before the daemon, stopped after it, and does
//! not keep the pod of a Job from its end.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, ExecAction, HTTPGetAction, Probe, SecurityContext,
    TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use mail_laser_crds::{ContainerSecurityContext, Sidecar, SidecarProbe};

use super::{environment, pod, some, volumes};

/// The container.
pub(super) fn build(sidecar: &Sidecar) -> Container {
    let port = |port: &mail_laser_crds::SidecarPort| ContainerPort {
        name: port.name.clone(),
        container_port: port.container_port,
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    };
    let env: Vec<_> = sidecar.env.iter().map(environment::from_entry).collect();
    let mounts: Vec<_> = sidecar.volume_mounts.iter().map(volumes::mounted).collect();
    Container {
        name: sidecar.name.clone(),
        image: Some(sidecar.image.clone()),
        image_pull_policy: Some(sidecar.image_pull_policy.as_str().to_owned()),
        command: some(sidecar.command.clone()),
        args: some(sidecar.args.clone()),
        env: some(env),
        ports: some(sidecar.ports.iter().map(port).collect::<Vec<_>>()),
        resources: Some(pod::resources(&sidecar.resources)),
        volume_mounts: some(mounts),
        startup_probe: sidecar.startup_probe.as_ref().map(probe),
        liveness_probe: sidecar.liveness_probe.as_ref().map(probe),
        readiness_probe: sidecar.readiness_probe.as_ref().map(probe),
        restart_policy: Some("Always".to_owned()),
        termination_message_policy: Some("File".to_owned()),
        termination_message_path: Some("/dev/termination-log".to_owned()),
        security_context: Some(confined(&sidecar.security_context)),
        ..Container::default()
    }
}

/// What every container has, and what it may choose.
pub(super) fn confined(chosen: &ContainerSecurityContext) -> SecurityContext {
    SecurityContext {
        run_as_user: chosen.run_as_user,
        run_as_group: chosen.run_as_group,
        read_only_root_filesystem: Some(chosen.read_only_root_filesystem),
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() }),
        ..SecurityContext::default()
    }
}

fn probe(probe: &SidecarProbe) -> Probe {
    Probe {
        http_get: probe.http_get.as_ref().map(|get| HTTPGetAction {
            path: Some(get.path.clone()),
            port: IntOrString::Int(get.port),
            scheme: Some("HTTP".to_owned()),
            ..HTTPGetAction::default()
        }),
        tcp_socket: probe.tcp_socket.as_ref().map(|socket| TCPSocketAction {
            port: IntOrString::Int(socket.port),
            ..TCPSocketAction::default()
        }),
        exec: probe.exec.as_ref().map(|exec| ExecAction { command: Some(exec.command.clone()) }),
        initial_delay_seconds: Some(probe.initial_delay_seconds),
        period_seconds: Some(probe.period_seconds),
        timeout_seconds: Some(probe.timeout_seconds),
        failure_threshold: Some(probe.failure_threshold),
        success_threshold: Some(1),
        ..Probe::default()
    }
}
