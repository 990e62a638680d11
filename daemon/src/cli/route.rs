//! `mail-laser route`: tells who gets the mail of an address.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use mail_laser::address::Address;
use mail_laser::config::variables;
use mail_laser::routes::{DEFAULT_ROUTE, follow};
use mail_laser_routes::pattern::{Pattern, wildcards};
use mail_laser_routes::table::Table;
use serde_json::json;

/// Exit code where nobody takes the mail.
const EXIT_NOBODY: u8 = 3;

/// Tells who gets the mail of an address.
#[derive(Args)]
pub(crate) struct RouteArguments {
    #[command(subcommand)]
    command: RouteCommand,
}

#[derive(Subcommand)]
enum RouteCommand {
    /// Tell which route takes the mail of an address, by which pattern, and which others would; exits with 3 when
    /// nobody does
    Explain {
        /// The address, as in RCPT TO
        #[arg(value_parser = address)]
        address: Address,
        /// The directory with the routes
        #[arg(long, env = variables::ROUTES.name)]
        routes: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse_recipient(text).map_err(|error| format!("it {error}"))
}

/// Carries the command out; `own` are the recipients of the environment.
pub(crate) fn run(arguments: RouteArguments, own: &str) -> ExitCode {
    let RouteCommand::Explain { address, routes, json } = arguments.command;
    explain(&address, routes, json, own).unwrap_or_else(|error| {
        eprintln!("mail-laser: {error}");
        ExitCode::FAILURE
    })
}

fn explain(
    address: &Address,
    routes: Option<PathBuf>,
    json: bool,
    own: &str,
) -> Result<ExitCode, Box<dyn Error>> {
    let own = own.split(',').filter_map(|text| Address::parse(text.trim()).ok());
    let mut patterns: Vec<(Pattern, String)> =
        own.map(|address| (Pattern::exact(&address), DEFAULT_ROUTE.to_owned())).collect();
    if let Some(directory) = routes {
        let entries =
            follow::entries(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let named = entries.into_iter().map(|entry| (entry.recipients, entry.name));
        patterns.extend(
            named.flat_map(|(recipients, name)| recipients.into_iter().map(move |it| (it, name.clone()))),
        );
    }
    let fitting = fitting(address, &patterns);
    let table = Table::new(patterns.iter().cloned());
    let taken = table.lookup(address);
    let others = fitting.iter().filter(|(pattern, name)| taken != Some((pattern.as_str(), name)));
    let mut out = io::stdout().lock();
    if json {
        let others: Vec<_> =
            others.map(|(pattern, name)| json!({"route": name, "pattern": pattern})).collect();
        let taken = taken.map(|(pattern, name)| json!({"route": name, "pattern": pattern}));
        writeln!(out, "{}", json!({"address": address.as_str(), "taken": taken, "others": others}))?;
    } else {
        match taken {
            Some((pattern, name)) => {
                writeln!(out, "{} is taken by {name}, by {pattern}", address.as_str())?;
            }
            None => writeln!(out, "{} is taken by nobody: 550", address.as_str())?,
        }
        for (pattern, name) in others {
            writeln!(out, "{name} has {pattern}, which is less specific or came later")?;
        }
    }
    Ok(if taken.is_some() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOBODY) })
}

/// All patterns that an address fits, the most specific first, with their routes.
fn fitting(address: &Address, patterns: &[(Pattern, String)]) -> Vec<(String, String)> {
    let mut by_key: HashMap<(&str, bool), Vec<&String>> = HashMap::new();
    for (pattern, name) in patterns {
        by_key.entry((pattern.as_str(), pattern.is_exact())).or_default().push(name);
    }
    let mut fitting = Vec::new();
    let mut add = |key: &str, exact: bool| {
        let names = by_key.get(&(key, exact)).into_iter().flatten();
        fitting.extend(names.map(|name| (key.to_owned(), (*name).clone())));
        None::<()>
    };
    add(address.key(), true);
    let _ = wildcards(address, |key| add(key, false));
    fitting
}
