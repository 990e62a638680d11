//! Who may know whom: the arrows of ARCHITECTURE.md, checked against the sources.

use std::fs;
use std::path::{Path, PathBuf};

use mail_laser_e2e::repository;

/// The files below `where_` (a folder, or a file with or without its module folder) never name any of `never`.
struct Rule {
    where_: &'static str,
    never: &'static [&'static str],
    because: &'static str,
}

const CLOCKS_AND_IO: &[&str] = &[
    "tokio",
    "reqwest",
    "axum",
    "hyper",
    "hickory_resolver",
    "rand",
    "getrandom",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "std::fs",
    "std::net::TcpStream",
    "std::net::TcpListener",
];
const CLUSTER: &[&str] =
    &["kube::Client", "kube::Api", "kube::client", "kube::api::Api", "kube::runtime", "tokio", "reqwest"];

const fn pure(where_: &'static str) -> Rule {
    Rule { where_, never: CLOCKS_AND_IO, because: "it decides, without I/O, clock or chance" }
}

const fn clientless(where_: &'static str) -> Rule {
    Rule {
        where_,
        never: CLUSTER,
        because: "it decides what should be; only other files talk to the cluster",
    }
}

#[rustfmt::skip]
const RULES: &[Rule] = &[
    Rule { where_: "daemon/src", never: &["kube", "k8s_openapi", "mail_laser_crds", "mail_laser_operator"],
           because: "the daemon never talks to the Kubernetes API" },
    Rule { where_: "daemon/src/smtp", never: &["crate::webhook", "hyper"],
           because: "delivery is the only thing between SMTP and webhook" },
    Rule { where_: "daemon/src/webhook", never: &["crate::smtp", "crate::delivery"],
           because: "delivery is the only thing between SMTP and webhook" },
    Rule { where_: "daemon/src/delivery", never: &["crate::smtp", "hyper"],
           because: "sessions call delivery, and the webhook client is the webhook's" },
    Rule { where_: "daemon/src/message", never: &["crate::smtp", "crate::webhook", "crate::delivery"],
           because: "a mail does not know where it comes from or goes to" },
    Rule { where_: "daemon/src/spool", never: &["crate::smtp", "crate::webhook", "crate::delivery", "crate::routes"],
           because: "mail on disk knows neither where it comes from nor how it is delivered" },
    pure("daemon/src/spool/backlog"),
    pure("daemon/src/spool/entry"),
    pure("daemon/src/spool/lane"),
    pure("daemon/src/spool/pace"),
    pure("daemon/src/spool/selector"),
    pure("daemon/routes/src"),
    pure("daemon/src/message/body"),
    pure("daemon/src/message/header"),
    pure("daemon/src/message/html"),
    pure("daemon/src/message/mailbox"),
    pure("daemon/src/message/multipart"),
    pure("daemon/src/message/parameters"),
    pure("daemon/src/message/parse"),
    pure("daemon/src/message/quoted"),
    pure("daemon/src/message/words"),
    pure("daemon/src/routes/entry"),
    pure("daemon/src/webhook/signature"),
    pure("daemon/src/smtp/command"),
    pure("daemon/src/smtp/line"),
    pure("daemon/src/smtp/reply"),
    pure("daemon/src/smtp/data"),
    pure("daemon/src/smtp/protocol"),
    pure("daemon/src/smtp/rate"),
    pure("daemon/src/smtp/transfers/choice"),
    pure("daemon/src/smtp/transfers/report"),
    pure("daemon/src/quota"),
    pure("daemon/src/webhook/payload"),
    pure("daemon/src/webhook/outcome"),
    pure("daemon/src/webhook/retry"),
    pure("daemon/src/webhook/breaker"),
    Rule { where_: "operator/src", never: &["mail_laser"], because: "the daemon is a process to it, not a library" },
    clientless("operator/src/resources"),
    clientless("operator/src/validate"),
    clientless("operator/src/apply/diff"),
    clientless("operator/src/references/evaluate"),
    clientless("operator/src/apply/managed_fields"),
    clientless("operator/src/apply/ownership"),
    clientless("operator/src/apply/replacement"),
    clientless("operator/src/quantity"),
    clientless("operator/src/routes/attach"),
    clientless("operator/src/routes/webhook"),
    clientless("operator/src/routes/files"),
    clientless("operator/src/routes/table"),
    clientless("operator/src/routes/status"),
    clientless("operator/src/spool"),
    clientless("operator/src/status"),
    pure("operator/src/leader/lease"),
    pure("operator/src/scope"),
    pure("operator/src/caches/lists"),
    pure("operator/src/health"),
    Rule { where_: "crds/src", never: &["kube::Client", "kube::runtime", "tokio", "mail_laser_operator"],
           because: "the types are for everybody: no client, no async" },
];

