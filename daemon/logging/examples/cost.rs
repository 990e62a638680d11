//! Prints what a log record costs: `cargo run --release --example cost -p mail-laser-logging -- 1000000 2>/dev/null`.
//!
//! The records resemble the two that the daemon writes for each message. The CPU time is the whole process's, so that a
//! thread that writes counts, too.

use std::time::{Duration, Instant};

use mail_laser_logging::{LogFormat, init, parse_filter};
use tracing::{info, info_span};

/// Ticks of `/proc/self/stat` in a second: `USER_HZ`, which is part of the kernel's ABI.
const TICKS: u32 = 100;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let records: u32 = arguments.next().ok_or("the number of records is missing")?.parse()?;
    let pause = arguments.next().map(|micros| micros.parse().map(Duration::from_micros)).transpose()?;
    let log = init(LogFormat::Text, parse_filter("info", "info")?);
    let (before, started) = (cpu()?, Instant::now());
    let _session = info_span!("session", peer = "192.0.2.1:12345").entered();
    for number in 0..records / 2 {
        info!(id = "01m7xpg7w93ew7mnsjfrb3er7t", bytes = number, recipients = 1, "mail accepted");
        info!(route = "default", attempt = 1, status = 200, elapsed_ms = number, "mail delivered");
        pause.iter().for_each(|pause| std::thread::sleep(*pause));
    }
    let caller = started.elapsed();
    drop(log);
    println!(
        "{records} records: {:?} of wall time and {:?} of CPU each",
        caller / records,
        (cpu()? - before) / records
    );
    Ok(())
}

/// CPU time of this process.
fn cpu() -> Result<Duration, Box<dyn std::error::Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').ok_or("no name")?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks =
        || -> Result<u32, Box<dyn std::error::Error>> { Ok(fields.next().ok_or("no time")?.parse()?) };
    Ok(Duration::from_secs(1) * (ticks()? + ticks()?) / TICKS)
}
