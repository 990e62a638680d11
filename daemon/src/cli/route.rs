//! `mail-laser route`: tells who gets the mail of an address.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use mail_laser::address::Address;
use mail_laser::routes::{DEFAULT_ROUTE, follow, unusable};
use mail_laser_routes::pattern::{Pattern, wildcards};
use mail_laser_routes::table::Table;
use serde_json::{Value, json};

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
    /// Tell which route takes the mail of an address, by which pattern, and what is in the way of the others that it
    /// fits; exits with 3 when nobody takes it
    Explain {
        /// The address, as in RCPT TO
        #[arg(value_parser = address)]
        address: Address,
        /// The directory with the routes, or one of its parts, in place of MAIL_LASER_ROUTES
        #[arg(long)]
        routes: Option<PathBuf>,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
}

fn address(text: &str) -> Result<Address, String> {
    Address::parse_recipient(text).map_err(|error| format!("it {error}"))
}

/// Carries the command out; `own` are the recipients of the environment, and `directory` has its routes.
pub(crate) fn run(arguments: RouteArguments, own: &str, directory: Option<PathBuf>) -> ExitCode {
    let RouteCommand::Explain { address, routes, json } = arguments.command;
    let routes = routes.or(directory);
    super::ended(explain(&address, routes.as_deref(), json, own))
}

fn explain(address: &Address, routes: Option<&Path>, json: bool, own: &str) -> io::Result<ExitCode> {
    let found = Known::read(own, routes)?.explain(address);
    let mut out = io::stdout().lock();
    match json {
        true => writeln!(out, "{}", found.json(address))?,
        false => write!(out, "{}", found.text(address, routes))?,
    }
    let is_taken = found.taken.is_some() && found.waits.is_none();
    Ok(if is_taken { ExitCode::SUCCESS } else { ExitCode::from(EXIT_NOBODY) })
}

/// Everybody who has recipients.
#[derive(Default)]
struct Known {
    /// The environment's own patterns, and then those of others with their routes, in the order in which they count.
    patterns: Vec<(Pattern, String)>,
    /// How many of them are the environment's.
    own: usize,
    /// Routes that cannot be used, and why.
    unusable: HashMap<String, String>,
    /// Whether routes are still to come.
    is_awaited: bool,
}

/// A route, and one of its patterns that an address fits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fit {
    route: String,
    pattern: String,
}

/// What is in the way of a pattern that fits.
#[derive(Debug, PartialEq, Eq)]
enum Obstacle {
    /// The one that takes the mail has the same pattern, and comes before.
    Later,
    /// The one that takes the mail has a pattern that is more specific.
    LessSpecific,
}

/// Who takes the mail of an address, and who does not though it fits.
#[derive(Debug)]
struct Found {
    taken: Option<Fit>,
    /// Why the mail has to wait all the same.
    waits: Option<String>,
    /// Whether it is taken because every domain has a postmaster (RFC 5321 section 4.5.1), by no pattern.
    is_postmasters: bool,
    others: Vec<(Fit, Obstacle)>,
    is_awaited: bool,
}

impl Known {
    fn read(own: &str, routes: Option<&Path>) -> io::Result<Self> {
        let own = own.split(',').filter_map(|text| Address::parse(text.trim()).ok());
        let own: Vec<_> = own.map(|address| (Pattern::exact(&address), DEFAULT_ROUTE.to_owned())).collect();
        let mut known = Self { own: own.len(), patterns: own, ..Self::default() };
        let Some(path) = routes else { return Ok(known) };
        let entries = follow::entries(path)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        known.is_awaited = entries.is_none();
        for entry in entries.into_iter().flatten() {
            known.patterns.extend(entry.recipients.into_iter().map(|it| (it, entry.name.clone())));
            let why = match &entry.webhook {
                Some(webhook) => unusable(webhook),
                None => Some("it has no webhook for now".to_owned()),
            };
            known.unusable.extend(why.map(|why| (entry.name, why)));
        }
        Ok(known)
    }

    fn explain(&self, address: &Address) -> Found {
        let (own, others) = self.patterns.split_at(self.own);
        let table = Table::new(own.iter().cloned(), others.iter().cloned());
        let taken = table.lookup(address);
        let taken = taken.map(|(pattern, route)| Fit { route: route.clone(), pattern: pattern.to_owned() });
        let fitting = self.fitting(address);
        let is_postmasters = taken.as_ref().is_some_and(|taken| !fitting.contains(taken));
        let others = fitting.into_iter().filter(|fit| Some(fit) != taken.as_ref());
        let others = others.map(|fit| {
            let is_same = taken.as_ref().is_some_and(|taken| taken.pattern == fit.pattern);
            (fit, if is_same { Obstacle::Later } else { Obstacle::LessSpecific })
        });
        let others = others.collect();
        let waits = taken.as_ref().and_then(|taken| self.unusable.get(&taken.route).cloned());
        Found { others, waits, taken, is_postmasters, is_awaited: self.is_awaited }
    }

