//! Mails that go on while something else happens, each of them accounted for.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::{Webhook, wait_for};
use anyhow::ensure;
use tokio::task::JoinSet;

/// A way to send mails, one after another.
pub trait Sender: Send + 'static {
    /// Sends a mail of this subject; it is accepted, or an error says why not.
    fn send(&mut self, subject: &str) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// Senders that go on until they are told to stop, and remember each answer.
pub struct Traffic {
    progress: Arc<Progress>,
    senders: JoinSet<Sent>,
}

#[derive(Default)]
struct Progress {
    is_over: AtomicBool,
    accepted: AtomicUsize,
}

/// What was answered.
#[derive(Default)]
pub struct Sent {
    accepted: BTreeSet<String>,
    refused: Vec<String>,
}

impl Traffic {
    /// Begins to send, by each of the senders one mail after the other.
    pub fn start<S: Sender>(senders: impl IntoIterator<Item = S>) -> Self {
        let progress = Arc::<Progress>::default();
        let senders = senders
            .into_iter()
            .enumerate()
            .map(|(number, sender)| send(number, sender, Arc::clone(&progress)));
        Self { senders: senders.collect(), progress }
    }

    /// Waits until twenty more were accepted.
    ///
    /// # Errors
    /// When they are not.
    pub async fn flows(&self) -> anyhow::Result<()> {
        let before = self.progress.accepted.load(Ordering::Relaxed);
        // A mail takes a sync of a disk, which others may keep busy for seconds.
        wait_for("twenty more mails", Duration::from_secs(150), || async {
            let more = self.progress.accepted.load(Ordering::Relaxed) - before;
            ensure!(more >= 20, "{more}");
            Ok(())
        })
        .await
    }

    /// Ends the sending, and tells what was sent.
    ///
    /// # Errors
    /// When a sender panicked.
    pub async fn stop(mut self) -> anyhow::Result<Sent> {
        self.progress.is_over.store(true, Ordering::Relaxed);
        let mut all = Sent::default();
        while let Some(sent) = self.senders.join_next().await {
            let sent = sent?;
            all.accepted.extend(sent.accepted);
            all.refused.extend(sent.refused);
        }
        Ok(all)
    }
}

impl Sent {
    /// Nothing was refused, and all that was accepted arrives at one of the webhooks.
    ///
    /// # Errors
    /// When something was refused, or does not arrive.
    pub async fn arrived(&self, webhooks: &[&Webhook]) -> anyhow::Result<()> {
        self.arrived_within(Duration::from_secs(60), webhooks).await
    }

    /// As [`Self::arrived`], where it may take longer.
    ///
    /// # Errors
    /// When something was refused, or does not arrive.
    pub async fn arrived_within(&self, limit: Duration, webhooks: &[&Webhook]) -> anyhow::Result<()> {
        let (accepted, refused) = (self.accepted.len(), self.refused.len());
        ensure!(refused == 0, "{refused} were refused beside {accepted}: {:?}", self.refused);
        wait_for("every accepted mail at a webhook", limit, || async {
            let mut arrived = BTreeSet::new();
            for webhook in webhooks {
                arrived.extend(webhook.accepted_subjects().await?);
            }
            let missing: Vec<&String> = self.accepted.difference(&arrived).collect();
            ensure!(missing.is_empty(), "{} of {accepted} are missing: {missing:?}", missing.len());
            Ok(())
        })
        .await
    }
}

async fn send(number: usize, mut sender: impl Sender, progress: Arc<Progress>) -> Sent {
    let mut sent = Sent::default();
    for mail in 0.. {
        if progress.is_over.load(Ordering::Relaxed) {
            break;
        }
        let subject = format!("{number}-{mail}");
        match sender.send(&subject).await {
            Ok(()) => {
                sent.accepted.insert(subject);
                progress.accepted.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => sent.refused.push(format!("{subject}: {error:#}")),
        }
        // A pace, not a wait: the receiver remembers a bounded number.
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    sent
}
