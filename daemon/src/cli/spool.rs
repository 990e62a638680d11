//! `mail-laser spool`: looks at the mails of a spool, and acts on them.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::builder::NonEmptyStringValueParser;
use clap::{Args, Subcommand};
use jiff::Timestamp;
use mail_laser::delivery::spool::DEAD_DIRECTORY;
use mail_laser::spool::clock::millis;
use mail_laser::spool::control::{self, Request};
use mail_laser::spool::dead::keeper::Wish;
use mail_laser::spool::disk::Directory;
use mail_laser::spool::entry::{Head, Progress, Subject, Target};
use mail_laser::spool::segment::{Extent, Found, Histories, Location, SegmentId, load};
use mail_laser::spool::selector::{Kind, Selector};
use mail_laser::spool::survey;
use serde_json::{Map, Value, json};

/// Looks at the mails of a spool, and acts on them.
///
/// Works beside the running daemon. A mail to several destinations is listed once for each of them.
#[derive(Args)]
pub(crate) struct SpoolArguments {
    /// The spool's directory, in place of MAIL_LASER_SPOOL_DIR
    #[arg(long, global = true, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) dir: Option<String>,
    #[command(subcommand)]
    pub(crate) command: SpoolCommand,
}

#[derive(Subcommand)]
pub(crate) enum SpoolCommand {
    /// List mails that wait and dead letters
    List {
        #[command(flatten)]
        choice: Choice,
        /// One JSON object for each mail, a line each
        #[arg(long)]
        json: bool,
        /// How many at most
        #[arg(long)]
        limit: Option<usize>,
    },
    /// Show everything that is known of mails
    Show {
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
        /// One JSON object for each mail, a line each
        #[arg(long)]
        json: bool,
        /// Only the mail itself, as it was received
        #[arg(long, conflicts_with = "json")]
        content: bool,
    },
    /// Deliver mails now: those that wait without waiting, and dead letters again
    Retry {
        #[command(flatten)]
        choice: Choice,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Dead letters with damaged content, too: the webhook receives what is left of them
        #[arg(long)]
        force: bool,
    },
    /// Give mails up for good
    Discard {
        #[command(flatten)]
        choice: Choice,
        /// All of them
        #[arg(long)]
        all: bool,
    },
    /// Deliver what waits without taking mail, and exit: 0 when the spool is empty, 3 when dead letters or damaged segments
    /// are left
    Drain,
}

/// Which mails; they have to fit everything that is said.
#[derive(Args)]
pub(crate) struct Choice {
    /// Their ids
    ids: Vec<String>,
    /// Mails that wait
    #[arg(long, conflicts_with = "dead")]
    waiting: bool,
    /// Dead letters
    #[arg(long)]
    dead: bool,
    /// Mails to the destination of this name
    #[arg(long)]
    destination: Option<String>,
    /// Mails received longer ago than this, such as 90s, 30m, 12h or 5d
    #[arg(long, value_parser = seconds)]
    older_than: Option<u64>,
    /// Mails whose last failure says this
    #[arg(long)]
    reason: Option<String>,
}

impl Choice {
    fn selector(self) -> Selector {
        let kind = match (self.waiting, self.dead) {
            (true, _) => Some(Kind::Waiting),
            (_, true) => Some(Kind::Dead),
            _ => None,
        };
        Selector {
            kind,
            ids: self.ids,
            route: self.destination,
            older_than_seconds: self.older_than,
            reason: self.reason,
        }
    }
}

/// Reads a time such as `12h`.
fn seconds(text: &str) -> Result<u64, String> {
    let unit = |unit| match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at(digits);
    let seconds =
        number.parse::<u64>().ok().zip(unit(rest)).and_then(|(number, unit)| number.checked_mul(unit));
    seconds.ok_or_else(|| "valid is a number with s, m, h or d behind it".to_owned())
}

