//! The objects of a resource, as they are sent. `INSTA_UPDATE=always cargo test -p mail-laser-operator`
//! accepts a change that is meant.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{environment, read, rendered, rendered_spool, validated};
use k8s_openapi::api::core::v1::{PodTemplateSpec, VolumeProjection};
use mail_laser_crds::{DeliveryMode, EnvVar, MailLaser, TlsMode};
use mail_laser_operator::references::evaluate::Dereferenced;
use mail_laser_operator::resources::{
    autoscaler, deployment, environment as variables, labels, monitoring, network_policy, pod,
    pod_disruption_budget, service, service_account, stateful_set,
};
use serde_json::json;

fn everything() -> MailLaser {
    serde_yaml_ng::from_str(&read("tests/fixtures/everything.yaml")).unwrap()
}

fn least() -> MailLaser {
    serde_yaml_ng::from_str(&read("tests/fixtures/least.yaml")).unwrap()
}

#[test]
fn a_resource_with_everything() {
    let resource = everything();
    insta::assert_yaml_snapshot!("everything_deployment", rendered(&resource, true));
    let resource = validated(&resource);
    insta::assert_yaml_snapshot!("everything_service", service::build(&resource));
    insta::assert_yaml_snapshot!("everything_service_account", service_account::build(&resource));
    insta::assert_yaml_snapshot!("everything_budget", pod_disruption_budget::build(&resource));
    insta::assert_yaml_snapshot!("everything_autoscaler", autoscaler::build(&resource));
    insta::assert_yaml_snapshot!("everything_pod_monitor", monitoring::pod_monitor(&resource));
    insta::assert_yaml_snapshot!("everything_prometheus_rule", monitoring::prometheus_rule(&resource));
    insta::assert_yaml_snapshot!("everything_network_policy", network_policy::build(&resource, false));
}

#[test]
fn a_resource_with_the_least() {
    let resource = validated(&least());
    insta::assert_yaml_snapshot!(
        "least_deployment",
        deployment::build(&resource, &Dereferenced::default(), false)
    );
    insta::assert_yaml_snapshot!("least_service", service::build(&resource));
}

/// With everything, and mail on disk.
fn spool() -> MailLaser {
    let mut resource = everything();
    resource.spec.delivery = serde_yaml_ng::from_str(
        "{mode: Spool, spool: {size: 20Gi, storageClassName: fast, lifetimeSeconds: 86400}}",
    )
    .unwrap();
    resource
}

#[test]
fn a_resource_with_a_spool() {
    let (set, job) = rendered_spool(&spool());
    insta::assert_yaml_snapshot!("spool_stateful_set", set);
    insta::assert_yaml_snapshot!("spool_drain", job);
}

#[test]
fn no_service_and_no_budget_selects_a_pod_that_drains() {
    let resource = spool();
    let (set, job) = rendered_spool(&resource);
    let resource = validated(&resource);
    let service = service::build(&resource).spec.unwrap().selector.unwrap();
    let budget = pod_disruption_budget::build(&resource).unwrap().spec.unwrap().selector.unwrap();
    for selector in [service, budget.match_labels.unwrap()] {
        let selects = |template: &PodTemplateSpec| {
            let labels = template.metadata.as_ref().unwrap().labels.as_ref().unwrap();
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        assert!(selects(&set.spec.template));
        assert!(!selects(&job.spec.as_ref().unwrap().template));
    }
}

#[test]
fn spool_and_dead_letters_leave_room_on_the_disk() {
    let (set, job) = rendered_spool(&spool());
    for template in [&set.spec.template, &job.spec.unwrap().template] {
        let value = |name: &str| environment(template).into_iter().find(|it| it.name == name).unwrap().value;
        assert_eq!(value("MAIL_LASER_DELIVERY").as_deref(), Some("spool"));
        assert_eq!(value("MAIL_LASER_SPOOL_LIFETIME").as_deref(), Some("86400"));
        let bytes: u64 = value("MAIL_LASER_SPOOL_MAX_BYTES").unwrap().parse().unwrap();
        assert!(bytes * 5 / 4 < (20 << 30) * 9 / 10, "{bytes}");
        let mounts = template.spec.as_ref().unwrap().containers[0].volume_mounts.as_ref().unwrap();
        let mount = mounts.iter().find(|mount| mount.name == "spool").unwrap();
        assert_eq!(value("MAIL_LASER_SPOOL_DIR"), Some(mount.mount_path.clone()));
    }
    assert_eq!(stateful_set::lifetime_seconds(&set), Some(86_400));
}

#[test]
fn what_cannot_change_in_a_set_is_known() {
    let sent = |resource: &MailLaser| serde_json::to_value(rendered_spool(resource).0).unwrap();
    let live = sent(&spool());
    let with = |change: fn(&mut mail_laser_crds::Spool)| {
        let mut resource = spool();
        change(resource.spec.delivery.spool.as_mut().unwrap());
        stateful_set::can_become(&live, &sent(&resource))
    };
    assert!(with(|spool| spool.size = "20480Mi".to_owned()));
    assert!(with(|spool| spool.lifetime_seconds = 60));
    assert!(!with(|spool| spool.size = "30Gi".to_owned()));
    assert!(!with(|spool| spool.storage_class_name = Some("slow".to_owned())));
    assert!(!with(|spool| spool.storage_class_name = None));
}

#[test]
fn a_budget_exists_from_two_replicas_on() {
    let mut resource = validated(&least());
    for (replicas, expected) in [(0, false), (1, false), (2, true), (1000, true)] {
        resource.spec.replicas = replicas;
        assert_eq!(pod_disruption_budget::build(&resource).is_some(), expected, "{replicas} replicas");
    }
}

#[test]
fn no_variable_is_there_twice_and_the_environment_of_the_resource_wins() {
    let environment = environment(&rendered(&everything(), true).spec.template);
    let mut names: Vec<_> = environment.iter().map(|variable| &variable.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), environment.len());
    let timeout = environment.iter().find(|variable| variable.name == "MAIL_LASER_WEBHOOK_TIMEOUT").unwrap();
    assert_eq!(timeout.value.as_deref(), Some("19"));
}

