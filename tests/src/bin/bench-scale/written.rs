//! What the operator that is measured has written, as watches tell it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::TryStreamExt;
use kube::api::{DynamicObject, WatchEvent, WatchParams};
use kube::{Api, Client, ResourceExt};
use tokio::sync::watch;

use crate::subject::{Owned, Subject};

/// Of each kind the objects there are, by the number of their resource, each with its generation and when that was seen.
type Seen = Arc<Mutex<Vec<HashMap<usize, (i64, Instant)>>>>;

pub(crate) struct Written {
    seen: Seen,
    changes: watch::Receiver<()>,
}

impl Written {
    /// Begins to watch.
    pub(crate) fn watch(client: &Client, subject: &Subject) -> Self {
        let seen: Seen = Arc::new(Mutex::new(vec![HashMap::new(); subject.owned().len()]));
        let (sender, changes) = watch::channel(());
        let sender = Arc::new(sender);
        for (kind, owned) in subject.owned().iter().enumerate() {
            let api = Api::<DynamicObject>::all_with(client.clone(), &owned.resource());
            let (seen, sender) = (Arc::clone(&seen), Arc::clone(&sender));
            tokio::spawn(async move {
                // A watch ends after some minutes, and the next one tells of all objects again.
                while let Err(error) = follow(&api, owned, kind, &seen, &sender).await {
                    eprintln!("scale: watch of {}: {error:#}; begun again", owned.resource().kind);
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            });
        }
        Self { seen, changes }
    }

    fn look<T>(&self, at: impl FnOnce(&[HashMap<usize, (i64, Instant)>]) -> T) -> T {
        at(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until there is an object of each kind for that many resources.
    pub(crate) async fn wait_for(&self, resources: usize, limit: Duration) -> anyhow::Result<()> {
        let counts = || self.look(|seen| seen.iter().map(HashMap::len).collect::<Vec<_>>());
        let all = || counts().iter().all(|count| *count >= resources);
        let mut changes = self.changes.clone();
        let waiting = async {
            while !all() {
                changes.changed().await?;
            }
            Ok::<_, watch::error::RecvError>(())
        };
        tokio::time::timeout(limit, waiting)
            .await
            .with_context(|| format!("there are {:?} of {resources}", counts()))??;
        Ok(())
    }

    /// The generation of what a change is seen by.
    pub(crate) fn generation(&self, index: usize) -> Option<i64> {
        self.look(|seen| Some(seen.last()?.get(&index)?.0))
    }

    /// Waits until it is another one; returns when that was seen.
    pub(crate) async fn wait_for_generation(
        &self,
        index: usize,
        before: i64,
        limit: Duration,
    ) -> anyhow::Result<Instant> {
        let mut changes = self.changes.clone();
        let waiting = async {
            loop {
                let found = self.look(|seen| seen.last()?.get(&index).copied());
                match found {
                    Some((generation, at)) if generation != before => return anyhow::Ok(at),
                    _ => changes.changed().await?,
                }
            }
        };
        tokio::time::timeout(limit, waiting)
            .await
            .with_context(|| format!("the change of r{index} was not applied"))?
    }
}

async fn follow(
    api: &Api<DynamicObject>,
    owned: &Owned,
    kind: usize,
    seen: &Seen,
    sender: &watch::Sender<()>,
) -> anyhow::Result<()> {
    loop {
        let mut events = std::pin::pin!(api.watch_metadata(&WatchParams::default(), "0").await?);
        while let Some(event) = events.try_next().await? {
            let object = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => object,
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(error) => return Err(kube::Error::Api(error).into()),
            };
            let Some(index) = owned.index(&object.name_any()) else { continue };
            let generation = object.metadata.generation.unwrap_or_default();
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let entry = seen[kind].entry(index).or_insert((generation, Instant::now()));
            if entry.0 != generation {
                *entry = (generation, Instant::now());
            }
            drop(seen);
            ensure!(sender.send(()).is_ok(), "nobody looks any more");
        }
    }
}
