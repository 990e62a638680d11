//! The files in which the operator gives routes to the daemon: parts, and an index that says which parts
//! make one generation.
//!
//! Parts change one after the other, as Secrets do that are mounted. A generation counts only as a whole:
//! when each of its parts is there with the content that the index names.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::pattern::Pattern;

/// The version of the format.
pub const VERSION: u32 = 1;

/// The file that names a generation.
pub const INDEX: &str = "index.json";

/// Octets of a part: a Secret may have 1 MiB, and Base64 does not count.
pub const PART_BYTES_MAX: usize = 768 * 1024;

/// The file of a part.
#[must_use]
pub fn part_file(number: usize) -> String {
    format!("part-{number}.json")
}

/// A generation of routes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// The version of the format: 1.
    pub version: u32,
    /// Names the generation: a hash of all of it.
    pub generation: String,
    /// SHA-256 of each part, in hexadecimal digits, in their order.
    pub parts: Vec<String>,
}

/// Some of a generation's routes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Part {
    /// The routes.
    pub routes: Vec<Entry>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    /// Its namespace and name: `team-b/billing`.
    pub name: String,
    /// The patterns that it has; what others have won is not among them.
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub recipients: Vec<Pattern>,
    /// Where its mail goes. Without it that is not known for now: senders are asked to come again, and what waits
    /// for the route goes on waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Webhook>,
}

/// Where the mail of a route goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// Sent as `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<String>,
    /// Roots that are trusted beside the system's, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<String>,
    /// Seconds of one attempt.
    pub timeout_seconds: u32,
    /// Retries of one delivery.
    pub max_retries: u32,
    /// Failed deliveries in a row that open the circuit.
    pub circuit_breaker_threshold: u32,
    /// Seconds that the circuit stays open.
    pub circuit_breaker_reset_seconds: u32,
    /// Deliveries at the same time.
    pub concurrency: u32,
    /// Prefixes of the headers that go into the payload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub header_prefixes: Vec<String>,
    /// Headers of each request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Secrets that each request is signed with, the newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signing_secrets: Vec<String>,
    /// Whether plain HTTP is permitted: to a Service of the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_http: bool,
    /// Whether addresses of inner networks are permitted, too. Those of the host itself, link-local ones and those of
    /// metadata of clouds never are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
}

impl Webhook {
    /// The webhook at an address, with the defaults of the resource for all else.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            bearer_token: None,
            ca_bundle: None,
            timeout_seconds: 30,
            max_retries: 3,
            circuit_breaker_threshold: 5,
            circuit_breaker_reset_seconds: 60,
            concurrency: 64,
            header_prefixes: Vec::new(),
            headers: BTreeMap::new(),
            signing_secrets: Vec::new(),
            allow_http: false,
            allow_private: false,
        }
    }
}

impl fmt::Debug for Webhook {
    /// Nothing of it is shown: most of it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").finish_non_exhaustive()
    }
}

/// Why files are no generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// A part is missing, or is that of another generation: it is on its way.
    #[error("part {0} is not that of the generation; it may be on its way")]
    Incomplete(usize),
    /// A file cannot be read.
    #[error("{file} cannot be read: {why}")]
    Malformed {
        /// Which.
        file: String,
        /// Why. It shows nothing of what stands in the file.
        why: String,
    },
    /// The format is of another version.
    #[error("{INDEX} has version {0}, and this program knows version {VERSION}")]
    Version(u32),
    /// Two routes have the same name.
    #[error("the route {0} is there twice")]
    Twice(String),
}

/// Reads an index.
///
/// # Errors
/// When it is none that this program understands.
pub fn read_index(bytes: &[u8]) -> Result<Index, FilesError> {
    // The version first: another one may have other fields.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let versioned: Versioned = parse(INDEX, bytes)?;
    if versioned.version != VERSION {
        return Err(FilesError::Version(versioned.version));
    }
    parse(INDEX, bytes)
}

/// Reads the routes of a generation. `part` gives the content of a part, if it is there.
///
/// # Errors
/// When the generation is not complete, or not what it should be.
pub fn read_routes(
    index: &Index,
    mut part: impl FnMut(usize) -> Option<Vec<u8>>,
) -> Result<Vec<Entry>, FilesError> {
    let mut routes: Vec<Entry> = Vec::new();
    for (number, sum) in index.parts.iter().enumerate() {
        let bytes = part(number).filter(|bytes| digest(bytes) == *sum);
        let bytes = bytes.ok_or(FilesError::Incomplete(number))?;
        routes.extend(read_part(&part_file(number), &bytes)?);
    }
    let mut names: Vec<&str> = routes.iter().map(|route| route.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(FilesError::Twice(pair[0].to_owned())),
        None => Ok(routes),
    }
}

/// Reads the routes of a part, whose file is called `file`.
///
/// # Errors
/// When it is none.
pub fn read_part(file: &str, bytes: &[u8]) -> Result<Vec<Entry>, FilesError> {
    Ok(parse::<Part>(file, bytes)?.routes)
}

/// The part that a route is in, by its name, so that a change of one route changes one part.
#[must_use]
pub fn part_of(name: &str, parts: usize) -> usize {
    let digest: [u8; 32] = Sha256::digest(name).into();
    usize::from(u16::from_le_bytes([digest[0], digest[1]])) % parts.max(1)
}