    /// All patterns that an address fits, the most specific first, with their routes.
    fn fitting(&self, address: &Address) -> Vec<Fit> {
        let mut by_key: HashMap<(&str, bool), Vec<&String>> = HashMap::new();
        for (pattern, route) in &self.patterns {
            by_key.entry((pattern.as_str(), pattern.is_exact())).or_default().push(route);
        }
        let mut fitting = Vec::new();
        let mut add = |key: &str, exact: bool| {
            let routes = by_key.get(&(key, exact)).into_iter().flatten();
            fitting.extend(routes.map(|route| Fit { route: (*route).clone(), pattern: key.to_owned() }));
            None::<()>
        };
        add(address.key(), true);
        let _ = wildcards(address, |key| add(key, false));
        fitting
    }
}

impl Found {
    fn text(&self, address: &Address, routes: Option<&Path>) -> String {
        let address = address.as_str();
        let mut text = match &self.taken {
            Some(Fit { route, pattern }) if let Some(why) = &self.waits => {
                format!("{address} is for {route}, by {pattern}, which cannot be used: {why}: 451\n")
            }
            Some(Fit { route, .. }) if self.is_postmasters => {
                format!("{address} is taken by {route}, as every domain has a postmaster\n")
            }
            Some(Fit { route, pattern }) => format!("{address} is taken by {route}, by {pattern}\n"),
            None if self.is_awaited => {
                let routes = routes.unwrap_or(Path::new("")).display();
                format!("{address} is taken by nobody yet, as there are no routes in {routes}: 451\n")
            }
            None => format!("{address} is taken by nobody: 550\n"),
        };
        for (Fit { route, pattern }, obstacle) in &self.others {
            text.push_str(&format!("{route} has {pattern}, {}\n", self.told(obstacle)));
        }
        text
    }

    fn told(&self, obstacle: &Obstacle) -> String {
        match obstacle {
            Obstacle::Later => {
                let winner = self.taken.as_ref().map_or("", |taken| taken.route.as_str());
                format!("which {winner} has before it")
            }
            Obstacle::LessSpecific => "which is less specific".to_owned(),
        }
    }

    fn json(&self, address: &Address) -> Value {
        let taken = self.taken.as_ref().map(|Fit { route, pattern }| {
            let pattern = (!self.is_postmasters).then_some(pattern);
            json!({"route": route, "pattern": pattern})
        });
        let others = self.others.iter().map(|(Fit { route, pattern }, obstacle)| {
            json!({"route": route, "pattern": pattern, "obstacle": self.told(obstacle)})
        });
        let others: Vec<_> = others.collect();
        let mut found = json!({"address": address.as_str(), "taken": taken, "others": others});
        if let Some(why) = &self.waits {
            found["waits"] = why.as_str().into();
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explain(patterns: &[(&str, &str)], unusable: &[&str], address: &str) -> String {
        let known = Known {
            patterns: patterns.iter().map(|(it, route)| (it.parse().unwrap(), (*route).to_owned())).collect(),
            own: patterns.iter().filter(|(_, route)| *route == DEFAULT_ROUTE).count(),
            unusable: unusable
                .iter()
                .map(|route| ((*route).to_owned(), "its address is bad".to_owned()))
                .collect(),
            is_awaited: false,
        };
        let address = Address::parse_recipient(address).unwrap();
        known.explain(&address).text(&address, None)
    }

    #[test]
    fn each_that_fits_is_told_with_what_is_in_its_way() {
        let patterns = [
            ("*@*.com", "t/below"),
            ("*@example.com", "t/domain"),
            ("a+*@example.com", "t/later"),
            ("a+b@example.com", "t/broken"),
            ("b@example.com", "t/other"),
        ];
        let first = [&[("a+*@example.com", "t/first")], &patterns[..]].concat();
        assert_eq!(
            explain(&first, &["t/broken"], "a+b@example.com"),
            "a+b@example.com is for t/broken, by a+b@example.com, which cannot be used: its address is bad: 451\n\
             t/first has a+*@example.com, which is less specific\n\
             t/later has a+*@example.com, which is less specific\n\
             t/domain has *@example.com, which is less specific\n\
             t/below has *@*.com, which is less specific\n"
        );
        assert_eq!(
            explain(&first, &[], "a+c@example.com"),
            "a+c@example.com is taken by t/first, by a+*@example.com\n\
             t/later has a+*@example.com, which t/first has before it\n\
             t/domain has *@example.com, which is less specific\n\
             t/below has *@*.com, which is less specific\n"
        );
        assert_eq!(
            explain(&patterns, &[], "x@y.com"),
            "x@y.com is taken by t/below, by *@*.com\n",
            "what does not fit is not told"
        );
    }

    #[test]
    fn a_postmaster_is_taken_by_no_pattern() {
        let own = ("own@example.net", DEFAULT_ROUTE);
        let others = [("a@example.com", "t/a"), ("postmaster@example.org", "t/b")];
        let both = [&[own], &others[..]].concat();
        assert_eq!(
            explain(&both, &[], "postmaster@example.com"),
            format!("postmaster@example.com is taken by {DEFAULT_ROUTE}, as every domain has a postmaster\n")
        );
        assert_eq!(
            explain(&both, &[], "postmaster@example.org"),
            "postmaster@example.org is taken by t/b, by postmaster@example.org\n"
        );
        assert_eq!(
            explain(&others, &[], "postmaster@example.com"),
            "postmaster@example.com is taken by nobody: 550\n"
        );
        assert_eq!(explain(&both, &[], "a@example.info"), "a@example.info is taken by nobody: 550\n");
    }
}