#[test]
fn the_mode_of_delivery_is_the_daemons_and_its_timeout_is_settable() {
    let mut resource = least();
    assert_eq!(value(&resource, "MAIL_LASER_DELIVERY").as_deref(), Some("forward"));
    resource.spec.delivery.mode = DeliveryMode::Confirm;
    assert_eq!(value(&resource, "MAIL_LASER_DELIVERY").as_deref(), Some("confirm"));
    assert_eq!(value(&resource, "MAIL_LASER_CONFIRM_TIMEOUT"), None);
    let name = "MAIL_LASER_CONFIRM_TIMEOUT".to_owned();
    resource.spec.env = vec![EnvVar { name, value: Some("30".to_owned()), ..EnvVar::default() }];
    assert_eq!(value(&resource, "MAIL_LASER_CONFIRM_TIMEOUT").as_deref(), Some("30"));
}

#[test]
fn the_limit_per_address_is_off_where_addresses_of_clients_do_not_reach_the_pods() {
    for (service, off) in [
        ("{}", false),
        ("{type: NodePort}", false),
        ("{type: NodePort, externalTrafficPolicy: Cluster}", true),
        ("{type: NodePort, externalTrafficPolicy: Local}", false),
        ("{type: LoadBalancer}", false),
        ("{type: LoadBalancer, externalTrafficPolicy: Cluster}", true),
        ("{type: LoadBalancer, externalTrafficPolicy: Local}", false),
    ] {
        let mut resource = least();
        resource.spec.service = serde_yaml_ng::from_str(service).unwrap();
        let limit = |resource: &MailLaser| value(resource, "MAIL_LASER_MAX_CONCURRENT_PER_IP");
        assert_eq!(limit(&resource).as_deref() == Some("0"), off, "{service}");
        // A load balancer that tells the client's address brings it back.
        resource.spec.proxy_protocol_from = vec!["10.0.0.0/8".to_owned()];
        assert_eq!(limit(&resource), None, "{service} with the PROXY protocol");
    }
}

#[test]
fn a_service_keeps_the_addresses_of_clients_unless_somebody_tells_them() {
    let policy =
        |resource: &MailLaser| service::build(&validated(resource)).spec.unwrap().external_traffic_policy;
    for (type_, direct, told) in [
        ("ClusterIP", None, None),
        ("NodePort", Some("Local"), Some("Cluster")),
        ("LoadBalancer", Some("Local"), Some("Cluster")),
    ] {
        let mut resource = least();
        resource.spec.service = serde_yaml_ng::from_str(&format!("{{type: {type_}}}")).unwrap();
        assert_eq!(policy(&resource).as_deref(), direct, "{type_}");
        resource.spec.proxy_protocol_from = vec!["10.0.0.0/8".to_owned()];
        assert_eq!(policy(&resource).as_deref(), told, "{type_}");
    }
}