/// Which packages of ours each package may depend on, tests aside.
#[rustfmt::skip]
const DEPENDENCIES: &[(&str, &[&str])] = &[
    ("crds", &[]),
    ("daemon/logging", &[]),
    ("daemon/routes", &[]),
    ("daemon", &["mail-laser-logging", "mail-laser-routes"]),
    ("operator", &["mail-laser-crds", "mail-laser-logging", "mail-laser-routes"]),
    ("tests/bench", &[]),
];

#[test]
fn sources_keep_to_the_arrows() {
    let mut violations = Vec::new();
    for rule in RULES {
        let files = files_of(rule.where_);
        assert!(!files.is_empty(), "no file is at {}: move its rule to where it went", rule.where_);
        for file in files {
            let path = file.strip_prefix(repository()).unwrap_or(&file).to_owned();
            let source = fs::read_to_string(&file).expect("a readable source");
            for name in violations_in(&path, &source, rule.never) {
                violations.push(format!("{} names {name}: {}", path.display(), rule.because));
            }
        }
    }
    assert!(violations.is_empty(), "{}", violations.join("\n"));
}

#[test]
fn packages_depend_only_on_those_below() {
    for (package, allowed) in DEPENDENCIES {
        let manifest = fs::read_to_string(repository().join(package).join("Cargo.toml")).expect("a manifest");
        let dependencies = manifest.split("\n[dependencies]").nth(1).unwrap_or_default();
        let dependencies = dependencies.split("\n[").next().unwrap_or_default();
        for line in dependencies.lines() {
            let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
            let is_ours = name.starts_with("mail-laser");
            assert!(!is_ours || allowed.contains(&name), "{package}/Cargo.toml depends on {name}");
        }
    }
}

fn files_of(where_: &str) -> Vec<PathBuf> {
    let folder = repository().join(where_);
    let mut files = Vec::new();
    let module = folder.with_extension("rs");
    if module.is_file() {
        files.push(module);
    }
    collect(&folder, &mut files);
    files
}

/// All but modules of tests, which may know more.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.file_stem().is_some_and(|name| name == "tests") {
            continue;
        }
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn violations_in(path: &Path, source: &str, never: &[&str]) -> Vec<String> {
    let named = paths_in(&module_of(path), &code_of(source));
    let mut found: Vec<String> = never
        .iter()
        .filter(|name| named.iter().any(|path| has(path, name)))
        .map(|name| (*name).to_owned())
        .collect();
    found.dedup();
    found
}

/// Whether the segments of `name` are in `path` one after another; crates and `crate` only at its start.
fn has(path: &str, name: &str) -> bool {
    let (path, name): (Vec<&str>, Vec<&str>) = (path.split("::").collect(), name.split("::").collect());
    let is_type = name[0].starts_with(char::is_uppercase);
    let starts = if is_type { path.len() } else { 1 };
    (0..starts).any(|start| path.get(start..start + name.len()) == Some(&name[..]))
}

/// The module that a file is, from its crate's root: `daemon/src/smtp/session.rs` is `[smtp, session]`.
fn module_of(path: &Path) -> Vec<String> {
    let below = path.iter().skip_while(|part| *part != "src").skip(1);
    let mut module: Vec<String> =
        below.map(|part| part.to_string_lossy().trim_end_matches(".rs").to_owned()).collect();
    if module.last().is_some_and(|last| last == "mod" || last == "lib" || last == "main") {
        module.pop();
    }
    module
}

