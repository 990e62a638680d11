//! Measures the daemon against peers, all in one run, and prints a table: `make bench`. With `--stress`, puts it under
//! stress instead, a part of `make soak`.
//!
//! This process is both the load and the webhook, so that one clock times a mail from end to end.
//! What it measures runs in processes of its own, one at a time, and only on the loopback address.

mod load;
mod machine;
mod mail;
mod metrics;
mod peer;
mod postfix;
mod process;
mod report;
mod routes;
mod rows;
mod sink;
mod stress;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use peer::Tools;

/// Rounds of what is measured in turns, unless `ROUNDS` says otherwise.
const ROUNDS: usize = 3;

/// What the command line asks for.
#[derive(Default)]
struct Arguments {
    /// The file that keeps the results.
    record: Option<PathBuf>,
    /// Whether scenarios run instead of measurements.
    stress: bool,
    /// A part of a name: that measurement or scenario alone.
    only: String,
}

impl Arguments {
    fn read() -> anyhow::Result<Self> {
        let mut arguments = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            if word == "--record" {
                arguments.record = Some(words.next().context("--record wants a file")?.into());
            } else if word == "--stress" {
                arguments.stress = true;
            } else {
                arguments.only = word;
            }
        }
        Ok(arguments)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::read()?;
    let rounds = match std::env::var("ROUNDS") {
        Ok(text) => text.parse().context("ROUNDS is no number")?,
        Err(_) => ROUNDS,
    };
    // Before the load of its own.
    let machine = machine::describe()?;
    if arguments.stress {
        println!("{machine}");
        return stress::run(&arguments.only).await;
    }
    let rows = rows::measure(&Tools::from_environment()?, rounds, &arguments.only).await?;
    print!("\n{machine}\n\n{}", report::table(&rows));
    if let Some(file) = arguments.record {
        report::record(&file, &machine, &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}