#[test]
fn linkerd_is_told_of_the_ports_of_the_service_and_of_the_pods() {
    const KEY: &str = "config.linkerd.io/opaque-ports";
    let told = |resource: &MailLaser| {
        let service = service::build(&validated(resource)).metadata.annotations.unwrap().remove(KEY).unwrap();
        let pods = rendered(resource, false).spec.template.metadata.unwrap().annotations.unwrap();
        (service, pods[KEY].clone())
    };
    let mut resource = least();
    assert_eq!(told(&resource), ("25".to_owned(), "2525,4465".to_owned()));
    resource.spec.tls.smtps_port = Some(465);
    assert_eq!(told(&resource), ("25,465".to_owned(), "2525,4465".to_owned()));
    resource.spec.service.annotations.insert(KEY.to_owned(), "1".to_owned());
    let annotations = [(KEY.to_owned(), "2".to_owned())].into();
    resource.spec.pod_template = Some(mail_laser_crds::PodTemplate { annotations, ..Default::default() });
    assert_eq!(told(&resource), ("1".to_owned(), "2".to_owned()));
}

/// A variable of the daemon.
fn value(resource: &MailLaser, name: &str) -> Option<String> {
    let environment = environment(&rendered(resource, false).spec.template);
    environment.into_iter().find(|variable| variable.name == name)?.value
}

/// A fixed number of Secrets, whether they are there or not: no route restarts a pod.
#[test]
fn tables_of_routes_are_mounted_as_far_as_there_may_be_any() {
    for (allowed, expected) in [
        (json!([]), None),
        (json!([{}]), Some(1)),
        (json!([{"namespaces": {"from": "Same"}, "domains": ["example.com"]}]), Some(1)),
        (json!([{}, {"namespaces": {"from": "All"}}]), Some(32)),
    ] {
        let mut resource = least();
        resource.spec.allowed_routes = serde_json::from_value(allowed).unwrap();
        let volumes = rendered(&resource, false).spec.template.spec.unwrap().volumes;
        let sources = volumes.map(|volumes| volumes[0].projected.clone().unwrap().sources.unwrap());
        let secrets = |sources: Vec<VolumeProjection>| {
            sources.into_iter().filter_map(|it| it.secret).filter(|it| it.optional == Some(true)).count()
        };
        assert_eq!(sources.map(secrets), expected);
        assert_eq!(value(&resource, "MAIL_LASER_ROUTES").is_some(), expected.is_some());
    }
}

#[test]
fn without_tls_no_certificate_is_mounted() {
    let mut resource = least();
    resource.spec.allowed_routes = Vec::new();
    resource.spec.tls.secret_name = Some("pair".to_owned());
    let mounted = |resource: &MailLaser| rendered(resource, false).spec.template.spec.unwrap().volumes;
    assert_eq!(mounted(&resource).unwrap().len(), 1);
    assert!(value(&resource, "MAIL_LASER_TLS_KEY_FILE").is_some());
    resource.spec.tls.mode = TlsMode::Off;
    assert_eq!(mounted(&resource), None);
    assert_eq!(value(&resource, "MAIL_LASER_TLS_CERT_FILE"), None);
    assert_eq!(value(&resource, "MAIL_LASER_TLS").as_deref(), Some("off"));
}

#[test]
fn plain_http_is_permitted_to_the_service_alone() {
    let permitted = |resource: &MailLaser| {
        let environment = environment(&rendered(resource, false).spec.template);
        environment.iter().any(|variable| variable.name == "MAIL_LASER_WEBHOOK_ALLOW_HTTP")
    };
    assert!(permitted(&least()));
    let mut elsewhere = least();
    let address = "[{name: MAIL_LASER_WEBHOOK_URL, value: 'http://elsewhere.example.com/'}]";
    elsewhere.spec.env = serde_yaml_ng::from_str(address).unwrap();
    assert!(!permitted(&elsewhere));
    let mut tls = least();
    tls.spec.webhook.as_mut().unwrap().service_ref.as_mut().unwrap().scheme = mail_laser_crds::Scheme::Https;
    assert!(!permitted(&tls));
}

#[test]
fn pods_stop_later_than_the_daemon() {
    let pod = rendered(&least(), false).spec.template.spec.unwrap();
    let lifecycle = pod.containers[0].lifecycle.clone().unwrap();
    let pre_stop = lifecycle.pre_stop.unwrap().sleep.unwrap().seconds;
    let expected = pre_stop + variables::SHUTDOWN_GRACE_SECONDS + 5;
    assert_eq!(pod.termination_grace_period_seconds, Some(expected));
}

#[test]
fn the_hash_of_the_template_follows_the_template_and_nothing_else() {
    let hash = |resource: &MailLaser| pod::hash(&rendered(resource, false).spec.template).unwrap().to_owned();
    let before = hash(&least());
    let mut scaled = least();
    scaled.spec.replicas = 5;
    assert_eq!(hash(&scaled), before);
    let mut changed = least();
    changed.spec.image = Some("other:1".to_owned());
    assert_ne!(hash(&changed), before);
}

