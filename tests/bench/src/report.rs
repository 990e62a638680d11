//! Results as a table.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context;

/// What the results stand between in the file that keeps them.
const BEGIN: &str = "<!-- results -->\n";
const END: &str = "<!-- end of results -->\n";

/// One line of the table.
pub(crate) struct Row {
    /// What was measured.
    pub(crate) what: String,
    /// What is asked for; empty where a row is only for orientation.
    pub(crate) target: String,
    /// What the daemon came to.
    pub(crate) daemon: String,
    /// What the peer came to, and who it is.
    pub(crate) peer: String,
    /// The daemon's by the peer's.
    pub(crate) ratio: Option<f64>,
    /// Whether the target is met.
    pub(crate) met: Option<bool>,
}

impl Row {
    fn cells(&self) -> [String; 6] {
        let met = self.met.map_or("", |met| if met { "met" } else { "MISSED" });
        let ratio = self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}"));
        [&self.what, &self.target, &self.daemon, &self.peer, &ratio, met].map(str::to_owned)
    }
}

const HEAD: [&str; 6] = ["what", "target", "daemon", "peer", "ratio", ""];

/// A table in Markdown, its columns aligned.
pub(crate) fn table(rows: &[Row]) -> String {
    aligned(&rows.iter().map(Row::cells).collect::<Vec<_>>())
}

fn aligned(rows: &[[String; HEAD.len()]]) -> String {
    let mut cells = vec![HEAD.map(str::to_owned), HEAD.map(|_| "---".to_owned())];
    cells.extend_from_slice(rows);
    let mut widths = [0; HEAD.len()];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut table = String::new();
    for line in &cells {
        for (width, cell) in widths.iter().zip(line) {
            // Writing to a string does not fail.
            let _ = write!(table, "| {cell:<width$} ");
        }
        table.push_str("|\n");
    }
    table
}

/// Puts `rows` in the place of the old ones that are about the same, and `machine` in the place of what was said of that.
pub(crate) fn record(file: &Path, machine: &str, rows: &[Row]) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let text = replaced(&text, machine, rows)
        .with_context(|| format!("no {BEGIN:?} and {END:?} in {}", file.display()))?;
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}

fn replaced(text: &str, machine: &str, rows: &[Row]) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (old, after) = rest.split_once(END)?;
    let new: Vec<_> = rows.iter().map(Row::cells).collect();
    let is_new = |line: &[String; HEAD.len()]| new.iter().any(|new| new[0] == line[0]);
    let mut lines: Vec<_> = old.lines().filter_map(cells).skip(2).collect();
    let place = lines.iter().position(is_new).unwrap_or(lines.len());
    lines.retain(|line| !is_new(line));
    lines.splice(place..place, new);
    let table = aligned(&lines);
    Some(format!("{before}{BEGIN}\n{machine}\n\n{table}\n{END}{after}"))
}

/// The cells of a line of a table.
fn cells(line: &str) -> Option<[String; HEAD.len()]> {
    let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let cells: Vec<String> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
    cells.try_into().ok()
}

/// The one in the middle; of an even number, the lower of the two.
pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 50)
}

/// The one that so many of a hundred do not exceed.
pub(crate) fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// A number with thousands apart.
pub(crate) fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([7.0, 999.4, 1_000.0, 14_900.0].map(thousands), ["7", "999", "1,000", "14,900"]);
    }

    #[test]
    fn a_median_is_one_of_the_values() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0]) - 1.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((percentile(&values, 99) - 198.0).abs() < f64::EPSILON);
        assert!((percentile(&[1.0, 2.0], 99) - 2.0).abs() < f64::EPSILON);
    }

    fn row(what: &str, daemon: &str) -> Row {
        let (target, peer) = (String::new(), String::new());
        Row { what: what.into(), target, daemon: daemon.into(), peer, ratio: None, met: None }
    }

    #[test]
    fn results_take_the_place_of_the_old_ones_alone() {
        let old = table(&[row("start", "1"), row("memory", "2"), row("memory", "3"), row("sessions", "4")]);
        let text = format!("a\n{BEGIN}\nold\n\n{old}\n{END}b\n");
        let new = replaced(&text, "new", &[row("memory", "5"), row("memory", "6"), row("memory", "7")]);
        let rows = [
            row("start", "1"),
            row("memory", "5"),
            row("memory", "6"),
            row("memory", "7"),
            row("sessions", "4"),
        ];
        assert_eq!(new.unwrap(), format!("a\n{BEGIN}\nnew\n\n{}\n{END}b\n", table(&rows)));
        let first = replaced(&format!("{BEGIN}{END}"), "new", &[row("start", "1")]).unwrap();
        assert_eq!(first, format!("{BEGIN}\nnew\n\n{}\n{END}", table(&[row("start", "1")])));
        assert_eq!(replaced("a", "new", &[]), None);
    }

    #[test]
    fn a_missed_target_is_shouted() {
        let row = Row {
            what: "start".into(),
            target: "at most 1 ms".into(),
            daemon: "2 ms".into(),
            peer: String::new(),
            ratio: None,
            met: Some(false),
        };
        let table = table(&[row]);
        assert!(table.ends_with("| start | at most 1 ms | 2 ms   |      |       | MISSED |\n"), "{table}");
    }
}