/// Writes routes as the files of a generation: the index, and the content of each part.
///
/// # Errors
/// What is too large, when so many parts do not hold the routes.
pub fn write(routes: &[Entry], parts: usize) -> Result<(Index, Vec<Vec<u8>>), TooLarge> {
    let mut sorted: Vec<&Entry> = routes.iter().collect();
    sorted.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut contents: Vec<Part> = vec![Part::default(); parts.max(1)];
    for route in sorted {
        let number = part_of(&route.name, contents.len());
        contents[number].routes.push(route.clone());
    }
    let mut files = Vec::with_capacity(contents.len());
    for (number, part) in contents.iter().enumerate() {
        // There is JSON for whatever stands in a route.
        let bytes = serde_json::to_vec(part).unwrap_or_default();
        if bytes.len() > PART_BYTES_MAX {
            return Err(TooLarge { part: number, bytes: bytes.len() });
        }
        files.push(bytes);
    }
    let sums: Vec<String> = files.iter().map(|bytes| digest(bytes)).collect();
    let generation = digest(sums.concat().as_bytes())[..16].to_owned();
    Ok((Index { version: VERSION, generation, parts: sums }, files))
}

/// Routes do not fit into their parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("part {part} would have {bytes} octets; {PART_BYTES_MAX} are allowed")]
pub struct TooLarge {
    /// Which part.
    pub part: usize,
    /// How large it would be.
    pub bytes: usize,
}

fn digest(bytes: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.iter().fold(String::with_capacity(64), |text, byte| format!("{text}{byte:02x}"))
}

fn parse<'b, T: Deserialize<'b>>(file: &str, bytes: &'b [u8]) -> Result<T, FilesError> {
    serde_json::from_slice(bytes).map_err(|error| {
        // The text of an error may quote what stands there.
        let why = format!("{:?} at line {} column {}", error.classify(), error.line(), error.column());
        FilesError::Malformed { file: file.to_owned(), why }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, url: &str) -> Entry {
        Entry {
            name: name.to_owned(),
            recipients: vec!["billing+*@example.com".parse().unwrap()],
            webhook: Some(Webhook { bearer_token: Some("secret-token".to_owned()), ..Webhook::at(url) }),
        }
    }

    fn entries(count: usize) -> Vec<Entry> {
        (0..count).map(|n| entry(&format!("team/{n}"), "https://api.example.com/")).collect()
    }

    fn read(index: &Index, parts: &[Vec<u8>]) -> Result<Vec<Entry>, FilesError> {
        let index = read_index(&serde_json::to_vec(index).unwrap())?;
        read_routes(&index, |number| parts.get(number).cloned())
    }

    #[test]
    fn what_was_written_is_read() {
        for count in [0, 1, 100] {
            let written = entries(count);
            let (index, parts) = write(&written, 4).unwrap();
            assert_eq!(parts.len(), 4);
            let mut found = read(&index, &parts).unwrap();
            found.sort_by_key(|entry| entry.name[5..].parse::<u32>().unwrap());
            assert_eq!(found, written);
        }
    }

    #[test]
    fn one_route_changes_one_part_and_order_changes_nothing() {
        let mut routes = entries(50);
        let (before, _) = write(&routes, 8).unwrap();
        routes.reverse();
        assert_eq!(write(&routes, 8).unwrap().0, before);
        routes[7].webhook = None;
        let (after, _) = write(&routes, 8).unwrap();
        assert_ne!(before.generation, after.generation);
        let changed = before.parts.iter().zip(&after.parts).filter(|(one, other)| one != other).count();
        assert_eq!(changed, 1);
    }

    #[test]
    fn only_a_whole_generation_counts() {
        let (old, old_parts) = write(&entries(20), 3).unwrap();
        let mut changed = entries(20);
        changed.iter_mut().for_each(|route| route.webhook.as_mut().unwrap().timeout_seconds = 7);
        let (new, new_parts) = write(&changed, 3).unwrap();
        // Parts come one after the other, the index first or last.
        for arrived in 0..3 {
            let parts: Vec<Vec<u8>> = (0..3)
                .map(|n| if n < arrived { new_parts[n].clone() } else { old_parts[n].clone() })
                .collect();
            assert_eq!(read(&new, &parts), Err(FilesError::Incomplete(arrived)));
            assert_eq!(read(&old, &parts).is_ok(), arrived == 0);
        }
        assert!(read(&new, &new_parts).is_ok());
        assert_eq!(read(&new, &new_parts[..2]), Err(FilesError::Incomplete(2)));
    }

    #[test]
    fn what_is_wrong_is_said_without_what_is_secret() {
        let newer = br#"{"version": 2, "shards": {}}"#;
        assert_eq!(read_index(newer), Err(FilesError::Version(2)));
        assert!(matches!(read_index(b"{"), Err(FilesError::Malformed { .. })));
        let bad = br#"{"routes": [{"name": "a/b", "recipients": ["secret-token"], "webhook": {}}]}"#.to_vec();
        let index = Index { version: VERSION, generation: String::new(), parts: vec![digest(&bad)] };
        let error = read(&index, &[bad]).unwrap_err().to_string();
        assert!(error.contains("part-0.json") && !error.contains("secret"), "{error}");
        let twice = [entry("a/b", "https://x.example/"), entry("a/b", "https://y.example/")];
        let (index, parts) = write(&twice, 1).unwrap();
        assert_eq!(read(&index, &parts), Err(FilesError::Twice("a/b".to_owned())));
        assert!(!format!("{twice:?}").contains("secret-token"));
    }

    #[test]
    fn twenty_thousand_routes_fit_and_what_does_not_says_so() {
        let mut routes = entries(20_000);
        for route in &mut routes {
            route.name = format!("{}-{}", "n".repeat(63), route.name);
            route.recipients =
                vec![format!("{}@{}.example.com", "a".repeat(30), "b".repeat(30)).parse().unwrap()];
        }
        let (_, parts) = write(&routes, 32).unwrap();
        let largest = parts.iter().map(Vec::len).max().unwrap();
        assert!(largest < PART_BYTES_MAX * 3 / 4, "{largest}");
        assert!(matches!(write(&routes, 2), Err(TooLarge { .. })));
    }
}
