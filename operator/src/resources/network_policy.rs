//! Who may connect to the pods, and where they may connect to.
//!
//! Policies see the ports of pods: those of Services are translated before. So where the webhook is a Service, its port
//! says nothing.

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
    NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use url::{Host, Url};

use super::environment::WEBHOOK_URL;
use super::routes::parts_max;
use super::{labels, pod, some};
use crate::validate::{Destination, ValidatedMailLaser};

/// The DNS: 53, and 5353 on the pods that OpenShift runs it on. The cache of a node is no pod, so it is any address.
const DNS: [(&str, i32); 4] = [("UDP", 53), ("TCP", 53), ("UDP", 5353), ("TCP", 5353)];

/// The NetworkPolicy of a resource, if it asks for one; `has_routes` says whether routes of its own namespace name it.
pub fn build(resource: &ValidatedMailLaser, has_routes: bool) -> Option<NetworkPolicy> {
    let policy = resource.spec.network_policy.as_ref().filter(|policy| policy.enabled)?;
    let tcp = |ports: &[i32]| Some(ports.iter().map(|number| port("TCP", *number)).collect());
    let incoming = |ports: &[i32], from: &[NetworkPolicyPeer]| NetworkPolicyIngressRule {
        ports: tcp(ports),
        from: some(from.to_vec()),
    };
    let dns = NetworkPolicyEgressRule {
        ports: Some(DNS.map(|(protocol, number)| port(protocol, number)).into()),
        to: None,
    };
    let webhook = if policy.to.is_empty() {
        webhook(resource, has_routes)
    } else {
        NetworkPolicyEgressRule { ports: None, to: Some(policy.to.clone()) }
    };
    Some(NetworkPolicy {
        metadata: super::metadata(resource),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                // Pods that drain a spool have these, too, and have to get to the webhook.
                match_labels: Some(labels::owned(&resource.name)),
                ..LabelSelector::default()
            }),
            policy_types: Some(["Ingress", "Egress"].map(str::to_owned).into()),
            ingress: Some(vec![
                incoming(&[pod::SMTP_PORT, pod::SMTPS_PORT], &policy.from),
                // Kubelets ask from addresses that no selector can name.
                incoming(&[pod::HEALTH_PORT], &[]),
                incoming(&[pod::METRICS_PORT], &policy.metrics_from),
            ]),
            egress: Some(vec![dns, webhook]),
        }),
    })
}

fn port(protocol: &str, number: i32) -> NetworkPolicyPort {
    NetworkPolicyPort {
        protocol: Some(protocol.to_owned()),
        port: Some(IntOrString::Int(number)),
        end_port: None,
    }
}

/// The way to the webhook, as far as its address is known here.
fn webhook(resource: &ValidatedMailLaser, has_routes: bool) -> NetworkPolicyEgressRule {
    let everything = NetworkPolicyEgressRule::default();
    // Routes lead wherever their owners want.
    match parts_max(&resource.spec) {
        0 => {}
        1 if !has_routes => {}
        _ => return everything,
    }
    let pods = |peer| NetworkPolicyEgressRule { ports: None, to: Some(vec![peer]) };
    let entry = resource.spec.env.iter().find(|entry| entry.name == WEBHOOK_URL);
    let url = match (entry, &resource.destination) {
        (Some(entry), _) => entry.value.as_ref(),
        (None, Destination::Service(_)) => {
            return pods(NetworkPolicyPeer { pod_selector: any(), ..NetworkPolicyPeer::default() });
        }
        (None, Destination::Url(url)) => Some(url),
        (None, Destination::Secret(_) | Destination::Environment | Destination::Nowhere) => None,
    };
    let Some(url) = url.and_then(|url| Url::parse(url).ok()) else { return everything };
    if is_of_the_cluster(&url) {
        return pods(NetworkPolicyPeer { namespace_selector: any(), ..NetworkPolicyPeer::default() });
    }
    match url.port_or_known_default() {
        Some(number) => {
            NetworkPolicyEgressRule { ports: Some(vec![port("TCP", i32::from(number))]), to: None }
        }
        None => everything,
    }
}

fn any() -> Option<LabelSelector> {
    Some(LabelSelector::default())
}

