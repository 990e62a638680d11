//! Fills the directory of a spool with messages that wait, for measurements.
//!
//! The arguments are the directory, the number of messages, the bytes of their content, the failed deliveries that are
//! noted for each, and its age in seconds. A line of standard input is a route: its name and its recipient, with a blank
//! between them. The messages go to the routes in turn.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mail_laser::message::id::MailId;
use mail_laser::spool::disk::Directory;
use mail_laser::spool::entry::{Head, Outcome, Progress, Target};
use mail_laser::spool::store::{Entry, Limits, Store};

/// What the daemon sets for a spool of 256 MiB or more.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Messages that are synced together: more is not faster.
const GROUP: usize = 4_096;

struct Plan {
    content: Vec<u8>,
    failures: u32,
    received_at: SystemTime,
    /// Between two failed deliveries. The last one is due again now.
    wait: Duration,
    routes: Vec<(String, String)>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |what: &'static str| arguments.next().ok_or(what);
    let directory = PathBuf::from(argument("no directory")?);
    let messages = argument("no number of messages")?.parse()?;
    let bytes: usize = argument("no bytes of content")?.parse()?;
    let failures: u32 = argument("no number of failures")?.parse()?;
    let age = Duration::from_secs(argument("no age")?.parse()?);
    let routes: Vec<_> = io::stdin().lines().map(|line| route(&line?)).collect::<Result<_, _>>()?;
    if routes.is_empty() {
        return Err("no routes".into());
    }
    let received_at = SystemTime::now().checked_sub(age).ok_or("the age is too high")?;
    let plan = Plan { content: content(bytes), failures, received_at, wait: age / (failures + 1), routes };

    let limits = Limits { total_bytes: u64::MAX, segment_bytes: SEGMENT_BYTES, outcome_bytes: 0 };
    let mut store = Store::open(Directory::new(directory), limits)?;
    for first in (0..messages).step_by(GROUP) {
        let group = (first..messages.min(first + GROUP)).map(|number| plan.entry(number));
        for location in store.append(&group.collect::<io::Result<Vec<_>>>()?) {
            let location = location?;
            for failure in 1..=plan.failures {
                store.note(location, 0, plan.failure(failure)?);
            }
        }
        store.write_outcomes(true)?;
    }
    Ok(())
}

impl Plan {
    fn entry(&self, number: usize) -> io::Result<Entry> {
        let (name, recipient) = &self.routes[number % self.routes.len()];
        let target = Target {
            route: name.clone(),
            recipients: vec![recipient.clone()],
            progress: Progress::default(),
            history: Vec::new(),
        };
        let head = Head {
            id: MailId::generate(self.received_at).to_string(),
            received_at_ms: in_millis(self.received_at)?,
            reverse_path: "ann@example.org".to_owned(),
            trace: "from client.example.org".to_owned(),
            destinations: vec![target],
            replayed_at_ms: None,
            lifetime_began_ms: None,
            death: None,
        };
        Entry::new(&head, self.content.clone())
    }

    fn failure(&self, failures: u32) -> io::Result<Outcome> {
        let at = self.received_at + self.wait * failures;
        Ok(Outcome::Deferred(Progress {
            failures,
            due_ms: in_millis(at + self.wait)?,
            at_ms: in_millis(at)?,
            reason: "the connection was refused".to_owned(),
        }))
    }
}

fn route(line: &str) -> Result<(String, String), Box<dyn Error>> {
    let (name, recipient) = line.split_once(' ').ok_or("a route without a recipient")?;
    Ok((name.to_owned(), recipient.to_owned()))
}

/// A message of so many bytes, or of its header where that is longer.
fn content(bytes: usize) -> Vec<u8> {
    let mut content = b"From: Ann Example <ann@example.org>\r\nSubject: Fire\r\n\r\n".to_vec();
    content.resize(content.len().max(bytes), b'x');
    content
}

fn in_millis(time: SystemTime) -> io::Result<u64> {
    let since_epoch = time.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    u64::try_from(since_epoch.as_millis()).map_err(io::Error::other)
}
