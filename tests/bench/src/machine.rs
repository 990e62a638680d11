//! What the results were measured on.

use std::fs;

use anyhow::Context;

/// Processor, memory, kernel and how busy it was, in one sentence.
pub(crate) fn describe() -> anyhow::Result<String> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let model = value("/proc/cpuinfo", "model name").unwrap_or_else(|_| std::env::consts::ARCH.to_owned());
    let memory_kib: u64 = value("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
    let system = rustix::system::uname();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().context("an empty loadavg")?;
    Ok(format!(
        "Measured on {processors} processors ({model}) with {} GiB of memory, Linux {}; load before: {load}.",
        memory_kib / (1 << 20),
        system.release().to_string_lossy(),
    ))
}

/// What stands behind `name` and a colon, the first time.
fn value(file: &str, name: &str) -> anyhow::Result<String> {
    let text = fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    Ok(line.with_context(|| format!("no {name} in {file}"))?.trim().to_owned())
}