/// Of what the Pod Security Standard `restricted` demands, all that a resource could touch.
#[test]
fn pods_are_restricted_whatever_a_resource_says() {
    let (set, job) = rendered_spool(&spool());
    for template in
        [rendered(&everything(), true).spec.template, set.spec.template, job.spec.unwrap().template]
    {
        let spec = template.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(false));
        assert_eq!((spec.host_network, spec.host_pid, spec.host_ipc), (None, None, None));
        let context = spec.security_context.unwrap();
        assert_eq!(context.run_as_non_root, Some(true));
        assert_ne!(context.run_as_user.unwrap(), 0);
        assert!(["RuntimeDefault", "Localhost"].contains(&&*context.seccomp_profile.unwrap().type_));
        assert_eq!(context.sysctls, None);
        for volume in spec.volumes.unwrap() {
            let permitted = [
                volume.config_map.is_some(),
                volume.secret.is_some(),
                volume.empty_dir.is_some(),
                volume.persistent_volume_claim.is_some(),
                // Of Secrets alone: no token gets in by it.
                volume.projected.is_some_and(|it| it.sources.unwrap().iter().all(|one| one.secret.is_some())),
            ];
            assert_eq!(permitted.iter().filter(|is| **is).count(), 1, "{}", volume.name);
        }
        let containers: Vec<_> = spec.containers.into_iter().chain(spec.init_containers.unwrap()).collect();
        assert_eq!(containers.len(), 2);
        for container in containers {
            let context = container.security_context.unwrap();
            assert_eq!(context.allow_privilege_escalation, Some(false));
            assert_eq!(context.privileged, None);
            assert_ne!(context.run_as_user, Some(0));
            assert_eq!(context.capabilities.unwrap().drop.unwrap(), ["ALL"]);
            assert!(container.ports.unwrap_or_default().iter().all(|port| port.host_port.is_none()));
        }
    }
}

/// One that a Job would wait for would never let it end.
#[test]
fn further_containers_are_sidecars_of_pods_that_drain_too() {
    let (set, job) = rendered_spool(&spool());
    for template in [set.spec.template, job.spec.unwrap().template] {
        let sidecars = template.spec.unwrap().init_containers.unwrap();
        assert_eq!(sidecars[0].name, "proxy");
        assert_eq!(sidecars[0].restart_policy.as_deref(), Some("Always"));
    }
}

#[test]
fn pods_spread_over_nodes_and_zones_unless_a_resource_says_how() {
    let keys = |resource: &MailLaser| {
        let spec = rendered(resource, false).spec.template.spec.unwrap();
        let constraints = spec.topology_spread_constraints.unwrap_or_default();
        let nodes: Vec<_> =
            constraints.iter().map(|it| format!("{} {}", it.topology_key, it.when_unsatisfiable)).collect();
        let anti_affinity = spec.affinity.and_then(|affinity| affinity.pod_anti_affinity).unwrap_or_default();
        let zones = anti_affinity.preferred_during_scheduling_ignored_during_execution.unwrap_or_default();
        let zones: Vec<_> = zones.into_iter().map(|term| term.pod_affinity_term.topology_key).collect();
        (nodes.join(","), zones.join(","))
    };
    let over_nodes = "kubernetes.io/hostname ScheduleAnyway";
    for (template, nodes, zones) in [
        ("{}", over_nodes, "topology.kubernetes.io/zone"),
        ("affinity: {nodeAffinity: {}}", over_nodes, "topology.kubernetes.io/zone"),
        ("affinity: {podAntiAffinity: {}}", over_nodes, ""),
        (
            "topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule}]",
            "rack DoNotSchedule",
            "",
        ),
    ] {
        let mut resource = least();
        resource.spec.pod_template = Some(serde_yaml_ng::from_str(template).unwrap());
        assert_eq!(keys(&resource), (nodes.to_owned(), zones.to_owned()), "{template}");
    }
    let drain = rendered_spool(&{
        let mut resource = spool();
        resource.spec.pod_template = None;
        resource
    });
    let drain = drain.1.spec.unwrap().template.spec.unwrap();
    assert_eq!((drain.affinity, drain.topology_spread_constraints), (None, None));
}

#[test]
fn whoever_writes_pod_labels_cannot_take_pods_of_another_resource() {
    let mut resource = everything();
    let template = resource.spec.pod_template.as_mut().unwrap();
    for key in labels::owned("x").into_keys().chain(labels::selector("x").into_keys()) {
        template.labels.insert(key, "giraffe".to_owned());
    }
    let labels = rendered(&resource, false).spec.template.metadata.unwrap().labels.unwrap();
    assert!(!labels.values().any(|value| value == "giraffe"), "{labels:?}");
}
