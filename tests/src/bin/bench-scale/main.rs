//! Measures an operator with thousands of resources: `make bench`, `ONLY=scale`.
//!
//! The API server is real, the pods are simulated. One operator is measured in a run, on a control plane of its own that
//! `tests/bench/scale/run` has started; what it came to is added to a file, which `table` makes the report of.

mod audit;
mod floor;
mod operator;
mod report;
mod subject;
mod written;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::audit::Audit;
use crate::operator::Operator;
use crate::report::{Figures, duration};
use crate::subject::{Subject, name, namespace};
use crate::written::Written;

/// Resources that are applied at once.
const AT_ONCE: usize = 1_000;
/// Requests of the load that are under way at the same time: what a `kubectl apply` of many people comes to.
pub(crate) const REQUESTS: usize = 16;
/// Changes, one after the other: enough for a 99th percentile.
const CHANGES: usize = 200;
/// How long after one change the next one comes: until then the cluster has rolled out the one before, which takes it
/// some thirty writes of its own.
const BETWEEN_CHANGES: Duration = Duration::from_millis(500);
/// How long one change may take before the measurement is given up.
const CHANGE_MAX: Duration = Duration::from_secs(30);
/// How long all else may take, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(3600);
/// How long an operator has to be silent until it is at rest.
const SILENCE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    mail_laser_e2e::init_crypto();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["at-once", subject] => Bench::new(subject).await?.at_once().await,
        ["whole", subject] => Bench::new(subject).await?.whole().await,
        ["table", ref record @ ..] => report::table(&folder()?, record.first().copied()),
        _ => bail!("usage: bench-scale at-once|whole mail-laser|prometheus, or bench-scale table [FILE]"),
    }
}

/// What `tests/bench/scale/run` says.
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set: use `ONLY=scale make bench`"))
}

fn number(name: &str) -> anyhow::Result<usize> {
    variable(name)?.parse().with_context(|| format!("{name} is no number"))
}

fn folder() -> anyhow::Result<PathBuf> {
    Ok(variable("SCALE_FOLDER")?.into())
}

/// An operator, and what it is measured with.
struct Bench {
    client: Client,
    subject: Subject,
    /// How many resources there are in the end.
    all: usize,
    audit: Audit,
    written: Written,
}

impl Bench {
    async fn new(subject: &str) -> anyhow::Result<Self> {
        let (subject, all) = (Subject::named(subject)?, number("SCALE_RESOURCES")?);
        ensure!(all > AT_ONCE, "SCALE_RESOURCES must be above {AT_ONCE}");
        let file = Kubeconfig::read_from(folder()?.join("admin.kubeconfig"))?;
        let client =
            Client::try_from(Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?)?;
        let audit = Audit::of(&folder()?.join("audit.log"));
        let written = Written::watch(&client, &subject);
        Ok(Self { client, subject, all, audit, written })
    }

    /// The first resources: how long they take, and how long they would take nobody.
    async fn at_once(self) -> anyhow::Result<()> {
        let Self { client, subject, audit, written, .. } = &self;
        let mut figures = Figures::default();
        // One alone, for a copy of what is written for it.
        let operator = Operator::start(subject).await?;
        self.apply(0..1).await?;
        written.wait_for(1, PATIENCE).await?;
        audit.wait_for_silence(SILENCE, PATIENCE).await?;
        operator.stop().await?;
        let alone = floor::measure(client, subject, AT_ONCE, PATIENCE).await?;
        figures.add("floor", alone.as_secs_f64());
        eprintln!("scale: {AT_ONCE} times the same written by a client alone in {alone:.1?}");

        let operator = Operator::start(subject).await?;
        let began = Instant::now();
        self.apply(1..AT_ONCE + 1).await?;
        written.wait_for(AT_ONCE + 1, PATIENCE).await?;
        let took = began.elapsed().as_secs_f64();
        figures.add("at-once", took);
        eprintln!("scale: {AT_ONCE} resources written after {}", duration(took));
        operator.stop().await?;
        figures.write(&folder()?, subject.name())
    }

    /// All the others, and what happens when they are there.
    async fn whole(self) -> anyhow::Result<()> {
        let Self { subject, all, audit, written, .. } = &self;
        let (all, steady) = (*all, Duration::from_secs(number("SCALE_STEADY_SECONDS")? as u64));
        let mut figures = Figures::read(&folder()?, subject.name())?;

        let operator = Operator::start(subject).await?;
        self.apply(AT_ONCE + 1..all).await?;
        written.wait_for(all, PATIENCE).await?;
        audit.wait_for_silence(SILENCE, PATIENCE).await?;
        figures.add("peak-mib", operator.peak_mib()?);
        figures.add("resident-mib", operator.resident_mib()?);
        eprintln!("scale: {all} resources written and at rest; peak {:.0} MiB", operator.peak_mib()?);

        let before = audit.read()?;
        tokio::time::sleep(steady).await;
        let after = audit.read()?;
        figures.add("steady-writes", (after.writes - before.writes) as f64);
        figures.add("steady-requests", (after.requests - before.requests) as f64 / steady.as_secs_f64());

        let mut changes = Vec::new();
        for change in 0..CHANGES {
            // Spread over all of them.
            changes.push(self.one_change(change * (all / CHANGES)).await?);
            tokio::time::sleep(BETWEEN_CHANGES).await;
        }
        changes.sort_by(f64::total_cmp);
        figures.add("change-median", changes[CHANGES / 2]);
        figures.add("change-p99", changes[CHANGES * 99 / 100]);
        audit.wait_for_silence(SILENCE, PATIENCE).await?;

        operator.stop().await?;
        let before = audit.read()?;
        let began = Instant::now();
        let operator = Operator::start(subject).await?;
        operator.has_reconciled(all, PATIENCE).await?;
        figures.add("restart", began.elapsed().as_secs_f64());
        audit.wait_for_silence(SILENCE, PATIENCE).await?;
        figures.add("restart-writes", (audit.read()?.writes - before.writes) as f64);
        figures.add("restart-peak-mib", operator.peak_mib()?);
        operator.stop().await?;
        figures.write(&folder()?, subject.name())
    }

    async fn apply(&self, range: std::ops::Range<usize>) -> anyhow::Result<()> {
        stream::iter(range)
            .map(async |index| self.subject.create(&self.client, &namespace(index), &name(index)).await)
            .buffer_unordered(REQUESTS)
            .try_collect::<()>()
            .await
    }

    /// From before the request to what was written because of it, in seconds.
    async fn one_change(&self, index: usize) -> anyhow::Result<f64> {
        let before = self.written.generation(index).context("it was not written")?;
        let began = Instant::now();
        self.subject.change(&self.client, index).await?;
        let at = self.written.wait_for_generation(index, before, CHANGE_MAX).await?;
        Ok((at - began).as_secs_f64())
    }
}
