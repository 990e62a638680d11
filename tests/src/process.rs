//! What the system knows of a process on this machine.

use std::fs;

use anyhow::Context;

/// A field of `/proc/PID/status` that is an amount of memory, such as `VmHWM`, in MiB.
///
/// # Errors
/// When there is no such process, or no such field.
pub fn memory_mib(pid: &str, field: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("it does not run any more")?;
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    let (_, amount) = lines.find(|(name, _)| *name == field).context("no such line")?;
    let kib: f64 = amount.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
