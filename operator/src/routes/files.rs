//! A gateway's routes as files, and who goes without where there is no room. Pure.

use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use mail_laser_routes::files::{self, Entry, Index, PART_BYTES_MAX, TooLarge};

/// Octets of routes that one part holds. Each change writes a part anew: this much costs next to nothing.
const ONE_PART_BYTES_MAX: usize = 64 * 1024;

/// The files of a generation.
#[derive(Debug)]
pub struct Files {
    /// Which parts make it.
    pub index: Index,
    /// The parts.
    pub parts: Vec<Vec<u8>>,
    /// The routes that have no room in theirs.
    pub left_out: BTreeSet<String>,
}

/// The files of a generation, in as few parts as are worth it and no more than there may be. Where a part is too small for
/// its routes, the namespace that has most of it goes without its youngest: nobody stands in the way of others.
pub fn files(entries: &[Entry], parts_max: usize) -> Files {
    if let Ok((index, parts)) = files::write(entries, 1)
        && (parts_max == 1 || parts[0].len() <= ONE_PART_BYTES_MAX)
    {
        return Files { index, parts, left_out: BTreeSet::new() };
    }
    let mut entries = entries.to_vec();
    let mut left_out = BTreeSet::new();
    loop {
        match files::write(&entries, parts_max) {
            Ok((index, parts)) => return Files { index, parts, left_out },
            Err(TooLarge { part, bytes }) => {
                left_out.extend(leave_out(&mut entries, bytes - PART_BYTES_MAX, |entry| {
                    files::part_of(&entry.name, parts_max) == part
                }));
            }
        }
    }
}

/// What a namespace has of a part.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Held<'e> {
    bytes: usize,
    namespace: &'e str,
    /// Its routes that have a webhook, by number, and all of them; the youngest last.
    with_webhook: Vec<usize>,
    all: Vec<usize>,
}

/// Takes so many octets, at least, from the routes that `is_of_part` chooses; returns the names of those that it took them
/// from. A route keeps its recipients where that is enough: their mail is not for others.
fn leave_out(
    entries: &mut Vec<Entry>,
    mut bytes: usize,
    is_of_part: impl Fn(&Entry) -> bool,
) -> BTreeSet<String> {
    let mut held: BTreeMap<&str, Held<'_>> = BTreeMap::new();
    for (number, entry) in entries.iter().enumerate().filter(|(_, entry)| is_of_part(entry)) {
        let namespace = namespace(entry);
        let held = held.entry(namespace).or_insert_with(|| Held {
            bytes: 0,
            namespace,
            with_webhook: Vec::new(),
            all: Vec::new(),
        });
        held.bytes += size(entry);
        held.all.push(number);
        held.with_webhook.extend(entry.webhook.as_ref().map(|_| number));
    }
    let mut most: BinaryHeap<Held<'_>> = held.into_values().collect();
    let (mut without, mut gone) = (BTreeSet::new(), BTreeSet::new());
    while bytes > 0
        && let Some(mut held) = most.pop()
    {
        let Some(number) = held.with_webhook.pop().or_else(|| held.all.pop()) else { continue };
        let Some(entry) = entries.get(number) else { continue };
        let kept = size(&Entry { webhook: None, ..entry.clone() });
        let taken = if without.insert(number) && entry.webhook.is_some() {
            size(entry) - kept
        } else {
            gone.insert(number);
            kept
        };
        bytes = bytes.saturating_sub(taken);
        held.bytes = held.bytes.saturating_sub(taken);
        most.push(held);
    }
    drop(most);
    let left_out = without.iter().filter_map(|number| Some(entries.get(*number)?.name.clone())).collect();
    let mut number = 0..;
    entries.retain_mut(|entry| {
        let number = number.next().unwrap_or(usize::MAX);
        if without.contains(&number) {
            entry.webhook = None;
        }
        !gone.contains(&number)
    });
    left_out
}

fn namespace(entry: &Entry) -> &str {
    entry.name.split_once('/').map_or("", |(namespace, _)| namespace)
}

/// Octets of a route in its part, with the comma.
fn size(entry: &Entry) -> usize {
    serde_json::to_vec(entry).map_or(0, |json| json.len() + 1)
}

#[cfg(test)]
mod tests {
    use mail_laser_routes::files::{Webhook, part_of, read_routes};

    use super::*;

    #[test]
    fn a_table_has_as_few_parts_as_are_worth_it() {
        let few = entries("mail", 20, 0);
        assert_eq!(files(&few, 32).parts.len(), 1);
        let many = entries("mail", 1_000, 0);
        assert_eq!(files(&many, 32).parts.len(), 32);
        assert_eq!(files(&many, 1).parts.len(), 1);
        assert!(files(&many, 1).left_out.is_empty());
    }

    /// Routes of a namespace, the older first.
    fn entries(namespace: &str, count: usize, bytes: usize) -> Vec<Entry> {
        let entry = |n: usize| Entry {
            name: format!("{namespace}/{n:04}"),
            recipients: vec![format!("{n}@{namespace}.example.com").parse().unwrap()],
            webhook: Some(Webhook {
                ca_bundle: Some("x".repeat(bytes)),
                ..Webhook::at("https://x.example/")
            }),
        };
        (0..count).map(entry).collect()
    }

    fn read(files: &Files) -> BTreeMap<String, Entry> {
        let routes = read_routes(&files.index, |number| files.parts.get(number).cloned()).unwrap();
        routes.into_iter().map(|entry| (entry.name.clone(), entry)).collect()
    }

    #[test]
    fn who_fills_a_part_is_the_one_that_goes_without() {
        let team = entries("team", 200, 100);
        let greedy = entries("greedy", 40, 90_000);
        for parts_max in [1, 4] {
            let files = files(&[&greedy[..], &team].concat(), parts_max);
            let in_force = read(&files);
            assert_eq!(in_force.len(), 240, "all keep their recipients");
            assert!(team.iter().all(|entry| in_force[&entry.name] == *entry));
            let (with, without): (Vec<&Entry>, Vec<&Entry>) =
                greedy.iter().partition(|entry| in_force[&entry.name].webhook.is_some());
            assert!(with.len() >= 5 * parts_max, "{}", with.len());
            assert_eq!(without.len(), files.left_out.len());
            let part = |entry: &Entry| part_of(&entry.name, parts_max);
            let older = |without: &&Entry| {
                with.iter().all(|with| part(with) != part(without) || with.name < without.name)
            };
            assert!(without.iter().all(older), "the youngest of a part go first");
        }
    }

    #[test]
    fn routes_that_do_not_fit_even_without_their_webhooks_go() {
        let mut all = entries("team", 20_000, 0);
        let files = files(&all, 1);
        let in_force = read(&files);
        assert!(in_force.len() < all.len() && in_force.values().all(|entry| entry.webhook.is_none()));
        all.truncate(in_force.len());
        assert!(all.iter().all(|entry| in_force.contains_key(&entry.name)), "the oldest are left");
        assert_eq!(files.left_out.len(), 20_000);
    }
}
