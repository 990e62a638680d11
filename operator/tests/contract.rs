//! The environment that the operator renders is one that the daemon takes: the two sides of a contract that
//! no type holds together.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use common::{environment, read, rendered, rendered_spool};
use k8s_openapi::api::core::v1::{EnvVar, PodTemplateSpec};
use mail_laser::config::{Checked, Config, DeliveryConfig, Sources};
use mail_laser_crds::{DeliveryMode, MailLaser};
use rcgen::{CertifiedKey, KeyPair};

/// What the kubelet makes of a variable. References to other variables are of no concern here: every `$` that
/// the operator renders is doubled. Values from elsewhere are such as a person would put there.
fn value(variable: &EnvVar) -> Option<String> {
    if let Some(value) = &variable.value {
        return Some(value.replace("$$", "$"));
    }
    let source = variable.value_from.as_ref()?;
    if let Some(key) = &source.secret_key_ref {
        return Some(
            if key.key.contains("token") { "token" } else { "https://hook.example.com/x" }.to_owned(),
        );
    }
    if source.field_ref.is_some() {
        return Some("pod-name".to_owned());
    }
    Some("300000000".to_owned())
}

fn configure(resource: &MailLaser) -> Checked {
    if resource.spec.delivery.mode == DeliveryMode::Spool {
        let (set, drain) = rendered_spool(resource);
        let drain = environment(&drain.spec.unwrap().template);
        assert_eq!(drain, environment(&set.spec.template), "what is drained is what was written");
        return check(resource, &set.spec.template);
    }
    check(resource, &rendered(resource, true).spec.template)
}

fn check(resource: &MailLaser, template: &PodTemplateSpec) -> Checked {
    let variables: BTreeMap<_, _> = environment(template)
        .iter()
        .filter_map(|variable| Some((variable.name.clone(), value(variable)?)))
        .collect();
    let read_file = |path: &Path| {
        Ok(match path.to_str().unwrap() {
            "/etc/mail-laser/webhook-ca/ca.crt" => certificate(),
            "/etc/mail-laser/tls/tls.crt" => PAIR.cert.pem().into_bytes(),
            "/etc/mail-laser/tls/tls.key" => PAIR.signing_key.serialize_pem().into_bytes(),
            other => panic!("{other} is mounted nowhere"),
        })
    };
    Config::from_sources(&Sources { variables, hostname: "pod-name".to_owned(), read_file: &read_file })
        .unwrap_or_else(|problems| panic!("{:?}: {problems}", resource.metadata.name))
}

/// What the Secret of `spec.tls.secretName` would hold.
static PAIR: LazyLock<CertifiedKey<KeyPair>> =
    LazyLock::new(|| rcgen::generate_simple_self_signed(vec!["mx.example.com".to_owned()]).unwrap());

/// The certificate of the sample that has one.
fn certificate() -> Vec<u8> {
    let sample = read("../deploy/samples/valid/secret-url.yaml");
    let lines = sample.lines().map(str::trim).skip_while(|line| !line.starts_with("-----BEGIN"));
    let mut pem: Vec<_> = lines.take_while(|line| !line.starts_with("-----END")).collect();
    pem.push("-----END CERTIFICATE-----\n");
    pem.join("\n").into_bytes()
}

fn resources(yaml: &str) -> Vec<MailLaser> {
    serde_yaml_ng::Deserializer::from_str(yaml)
        .map(|document| serde::Deserialize::deserialize(document).unwrap())
        .filter(|document: &serde_json::Value| document["kind"] == "MailLaser")
        .map(|document| {
            let mut resource: MailLaser = serde_json::from_value(document).unwrap();
            resource.metadata.namespace.get_or_insert_with(|| "savanna".to_owned());
            resource.metadata.uid = Some("1".to_owned());
            resource
        })
        .collect()
}

#[test]
fn the_daemon_takes_every_sample_without_a_warning() {
    let mut taken = 0;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/samples/valid");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        for resource in resources(&std::fs::read_to_string(&path).unwrap()) {
            let checked = configure(&resource);
            assert_eq!(checked.warnings, Vec::<String>::new(), "{}", path.display());
            taken += 1;
        }
    }
    assert!(taken >= 5, "{taken} samples");
}

