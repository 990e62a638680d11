//! Two thousand routes in fifty namespaces, applied at once; and mails to whom an oracle says.
//!
//! `ROUTES` says how many; `make soak` takes as many as a gateway may have.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use mail_laser_e2e::{Env, OPERATOR_NAMESPACE, SmtpClient, alone_for_longer, memory_mib, wait_for};
use serde_json::{Value, json};

use super::{gateway, pods, recipient};

const NAMESPACES: usize = 50;
const ROUTES: usize = 2_000;
const MAILS: usize = 1_000;
/// For so many routes. What is asked for is half a minute; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn thousands_of_routes_at_once_lead_where_they_should() -> anyhow::Result<()> {
    let routes = env::var("ROUTES").map_or(Ok(ROUTES), |text| text.parse())?;
    ensure!(routes >= ROUTES && routes.is_multiple_of(NAMESPACES), "ROUTES is not {ROUTES} or some more");
    let limit = LIMIT * u32::try_from(routes.div_ceil(ROUTES))?;
    alone_for_longer("routes-many", 3 * (limit - LIMIT), move |edge| async move {
        let tenants = Tenants::create(&edge).await?;
        let outcome = many(&edge, &tenants, routes / NAMESPACES, limit).await;
        tenants.delete().await?;
        outcome
    })
    .await
}

/// The namespaces of the tenants.
struct Tenants {
    client: kube::Client,
    names: Vec<String>,
}

impl Tenants {
    async fn create(edge: &Env) -> anyhow::Result<Self> {
        let client = edge.cluster().client();
        let names: Vec<_> = (0..NAMESPACES).map(|n| format!("{}-{n}", edge.namespace())).collect();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for name in &names {
            let labels = json!({"mail-laser.dev/e2e": "true"});
            let namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}}))?;
            namespaces.create(&PostParams::default(), &namespace).await?;
        }
        Ok(Self { client, names })
    }

    async fn delete(&self) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for name in &self.names {
            namespaces.delete(name, &DeleteParams::background()).await?;
        }
        Ok(())
    }

    fn routes(&self, namespace: &str) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("mail-laser.dev", "v1alpha1", "MailRoute"));
        Api::namespaced_with(self.client.clone(), namespace, &kind)
    }

    fn all_routes(&self) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("mail-laser.dev", "v1alpha1", "MailRoute"));
        Api::all_with(self.client.clone(), &kind)
    }

    /// Has each namespace have a Service `hook` that is the pod of a receiver elsewhere.
    async fn lead_to(&self, address: &str) -> anyhow::Result<()> {
        for namespace in &self.names {
            for (kind, group, object) in [
                ("Service", "", json!({"spec": {"ports": [{"port": 8080}]}})),
                (
                    "EndpointSlice",
                    "discovery.k8s.io",
                    json!({
                        "addressType": if address.contains(':') { "IPv6" } else { "IPv4" },
                        "ports": [{"port": 8080, "name": ""}],
                        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
                    }),
                ),
            ] {
                let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind));
                let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), namespace, &resource);
                let mut object = object;
                object["metadata"] =
                    json!({"name": "hook", "labels": {"kubernetes.io/service-name": "hook"}});
                object["apiVersion"] = resource.api_version.clone().into();
                object["kind"] = kind.into();
                api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
            }
        }
        Ok(())
    }
}

/// What route `route` of namespace `tenant` claims: of every kind of pattern some, and conflicts among them.
fn patterns(tenant: usize, route: usize) -> Vec<String> {
    match route % 4 {
        0 => vec![format!("r{route}@t{tenant}.example.com"), format!("shared{route}@example.com")],
        1 => vec![format!("r{route}+*@t{tenant}.example.com")],
        2 => vec![format!("*@d{route}.t{tenant}.example.com")],
        _ => vec![format!("*@*.d{route}.t{tenant}.example.com")],
    }
}

