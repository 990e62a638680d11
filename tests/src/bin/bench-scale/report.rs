//! What was measured, and the table of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

const BEGIN: &str = "<!-- scale -->\n";
const END: &str = "<!-- end of scale -->\n";

/// What an operator came to.
#[derive(Debug, Default)]
pub(crate) struct Figures(BTreeMap<String, f64>);

impl Figures {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn write(&self, folder: &Path, subject: &str) -> anyhow::Result<()> {
        fs::write(path(folder, subject), serde_json::to_vec_pretty(&self.0)?)?;
        Ok(())
    }

    pub(crate) fn read(folder: &Path, subject: &str) -> anyhow::Result<Self> {
        let text = fs::read(path(folder, subject)).with_context(|| format!("{subject} was not measured"))?;
        Ok(Self(serde_json::from_slice(&text)?))
    }
}

fn path(folder: &Path, subject: &str) -> std::path::PathBuf {
    folder.join(format!("{subject}.json"))
}

/// A line of the table: what it is, its figure, how that is written, and the most that it may be.
struct Line(&'static str, &'static str, fn(f64) -> String, Option<f64>);

/// The targets are those that the operator was built for.
const LINES: &[Line] = &[
    Line("1,000 resources applied at once, until all is written", "at-once", duration, Some(30.0)),
    Line("as much, written by a client alone that has it ready", "floor", duration, None),
    Line("5,000 resources, peak memory", "peak-mib", memory, Some(256.0)),
    Line("5,000 resources, memory at rest", "resident-mib", memory, None),
    Line("5 minutes at rest, writes", "steady-writes", count, Some(0.0)),
    Line("5 minutes at rest, requests a second", "steady-requests", rate, Some(1.0)),
    Line("one change, until it is applied, median", "change-median", duration, Some(0.1)),
    Line("one change, until it is applied, 99th percentile", "change-p99", duration, Some(1.0)),
    Line("restart, until all are reconciled", "restart", duration, Some(20.0)),
    Line("restart, writes", "restart-writes", count, Some(0.0)),
    Line("restart, peak memory", "restart-peak-mib", memory, None),
];

/// A time in seconds, as a person reads it.
pub(crate) fn duration(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.0} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

fn memory(mib: f64) -> String {
    format!("{mib:.0} MiB")
}

fn count(number: f64) -> String {
    format!("{number:.0}")
}

fn rate(number: f64) -> String {
    format!("{number:.2}")
}

/// Prints the table, and puts it into a file in the place of the old one.
pub(crate) fn table(folder: &Path, record: Option<&str>) -> anyhow::Result<()> {
    let ours = Figures::read(folder, "mail-laser")?;
    let peer = Figures::read(folder, "prometheus").ok();
    let table = lines(&ours, peer.as_ref());
    print!("\n{table}");
    let Some(file) = record else { return Ok(()) };
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
    let replaced = replaced(&text, &table).with_context(|| format!("no {BEGIN:?} and {END:?} in {file}"))?;
    fs::write(file, replaced).with_context(|| format!("cannot write {file}"))
}

fn lines(ours: &Figures, peer: Option<&Figures>) -> String {
    let mut table =
        "| what | target | operator | prometheus-operator | |\n| --- | --- | --- | --- | --- |\n".to_owned();
    for Line(what, name, write, target) in LINES {
        let Some(value) = ours.0.get(*name) else { continue };
        let of_peer = peer.and_then(|peer| peer.0.get(*name)).map(|value| write(*value)).unwrap_or_default();
        let wanted = target.map(|most| format!("at most {}", write(most))).unwrap_or_default();
        let met = target.map_or("", |most| if *value <= most { "met" } else { "MISSED" });
        // Writing to a string does not fail.
        let _ = writeln!(table, "| {what} | {wanted} | {} | {of_peer} | {met} |", write(*value));
    }
    table
}

fn replaced(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_target_is_shouted() {
        let mut ours = Figures::default();
        ours.add("restart", 20.1);
        ours.add("steady-writes", 0.0);
        let table = lines(&ours, None);
        assert!(
            table.contains("| restart, until all are reconciled | at most 20.0 s | 20.1 s |  | MISSED |"),
            "{table}"
        );
        assert!(table.contains("| 5 minutes at rest, writes | at most 0 | 0 |  | met |"), "{table}");
    }

    #[test]
    fn the_table_takes_the_place_of_the_old_one() {
        let text = format!("a\n{BEGIN}old\n{END}b\n");
        assert_eq!(replaced(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n\n{END}b\n"));
    }
}