#[test]
fn what_a_resource_says_is_what_the_daemon_does() {
    let resource = &resources(&read("tests/fixtures/everything.yaml"))[0];
    let Checked { config, warnings, .. } = configure(resource);
    assert_eq!(warnings, Vec::<String>::new());
    let recipients: Vec<_> = config.recipients.iter().map(ToString::to_string).collect();
    assert_eq!(recipients, ["stripes@example.com", "ma$ne@example.com"]);
    let webhook = config.webhook.unwrap();
    assert_eq!(webhook.url.to_string(), "https://hook.example.com");
    assert!(webhook.bearer_token.is_some());
    assert_eq!(webhook.ca_roots.len(), 1);
    assert_eq!(webhook.timeout.as_secs(), 19);
    assert_eq!(webhook.retries_max, 0);
    assert_eq!(webhook.breaker_threshold.get(), 7);
    assert_eq!(webhook.breaker_reset.as_secs(), 13);
    assert_eq!(webhook.concurrency.get(), 17);
    assert_eq!(config.header_prefixes, ["x-ticket", "x-priority"]);
    assert_eq!(config.smtp.connections_per_ip_max.map(|limit| limit.get()), Some(10));
    let networks: Vec<_> = config.smtp.proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    let tls = config.tls.unwrap();
    assert!(tls.required);
    assert_eq!(tls.smtps, Some("[::]:4465".parse().unwrap()));
    assert_eq!(tls.pair.unwrap().1.certificate, PAIR.cert.pem().into_bytes());
    assert!(matches!(config.delivery, DeliveryConfig::Confirm(_)), "{:?}", config.delivery);
    assert_eq!(config.smtp.hostname, "pod-name");
    assert_eq!(config.shutdown_grace.as_secs(), 25);
    assert_eq!(config.smtp.listen, "[::]:2525".parse().unwrap());
    assert_eq!(config.health, "[::]:8080".parse().unwrap());
    assert_eq!(config.metrics, "[::]:9090".parse().unwrap());
}

#[test]
fn the_smallest_disk_holds_the_largest_mail_and_its_dead_letters() {
    let mut resource = resources(&read("tests/fixtures/least.yaml")).remove(0);
    let delivery = "{mode: Spool, spool: {size: 256Mi, lifetimeSeconds: 90}}";
    resource.spec.delivery = serde_yaml_ng::from_str(delivery).unwrap();
    let Checked { config, warnings, .. } = configure(&resource);
    assert_eq!(warnings, Vec::<String>::new());
    let DeliveryConfig::Spool(spool) = config.delivery else { panic!("{:?}", config.delivery) };
    assert_eq!(spool.directory, Path::new("/var/spool/mail-laser"));
    assert_eq!(spool.lifetime.as_secs(), 90);
    assert!(spool.bytes_max + spool.dead_bytes_max < (256 << 20) * 9 / 10, "{spool:?}");
}

#[test]
fn a_service_is_reached_by_plain_http() {
    let Checked { config, .. } = configure(&resources(&read("tests/fixtures/least.yaml"))[0]);
    assert_eq!(config.webhook.unwrap().url.request_uri(), "http://receiver.savanna.svc:8080/inbound");
}

#[test]
fn the_ports_of_the_pods_are_those_of_the_daemon() {
    let resource = &resources(&read("tests/fixtures/everything.yaml"))[0];
    let Checked { config, .. } = configure(resource);
    let container = rendered(resource, true).spec.template.spec.unwrap().containers.remove(0);
    let ports: BTreeMap<_, _> =
        container.ports.unwrap().into_iter().map(|port| (port.name.unwrap(), port.container_port)).collect();
    let smtps = config.tls.unwrap().smtps.unwrap();
    let expected = [
        ("smtp", config.smtp.listen),
        ("smtps", smtps),
        ("health", config.health),
        ("metrics", config.metrics),
    ];
    for (name, address) in expected {
        assert_eq!(ports.get(name), Some(&i32::from(address.port())), "{name}");
    }
}

/// The daemon has a variable for each field; the rule that keeps some of them out of `spec.env` names real
/// ones, and nothing that a person should set.
#[test]
fn the_variables_that_are_the_operators_are_the_daemons() {
    use mail_laser::config::variables::ALL;
    let mut kept: Vec<_> = ALL
        .iter()
        .map(|variable| variable.name)
        .filter(|name| mail_laser_crds::reserved_env_name(name))
        .collect();
    kept.sort_unstable();
    assert_eq!(
        kept,
        [
            "MAIL_LASER_BIND_ADDRESS",
            "MAIL_LASER_DELIVERY",
            "MAIL_LASER_HEALTH_BIND_ADDRESS",
            "MAIL_LASER_HEALTH_PORT",
            "MAIL_LASER_METRICS_BIND_ADDRESS",
            "MAIL_LASER_METRICS_PORT",
            "MAIL_LASER_PORT",
            "MAIL_LASER_ROUTES",
            "MAIL_LASER_SHUTDOWN_GRACE",
            "MAIL_LASER_SMTPS_PORT",
            "MAIL_LASER_SPOOL_DIR",
            "MAIL_LASER_SPOOL_LIFETIME",
            "MAIL_LASER_SPOOL_MAX_BYTES",
            "MAIL_LASER_TLS_CERT_FILE",
            "MAIL_LASER_TLS_KEY_FILE",
            "MAIL_LASER_WEBHOOK_CA_FILE",
        ]
    );
}