/// Whom mail for an address goes to, by the routes with their times of creation: the naive way.
fn oracle(routes: &BTreeMap<(String, String), (i64, Vec<String>)>, address: &str) -> Option<String> {
    let (local, domain) = address.split_once('@')?;
    let fits = |pattern: &str| -> Option<usize> {
        if pattern == address {
            return Some(usize::MAX);
        }
        let (of, wanted) = pattern.split_once('@')?;
        if let Some(user) = of.strip_suffix("+*") {
            return (wanted == domain && local.starts_with(&format!("{user}+"))).then(|| 10_000 + user.len());
        }
        match (of, wanted.strip_prefix("*.")) {
            ("*", Some(above)) => domain.ends_with(&format!(".{above}")).then_some(above.len()),
            ("*", None) => (wanted == domain).then_some(5_000),
            _ => None,
        }
    };
    routes
        .iter()
        .flat_map(|(key, (created, patterns))| {
            patterns.iter().filter_map(move |it| Some((fits(it)?, -created, key)))
        })
        .max_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| b.2.cmp(a.2)))
        .map(|(_, _, (namespace, name))| format!("/{namespace}/{name}"))
}

async fn many(edge: &Env, tenants: &Tenants, each: usize, limit: Duration) -> anyhow::Result<()> {
    let webhook = edge.deploy_webhook("hook").await?;
    let receiver =
        edge.objects("Pod")?.list(&ListParams::default().labels("app.kubernetes.io/name=hook")).await?;
    let address = receiver.items[0].data["status"]["podIP"].as_str().context("no address")?.to_owned();
    tenants.lead_to(&address).await?;
    edge.apply(&gateway(
        "  allowedRoutes: [{namespaces: {from: All}, domains: [example.com, \"*.example.com\"]}]\n",
    ))
    .await?;
    edge.wait_ready("edge").await?;
    let smtp = edge.reach_service("edge", 25).await?;
    let (before, writes) = (pods(edge).await?, table_writes(edge).await?);

    let begin = Instant::now();
    stream::iter((0..NAMESPACES).flat_map(|tenant| (0..each).map(move |route| (tenant, route))))
        .map(|(tenant, route)| {
            let namespace = &tenants.names[tenant];
            let object = json!({
                "apiVersion": "mail-laser.dev/v1alpha1", "kind": "MailRoute",
                "metadata": {"name": format!("r{route}")},
                "spec": {
                    "parentRefs": [{"name": "edge", "namespace": edge.namespace()}],
                    "recipients": patterns(tenant, route),
                    "webhook": {"serviceRef": {"name": "hook", "port": 8080, "path": format!("/{namespace}/r{route}")}},
                },
            });
            let api = tenants.routes(namespace);
            async move { api.create(&PostParams::default(), &serde_json::from_value(object)?).await.map_err(anyhow::Error::from) }
        })
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    let applied = begin.elapsed();
    let routes = wait_for("all routes have their answer", limit, || async {
        let routes = tenants.all_routes().list(&ListParams::default()).await?.items;
        let ours = routes.into_iter().filter(|route| {
            tenants.names.contains(route.metadata.namespace.as_ref().unwrap_or(&String::new()))
        });
        let ours: Vec<_> = ours.collect();
        let open = ours.iter().filter(|route| !is_answered(&route.data)).count();
        ensure!(ours.len() == NAMESPACES * each && open == 0, "{open} of {} are open", ours.len());
        Ok(ours)
    })
    .await?;
    let last = (0..each).rev().find(|route| route % 4 == 2).context("no route of a domain")?;
    let last = format!("x@d{last}.t{}.example.com", NAMESPACES - 1);
    wait_for("the pods have the last of them", limit, || async {
        let code = recipient(smtp.address(), &last).await?;
        ensure!(code == 250, "{code}");
        Ok(())
    })
    .await?;
    println!(
        "{} routes were applied in {:.1} s, and in force {:.1} s after the first; the table took {} writes",
        routes.len(),
        applied.as_secs_f32(),
        begin.elapsed().as_secs_f32(),
        table_writes(edge).await? - writes
    );
    if let Some(mib) = operator_peak_mib(edge).await? {
        println!("the operator had at most {mib:.0} MiB in memory");
    }
    ensure!(pods(edge).await? == before, "{before:?} became {:?}", pods(edge).await?);

    let known = routes
        .iter()
        .map(|route| {
            let key = (
                route.metadata.namespace.clone().unwrap_or_default(),
                route.metadata.name.clone().unwrap_or_default(),
            );
            let created = route.metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second());
            let recipients = serde_json::from_value(route.data["spec"]["recipients"].clone())?;
            Ok((key, (created, recipients)))
        })
        .collect::<anyhow::Result<BTreeMap<_, (i64, Vec<String>)>>>()?;
    let mut expected = BTreeSet::new();
    let mut client = SmtpClient::greeted(smtp.address()).await?;
    for number in 0..MAILS {
        let address = random_address(number, each);
        let subject = format!("to-{number}");
        match oracle(&known, &address) {
            Some(path) => {
                client.mail(&address, &format!("Subject: {subject}\r\n\r\n")).await?.must_be(250)?;
                expected.insert((subject, path));
            }
            None => {
                ensure!(recipient(smtp.address(), &address).await? == 550, "{address} is taken by somebody");
            }
        }
    }
    ensure!(expected.len() > MAILS / 2 && expected.len() < MAILS, "{} have an owner", expected.len());
    wait_for("each mail at its route", LIMIT, || async {
        let received = webhook.received().await?;
        let found: BTreeSet<_> = received
            .iter()
            .map(|mail| (mail.body["subject"].as_str().unwrap_or_default().to_owned(), mail.path.clone()))
            .collect();
        let missing = expected.difference(&found).count();
        ensure!(missing == 0 && found.len() == expected.len(), "{missing} are missing, {} came", found.len());
        Ok(())
    })
    .await
}