/// Whether a name is one of a Service: it has no dot, or says so. Whatever else it is, a policy can only have its port.
fn is_of_the_cluster(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain("localhost")) => false,
        Some(Host::Domain(name)) => {
            !name.contains('.') || name.ends_with(".svc") || name.ends_with(".svc.cluster.local")
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use mail_laser_crds::MailLaser;
    use serde_json::{Value, json};

    use super::*;
    use crate::validate::validate;

    fn policy(spec: &str) -> Value {
        policy_with(spec, false)
    }

    fn policy_with(spec: &str, has_routes: bool) -> Value {
        let spec = serde_yaml_ng::from_str(&format!("targetEmails: [a@example.com]\n{spec}")).unwrap();
        let mut resource = MailLaser::new("zebra", spec);
        resource.metadata.namespace = Some("savanna".to_owned());
        resource.metadata.uid = Some("1".to_owned());
        serde_json::to_value(build(&validate(&resource, "i").unwrap(), has_routes)).unwrap()
    }

    /// The way to the webhook.
    fn out(webhook: &str) -> Value {
        policy(&format!("{webhook}\nnetworkPolicy: {{enabled: true}}"))["spec"]["egress"][1].clone()
    }

    #[test]
    fn there_is_none_unless_it_is_asked_for() {
        let webhook = "webhook: {url: https://example.com/}\n";
        assert_eq!(policy(webhook), Value::Null);
        assert_eq!(
            policy(&format!("{webhook}networkPolicy: {{enabled: false, from: [{{podSelector: {{}}}}]}}")),
            Value::Null
        );
    }

    #[test]
    fn the_way_to_the_webhook_is_as_narrow_as_its_address_says() {
        let port = |number: u16| json!({"ports": [{"port": number, "protocol": "TCP"}]});
        let own_pods = json!({"to": [{"podSelector": {}}]});
        let all_pods = json!({"to": [{"namespaceSelector": {}}]});
        for (webhook, expected) in [
            ("webhook: {url: https://api.example.com/x}", port(443)),
            ("webhook: {url: https://192.0.2.7:8443/x}", port(8443)),
            ("webhook: {url: http://localhost:3128/x}", port(3128)),
            ("webhook: {serviceRef: {name: hook, port: 80}}", own_pods),
            ("webhook: {url: https://hook.other.svc/}", all_pods.clone()),
            ("webhook: {url: https://hook.other.svc.cluster.local/}", all_pods.clone()),
            ("webhook: {url: https://hook/}", all_pods),
            ("webhook: {urlFrom: {secretKeyRef: {name: s, key: k}}}", json!({})),
            (
                "webhook: {serviceRef: {name: hook, port: 80}}\nenv: [{name: MAIL_LASER_WEBHOOK_URL, value: 'https://example.com/'}]",
                port(443),
            ),
            (
                "env: [{name: MAIL_LASER_WEBHOOK_URL, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
                json!({}),
            ),
        ] {
            assert_eq!(out(webhook), expected, "{webhook}");
        }
    }

    #[test]
    fn where_routes_lead_is_everywhere() {
        let spec = "webhook: {url: https://example.com/}\nnetworkPolicy: {enabled: true}\n";
        let none = "allowedRoutes: []\n";
        let all = "allowedRoutes: [{namespaces: {from: All}, domains: [example.com]}]\n";
        for (more, has_routes, is_everywhere) in
            [("", false, false), ("", true, true), (none, true, false), (all, false, true)]
        {
            let egress = policy_with(&format!("{spec}{more}"), has_routes)["spec"]["egress"][1].take();
            assert_eq!(egress == json!({}), is_everywhere, "{more:?} {has_routes}");
        }
        let to =
            "webhook: {url: https://example.com/}\nnetworkPolicy: {enabled: true, to: [{podSelector: {}}]}\n";
        assert_eq!(policy_with(to, true)["spec"]["egress"][1], json!({"to": [{"podSelector": {}}]}));
    }

    #[test]
    fn peers_are_those_of_the_resource() {
        let spec = policy(
            "webhook: {url: https://example.com/}
networkPolicy:
  enabled: true
  from: [{ipBlock: {cidr: 192.0.2.0/24}}]
  metricsFrom: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
  to: [{podSelector: {matchLabels: {app: hook}}}]",
        )["spec"]
            .take();
        let ports = |rule: usize| {
            let ports = spec["ingress"][rule]["ports"].as_array().unwrap();
            ports.iter().map(|port| port["port"].as_u64().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!((ports(0), ports(1), ports(2)), (vec![2525, 4465], vec![8080], vec![9090]));
        assert_eq!(spec["ingress"][0]["from"], json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]));
        assert_eq!(spec["ingress"][1]["from"], Value::Null);
        assert_eq!(spec["ingress"][2]["from"][0]["namespaceSelector"]["matchLabels"]["name"], "monitoring");
        assert_eq!(spec["egress"][1], json!({"to": [{"podSelector": {"matchLabels": {"app": "hook"}}}]}));
        assert_eq!(spec["egress"][0]["ports"][0], json!({"port": 53, "protocol": "UDP"}));
    }
}
