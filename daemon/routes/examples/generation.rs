//! Writes routes as a generation into a directory, for measurements.
//!
//! The arguments are the directory and how many parts there are. A line of standard input is a route: its name, its
//! recipient and the address of its webhook, with a blank between them, and where it is not the default the time-out of
//! one attempt, in seconds. All else is as it is by default, in plain HTTP to any network that a route may reach.

use std::error::Error;
use std::path::PathBuf;

use mail_laser_routes::files::{Entry, INDEX, Webhook, part_file, write};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("no directory")?);
    let parts = arguments.next().and_then(|it| it.into_string().ok()).ok_or("no number of parts")?.parse()?;
    let routes = std::io::stdin().lines().map(|line| entry(&line?)).collect::<Result<Vec<_>, _>>()?;
    let (index, contents) = write(&routes, parts)?;
    for (number, content) in contents.iter().enumerate() {
        std::fs::write(directory.join(part_file(number)), content)?;
    }
    // Last, and at once, as a mounted Secret changes.
    let unfinished = directory.join("unfinished");
    std::fs::write(&unfinished, serde_json::to_vec(&index)?)?;
    std::fs::rename(unfinished, directory.join(INDEX))?;
    Ok(())
}

fn entry(line: &str) -> Result<Entry, Box<dyn Error>> {
    let mut words = line.split(' ');
    let mut word = |what: &'static str| words.next().ok_or(what);
    let (name, recipient) = (word("no name")?.to_owned(), word("no recipient")?.parse()?);
    let mut webhook = Webhook { allow_http: true, allow_private: true, ..Webhook::at(word("no address")?) };
    if let Some(seconds) = words.next() {
        webhook.timeout_seconds = seconds.parse()?;
    }
    Ok(Entry { name, recipients: vec![recipient], webhook: Some(webhook) })
}
