//! The text format of Prometheus and OpenMetrics, as far as tests read it.

use std::collections::BTreeMap;

/// All samples of one scrape.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<Sample>);

#[derive(Clone, Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads a scrape; what is no sample is passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        Self(text.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect())
    }

    /// The sum of the samples that have this name and at least these labels; `None` when there is none.
    #[must_use]
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut found = self.matching(name, labels).peekable();
        found.peek()?;
        Some(found.map(|sample| sample.value).sum())
    }

    /// The same, with 0 for none: for counters that appear with their first event.
    #[must_use]
    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels).unwrap_or(0.0)
    }

    /// The samples of this name whose labels pass, as text, for messages.
    pub fn where_labels<'a>(
        &'a self,
        name: &'a str,
        pass: impl Fn(&BTreeMap<String, String>) -> bool + 'a,
    ) -> impl Iterator<Item = (String, f64)> + 'a {
        self.matching(name, &[])
            .filter(move |sample| pass(&sample.labels))
            .map(|sample| (format!("{}{:?}", sample.name, sample.labels), sample.value))
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&str, &str)],
    ) -> impl Iterator<Item = &'a Sample> + 'a {
        self.0.iter().filter(move |sample| {
            sample.name == name
                && labels
                    .iter()
                    .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
        })
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (series, value) = match line.split_once('{') {
        Some(_) => line.split_at(line.rfind('}')? + 1),
        None => line.split_at(line.find(' ')?),
    };
    let (name, labels) = match series.split_once('{') {
        Some((name, labels)) => (name, parse_labels(labels.strip_suffix('}')?)?),
        None => (series, BTreeMap::new()),
    };
    // A timestamp may follow.
    let value = value.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

fn parse_labels(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut labels = BTreeMap::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.insert(name.to_owned(), value);
        text = rest[end + 1..].trim_start_matches(',');
    }
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_what_matches() {
        let metrics = Metrics::parse(concat!(
            "# TYPE mails counter\n",
            "mails_total{route=\"default\",outcome=\"dropped\"} 2\n",
            "mails_total{route=\"default\",outcome=\"failed\"} 3 1700000000\n",
            "odd{text=\"a \\\"b\\\", {c}\"} 1.5e3\n",
            "plain 7\n# EOF\n",
        ));
        assert_eq!(metrics.sum("mails_total", &[("route", "default")]), Some(5.0));
        assert_eq!(metrics.sum("mails_total", &[("outcome", "dropped")]), Some(2.0));
        assert_eq!(metrics.sum("odd", &[("text", "a \"b\", {c}")]), Some(1500.0));
        assert_eq!(metrics.sum("plain", &[]), Some(7.0));
        assert_eq!(metrics.sum("absent", &[]), None);
        assert_eq!(metrics.count("absent", &[]), 0.0);
    }
}
