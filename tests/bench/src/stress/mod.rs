//! The daemon under stress: `make soak`, or `tests/bench/stress` alone.
//!
//! Each scenario runs the release binary over the loopback address, or, where it needs routes, with webhooks at the
//! address of this machine. It prints its figures, each in a line of its own, against the target. A figure that is
//! missed fails the whole run.

mod blocked_stderr;
mod daemon;
mod dead_routes;
mod expiry;
mod figure;
mod hanging_webhooks;
mod interim_responses;
mod place;
mod probe;
mod removed_route;
mod slow_clients;

use std::fs;
use std::future::Future;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::ensure;

use self::figure::Figure;
use self::place::{Place, Programs};

/// The longest time of one scenario. Each bounds its own steps; this is what their sum may not exceed.
const SCENARIO_MAX: Duration = Duration::from_secs(300);

/// Figures that are measured, and those of them that are missed.
#[derive(Default)]
struct Total {
    figures: usize,
    missed: usize,
}

/// Runs all scenarios whose name contains `only`. A figure that is missed is a failure.
///
/// # Errors
/// When no scenario has such a name, or no scenario can run.
pub(crate) async fn run(only: &str) -> anyhow::Result<ExitCode> {
    let programs = Programs::from_environment()?;
    let mut stress = Stress { programs, only, total: Total::default() };
    stress.scenario("expiry", expiry::figures).await?;
    stress.scenario("removed-route", removed_route::figures).await?;
    stress.scenario("dead-routes", dead_routes::figures).await?;
    stress.scenario("hanging-webhooks", hanging_webhooks::figures).await?;
    stress.scenario("slow-clients", slow_clients::figures).await?;
    stress.scenario("blocked-stderr", blocked_stderr::figures).await?;
    stress.scenario("interim-responses", interim_responses::figures).await?;
    let Total { figures, missed } = stress.total;
    ensure!(figures > 0, "no scenario has {only:?} in its name");
    println!("\n{} of {figures} figures are met, load average {}", figures - missed, load_average()?);
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Stress<'a> {
    programs: Programs,
    only: &'a str,
    total: Total,
}

impl Stress<'_> {
    /// Runs a scenario, if it is wanted, in an empty directory. One that fails is a figure that is missed, so that
    /// the others run.
    async fn scenario<F>(
        &mut self,
        name: &str,
        figures: impl FnOnce(Place, Vec<Figure>) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<Vec<Figure>>>,
    {
        if !name.contains(self.only) {
            return Ok(());
        }
        println!("\n{name}, load average {}", load_average()?);
        let place = self.programs.place(name)?;
        let started = Instant::now();
        let measured = tokio::time::timeout(SCENARIO_MAX, figures(place, Vec::new())).await;
        let figures = match measured {
            Ok(Ok(figures)) => figures,
            Ok(Err(error)) => vec![Figure::failed(format!("{error:#}"))],
            Err(_) => vec![Figure::failed(format!("not over after {SCENARIO_MAX:?}"))],
        };
        for figure in &figures {
            println!("  {figure}");
            self.total.figures += 1;
            self.total.missed += usize::from(!figure.met);
        }
        println!("  {} s, load average {}", started.elapsed().as_secs(), load_average()?);
        self.programs.clear(name)
    }
}

/// Of the last minute: other work on this machine counts for something in every figure.
fn load_average() -> anyhow::Result<String> {
    let averages = fs::read_to_string("/proc/loadavg")?;
    Ok(averages.split(' ').next().unwrap_or_default().to_owned())
}