fn is_answered(route: &Value) -> bool {
    let conditions = route["status"]["parents"][0]["conditions"].as_array();
    conditions.is_some_and(|all| {
        all.iter()
            .any(|it| it["type"] == "Programmed" && (it["status"] == "True" || it["reason"] == "Conflict"))
    })
}

/// An address of which many have an owner, and some none. Spread by a multiplier, so that each run has the same.
fn random_address(number: usize, each: usize) -> String {
    let spread = number.wrapping_mul(2_654_435_761) >> 7;
    let (tenant, route, kind) = (spread % (NAMESPACES + 2), spread / 64 % (each + 2), spread / 8_192 % 8);
    // Mostly of the kind that the route claims, and now and then of another.
    match if kind < 6 { route % 4 } else { kind } {
        0 if kind % 2 == 0 => format!("shared{route}@example.com"),
        0 => format!("r{route}@t{tenant}.example.com"),
        1 | 6 => format!("r{route}+x@t{tenant}.example.com"),
        2 | 7 => format!("any@d{route}.t{tenant}.example.com"),
        _ => format!("any@a.b.d{route}.t{tenant}.example.com"),
    }
}

/// How often a Secret of the gateway was written.
async fn table_writes(edge: &Env) -> anyhow::Result<usize> {
    let path = format!("/namespaces/{}/secrets", edge.namespace());
    Ok(edge.cluster().operator_writes().await?.iter().filter(|write| write.what.contains(&path)).count())
}

/// The most memory that the leading operator ever had, in MiB; nothing where its process is not to be seen.
async fn operator_peak_mib(edge: &Env) -> anyhow::Result<Option<f64>> {
    let cluster = edge.cluster();
    if !cluster.is_ours() {
        return Ok(None);
    }
    let pod = cluster.operator_pod().await?;
    let name = pod.metadata.name.context("a pod without name")?;
    let process = cluster.script(&["pid", OPERATOR_NAMESPACE, &name]).await?;
    Ok(Some(memory_mib(&process, "VmHWM")?))
}