/// Runs a command, [`SpoolCommand::Drain`] aside, which needs the whole configuration.
pub(crate) fn run(command: SpoolCommand, directory: &Path) -> ExitCode {
    let result = match command {
        SpoolCommand::List { choice, json, limit } => list(directory, &choice.selector(), json, limit),
        SpoolCommand::Show { ids, json, content } => show(directory, ids, json, content),
        SpoolCommand::Retry { choice, all, force } => {
            act(directory, choice.selector(), all, if force { Wish::Force } else { Wish::Retry })
        }
        SpoolCommand::Discard { choice, all } => act(directory, choice.selector(), all, Wish::Discard),
        SpoolCommand::Drain => Ok(()),
    };
    super::ended(result.map(|()| ExitCode::SUCCESS))
}

/// A mail of the spool, at one of its destinations.
struct Listed<'h> {
    disk: &'h Directory,
    at: Location,
    destination: u16,
    head: &'h Head,
    target: &'h Target,
    progress: &'h Progress,
    content_bytes: u32,
}

impl Listed<'_> {
    fn kind(&self) -> Kind {
        if self.head.death.is_some() { Kind::Dead } else { Kind::Waiting }
    }

    fn reason(&self) -> &str {
        self.head.death.as_ref().map_or(self.progress.reason.as_str(), |death| death.reason.as_str())
    }

    fn json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut field = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        field("id", json!(self.head.id));
        field("state", json!(self.kind()));
        field("destination", json!(self.target.route));
        field("sender", json!(self.head.reverse_path));
        field("recipients", json!(self.target.recipients));
        field("received_at", json!(time(self.head.received_at_ms)));
        field("size_bytes", json!(self.content_bytes));
        field("failures", json!(self.progress.failures));
        match &self.head.death {
            Some(death) => {
                if death.is_damaged {
                    field("damaged", json!(true));
                }
                field("died_at", json!(time(death.at_ms)))
            }
            None if self.progress.is_none() => None,
            None => field("due_at", json!(time(self.progress.due_ms))),
        };
        if !self.reason().is_empty() {
            field("reason", json!(self.reason()));
        }
        fields
    }

    fn history(&self) -> io::Result<Vec<Value>> {
        let subject = Subject { offset: self.at.offset, destination: self.destination };
        let extent = Extent::all_of(self.at.segment);
        let mut histories = Histories::read(self.disk, &extent, |of| of == subject)?;
        let history = histories.of(subject, self.target).into_iter();
        Ok(history.map(|failure| json!({"at": time(failure.at_ms), "reason": failure.reason})).collect())
    }
}

/// Gives what `selector` chooses to `visit`, until that says no more.
fn visit(
    directory: &Path,
    selector: &Selector,
    mut visit: impl FnMut(&Listed<'_>) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let now_ms = millis(SystemTime::now());
    let mut result = Ok(ControlFlow::Continue(()));
    for (kind, path) in [(Kind::Waiting, directory.to_owned()), (Kind::Dead, directory.join(DEAD_DIRECTORY))]
    {
        let stop = !matches!(result, Ok(ControlFlow::Continue(())));
        if stop || !selector.chooses_kind(kind) {
            continue;
        }
        let disk = Directory::new(path);
        let each = |segment: SegmentId, found: Found| {
            let at = Location { segment, offset: found.offset };
            for (destination, target, progress) in found.pending() {
                let head = &found.head;
                let chosen = match kind {
                    Kind::Waiting => selector.chooses_waiting(head, target, progress, now_ms),
                    Kind::Dead => selector.chooses_dead(head, now_ms),
                };
                let content_bytes = found.content_bytes;
                let listed = Listed { disk: &disk, at, destination, head, target, progress, content_bytes };
                if chosen {
                    result = visit(&listed);
                }
                if !matches!(result, Ok(ControlFlow::Continue(()))) {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        };
        survey::visit(&disk, each).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("the spool in {} cannot be read: {error}", directory.display()),
            )
        })?;
    }
    result.map(drop)
}

