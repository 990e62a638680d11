//! Whether this operator could lead. One who stands by watches nothing, so that without a try it would be found out when
//! the leader is gone that it may not read what a leader must. It tries once what every watch begins with.

use std::time::Duration;

use kube::api::{DynamicObject, ListParams};
use kube::{Api, Client};

use crate::backoff;
use crate::caches::{NO_ADVICE, advice, watched};
use crate::error::chain;
use crate::health::Health;
use crate::scope::{Place, Scope};

/// How long one try may take: a list of one object is there at once, or there is trouble.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a leader could not read.
struct Missing {
    /// The kinds and places.
    what: Vec<String>,
    /// The first error, and what to do about it.
    error: String,
    advice: &'static str,
}

/// Tries until everything can be read.
pub(crate) async fn try_them(client: Client, scope: Scope, health: Health) {
    let mut failures = 0;
    while let Some(Missing { what, error, advice }) = missing(&client, &scope).await {
        failures += 1;
        let wait = backoff::after_interruption(failures, backoff::random());
        let what = what.join(", ");
        tracing::warn!(what, error, advice, ?wait, "this operator could not lead");
        health.could_lead(Some(format!("as the leader it could not read {what}: {error}")));
        tokio::time::sleep(wait).await;
    }
    health.could_lead(None);
}

async fn missing(client: &Client, scope: &Scope) -> Option<Missing> {
    let mut missing: Option<Missing> = None;
    for place in scope.places() {
        for resource in watched(&place) {
            let api: Api<DynamicObject> = match &place {
                Place::Cluster => Api::all_with(client.clone(), &resource),
                Place::Namespace(name) => Api::namespaced_with(client.clone(), name, &resource),
            };
            let one = ListParams::default().limit(1);
            let (error, advice) = match tokio::time::timeout(TRY_TIMEOUT, api.list_metadata(&one)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => (chain(&error), advice(&error)),
                Err(_elapsed) => ("there was no answer in time".to_owned(), NO_ADVICE),
            };
            let missing = missing.get_or_insert_with(|| Missing { what: Vec::new(), error, advice });
            missing.what.push(format!("{} of {place}", resource.plural));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::caches::Caches;

    /// An API server that refuses to list some kinds, and tells of each that it is asked for.
    fn refusing(refuses: fn(&str) -> bool) -> (Client, UnboundedReceiver<String>) {
        let (sender, asked) = unbounded_channel();
        let answer = move |request: Request<Body>| {
            let plural = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
            let (code, body) = if refuses(&plural) {
                let message = format!("cannot list resource \"{plural}\"");
                (403, json!({"status": "Failure", "code": 403, "reason": "Forbidden", "message": message}))
            } else {
                (200, json!({"metadata": {}, "items": []}))
            };
            let body = Body::from(serde_json::to_vec(&body).unwrap());
            // Nobody listens where it is of no interest.
            let _ = sender.send(plural);
            async move { Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap()) }
        };
        (Client::new(tower::service_fn(answer), "default"), asked)
    }

    #[tokio::test]
    async fn what_is_tried_is_what_is_watched() {
        let (client, mut asked) = refusing(|_| true);
        let (_caches, watches) = Caches::start(&client, &Scope::default());
        let mut watched = BTreeSet::new();
        for _ in 0..watches.tasks.len() {
            watched.insert(asked.recv().await.unwrap());
        }
        // Whether the cluster has a kind that it may not have is asked of its group.
        watched.remove("v1");
        let (client, mut asked) = refusing(|_| false);
        assert!(missing(&client, &Scope::default()).await.is_none());
        let mut tried = BTreeSet::new();
        while let Ok(plural) = asked.try_recv() {
            tried.insert(plural);
        }
        assert_eq!(tried, watched);
    }

    #[tokio::test]
    async fn all_that_is_missing_is_named_at_once() {
        let scope = Scope::new(["a".to_owned(), "b".to_owned()], None);
        let (client, _asked) = refusing(|plural| matches!(plural, "secrets" | "jobs"));
        let missing = missing(&client, &scope).await.unwrap();
        let mut what = missing.what;
        what.sort();
        assert_eq!(
            what,
            [
                "jobs of namespace a",
                "jobs of namespace b",
                "secrets of namespace a",
                "secrets of namespace b"
            ]
        );
        assert!(missing.error.contains("cannot list resource") && missing.advice.contains("rbac.yaml"));
    }
}