/// The source without comments, strings and the tests at its end, which may know more.
fn code_of(source: &str) -> String {
    let source = source.split("#[cfg(test)]").next().unwrap_or_default();
    let without_comments: Vec<&str> =
        source.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let joined = without_comments.join("\n");
    joined.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

/// Every path with `::` in it, groups spelled out, `self` and `super` resolved.
fn paths_in(module: &[String], code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(|character: char| character.is_alphabetic() || character == '_') {
        rest = &rest[start..];
        let (found, length) = path_tree(rest);
        for path in found {
            paths.push(resolve(module, &path));
        }
        rest = &rest[length..];
    }
    paths
}

/// The paths that start here (`a::{b, c::d}` is two), and how long their text is.
fn path_tree(text: &str) -> (Vec<String>, usize) {
    let end =
        text.find(|character: char| !character.is_alphanumeric() && character != '_').unwrap_or(text.len());
    let head = &text[..end];
    let Some(tail) = text[end..].strip_prefix("::") else {
        return (vec![head.to_owned()], end.max(1));
    };
    let mut length = end + 2;
    let Some(group) = tail.strip_prefix('{') else {
        if !tail.starts_with(|character: char| character.is_alphabetic() || character == '_') {
            return (vec![head.to_owned()], length);
        }
        let (paths, more) = path_tree(tail);
        return (paths.into_iter().map(|path| format!("{head}::{path}")).collect(), length + more);
    };
    length += 1;
    let (mut paths, mut rest) = (vec![head.to_owned()], group);
    while let Some(start) =
        rest.find(|character: char| character.is_alphabetic() || character == '_' || character == '}')
    {
        rest = &rest[start..];
        length += start;
        if rest.starts_with('}') {
            length += 1;
            break;
        }
        let (found, more) = path_tree(rest);
        paths.extend(found.into_iter().map(|path| format!("{head}::{path}")));
        rest = &rest[more..];
        length += more;
    }
    (paths, length)
}

fn resolve(module: &[String], path: &str) -> String {
    let mut module = module.to_vec();
    let mut segments: Vec<&str> = path.split("::").collect();
    if !matches!(segments[0], "self" | "super") {
        return path.to_owned();
    }
    while let Some(first @ ("self" | "super")) = segments.first().copied() {
        if first == "super" {
            module.pop();
        }
        segments.remove(0);
    }
    let mut resolved = vec!["crate".to_owned()];
    resolved.extend(module);
    resolved.extend(segments.into_iter().map(str::to_owned));
    resolved.join("::")
}

mod the_check_itself {
    use super::{Path, violations_in};

    fn in_smtp(source: &str) -> Vec<String> {
        violations_in(
            Path::new("daemon/src/smtp/session.rs"),
            source,
            &["crate::webhook", "tokio", "Instant::now", "kube::Client"],
        )
    }

    #[test]
    fn finds_every_way_to_name_a_module() {
        for source in [
            "use crate::webhook::Destination;",
            "use crate::{delivery, webhook};",
            "use crate::{\n    delivery::{Accept, Answer},\n    webhook::{self, Outcome},\n};",
            "use super::super::webhook;",
            "fn f() { crate::webhook::send() }",
        ] {
            assert_eq!(in_smtp(source), ["crate::webhook"], "{source}");
        }
    }

    #[test]
    fn finds_crates_and_functions() {
        assert_eq!(in_smtp("use tokio::time::sleep;"), ["tokio"]);
        assert_eq!(in_smtp("let x = std::time::Instant::now();"), ["Instant::now"]);
        assert_eq!(in_smtp("let x = Instant::now();"), ["Instant::now"]);
        assert_eq!(in_smtp("use kube::{Api, Client};"), ["kube::Client"]);
    }

    #[test]
    fn leaves_the_rest_alone() {
        for source in [
            "use crate::delivery::webhook;",
            "use super::webhook;",
            "// use crate::webhook",
            "let text = \"tokio::time\";",
            "use my_tokio::time;",
            "fn f(at: Instant) {}",
            "#[cfg(test)]\nmod tests { use tokio::test; }",
        ] {
            assert!(in_smtp(source).is_empty(), "{source}: {:?}", in_smtp(source));
        }
    }
}