fn list(directory: &Path, selector: &Selector, json: bool, limit: Option<usize>) -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut count = 0;
    let now_ms = millis(SystemTime::now());
    let limit = limit.unwrap_or(usize::MAX);
    visit(directory, selector, |listed| {
        if count == limit {
            return Ok(ControlFlow::Break(()));
        }
        count += 1;
        if json {
            writeln!(output, "{}", Value::Object(listed.json()))?;
        } else {
            if count == 1 {
                writeln!(
                    output,
                    "{:26}  {:7}  {:5}  {:8}  {:20}  TO",
                    "ID", "STATE", "AGE", "FAILURES", "DESTINATION"
                )?;
            }
            let state = if listed.kind() == Kind::Dead { "dead" } else { "waiting" };
            let age = age(now_ms.saturating_sub(listed.head.received_at_ms) / 1_000);
            let (head, target) = (listed.head, listed.target);
            let to = target.recipients.join(",");
            let failures = listed.progress.failures;
            writeln!(output, "{:26}  {state:7}  {age:5}  {failures:<8}  {:20}  {to}", head.id, target.route)?;
            if !listed.reason().is_empty() {
                writeln!(output, "{:28}{}", "", printable(listed.reason()))?;
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    output.flush()?;
    if count == 0 && !json && io::stdout().is_terminal() {
        eprintln!("no mails");
    }
    Ok(())
}

fn show(directory: &Path, ids: Vec<String>, json: bool, content: bool) -> io::Result<()> {
    let mut output = io::BufWriter::new(io::stdout().lock());
    let mut missing: BTreeMap<String, ()> = ids.iter().map(|id| (id.clone(), ())).collect();
    let selector = Selector { ids, ..Selector::default() };
    visit(directory, &selector, |listed| {
        let first = missing.remove(&listed.head.id).is_some();
        if content {
            // It is the same at each destination.
            if first {
                output.write_all(&load(listed.disk, listed.at)?.content)?;
            }
            return Ok(ControlFlow::Continue(()));
        }
        let mut fields = listed.json();
        fields.insert("trace".to_owned(), json!(listed.head.trace));
        fields.insert("history".to_owned(), Value::Array(listed.history()?));
        let fields = Value::Object(fields);
        if json {
            writeln!(output, "{fields}")?;
        } else {
            writeln!(output, "{}", serde_json::to_string_pretty(&fields)?)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    output.flush()?;
    let missing: Vec<String> = missing.into_keys().collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(io::Error::other(format!("not in the spool: {}; it may have been delivered", missing.join(", "))))
}

fn act(directory: &Path, selector: Selector, all: bool, wish: Wish) -> io::Result<()> {
    if !all && selector == Selector::default() {
        return Err(io::Error::other("say which mails by ids or options, or --all"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(control::ask(directory, &Request { selector, wish }));
    let done = answer.map_err(|error| {
        let why = format!(
            "no daemon answers for the spool in {}: {error}; only the one that writes to it can do this",
            directory.display()
        );
        io::Error::new(error.kind(), why)
    })?;
    let done = done.map_err(|why| io::Error::other(format!("not all of it was done: {why}")))?;
    let did = if wish == Wish::Discard { "discarded" } else { "on their way again" };
    println!("{} mails are {did}", done.done);
    if done.busy > 0 {
        println!("{} mails are just being delivered and were left alone", done.busy);
    }
    if done.damaged > 0 {
        println!(
            "{} dead letters have damaged content and were left alone; --force delivers what is left of them",
            done.damaged
        );
    }
    Ok(())
}

fn time(ms: u64) -> String {
    let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    time.map_or_else(String::new, |time| time.to_string())
}

fn age(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7_199 => format!("{}m", seconds / 60),
        7_200..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Text of a webhook without what a terminal would take for orders.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
