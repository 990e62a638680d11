//! Takes the routes over that are put into a directory, generation by generation.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mail_laser_routes::files::{
    Entry, FilesError, INDEX, PART_BYTES_MAX, Webhook, part_file, read_index, read_part, read_routes,
};
use mail_laser_routes::pattern::Pattern;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::metrics::Metrics;
use crate::webhook::connectors::Connectors;
use crate::webhook::destination::Destination;
use crate::webhook::share::Holdings;

use super::live::Routes;
use super::{Route, RouteTable, Target, entry};

/// How often the index is looked at: two seconds pass from a route's being applied to its first mail, of which
/// this may take little.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What is in the directory.
enum Found {
    /// No index.
    Nothing,
    /// The generation that is in force.
    Known,
    /// Another one.
    New(Generation),
}

/// A generation as it was read: its index as it stands in the file, its name and its routes.
struct Generation {
    index: Vec<u8>,
    name: String,
    entries: Vec<Entry>,
}

/// Why there is no newer generation.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoGeneration {
    /// The files are none.
    #[error("{0}")]
    Files(#[from] FilesError),
    /// The system refuses a file.
    #[error("{file} cannot be read: {kind}")]
    Unreadable {
        /// Which.
        file: String,
        /// What it says.
        kind: io::ErrorKind,
    },
}

/// The routes in a directory, or in one of its parts; `None` where there are none yet.
///
/// # Errors
/// When they are no whole generation, or no part.
pub fn entries(path: &Path) -> Result<Option<Vec<Entry>>, NoGeneration> {
    if path.is_file() {
        let part = content(path)?.map(|bytes| read_part(&file_name(path), &bytes));
        return Ok(part.transpose()?);
    }
    Ok(match read(path, None)? {
        Found::New(generation) => Some(generation.entries),
        Found::Nothing | Found::Known => None,
    })
}

/// What follows a directory.
pub struct Follower {
    directory: PathBuf,
    /// What the environment says, which beats every route.
    own: Vec<(Pattern, Target)>,
    routes: Arc<Routes>,
    connectors: Arc<Connectors>,
    metrics: Arc<Metrics>,
    /// The routes in force, with what they were made from: one that has not changed keeps its circuit, its slots
    /// and its queue.
    known: HashMap<String, (Webhook, Arc<Route>)>,
    /// What mails still hold of routes that are not in force any more. One that comes again would get a further share.
    held: HashMap<String, Holdings>,
    /// The index of the generation in force.
    seen: Option<Vec<u8>>,
    /// What has been said of why there is no newer one.
    told: Option<NoGeneration>,
}

impl Follower {
    /// Follows `directory`, and begins with what is there.
    #[must_use]
    pub fn start(
        directory: PathBuf,
        own: Vec<(Pattern, Target)>,
        connectors: Arc<Connectors>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let routes = Arc::new(Routes::new(RouteTable::new(own.clone(), [], true)));
        let (known, held, seen, told) = (HashMap::new(), HashMap::new(), None, None);
        let mut follower = Self { directory, own, routes, connectors, metrics, known, held, seen, told };
        let read = read(&follower.directory, None);
        if let Ok(Found::Nothing) = read {
            let directory = follower.directory.display();
            info!(%directory, "there are no routes yet: all recipients but the daemon's own are answered with 451");
        }
        follower.take(read);
        follower
    }

    /// The routes in force.
    #[must_use]
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Looks for newer generations until `stop` is cancelled.
    ///
    /// All of it is done on a thread for blocking work: while thousands of routes are made, connections are taken, and
    /// health is told.
    pub async fn follow(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
            let looking = tokio::task::spawn_blocking(move || {
                let read = read(&self.directory, self.seen.as_deref());
                self.take(read);
                self
            });
            self = match looking.await {
                Ok(follower) => follower,
                // A defect here is one of the process, which the routes of all would otherwise go on without.
                Err(ended) => match ended.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_cancelled) => return,
                },
            };
        }
    }

    /// Puts a generation in force; without one, what was stays.
    fn take(&mut self, read: Result<Found, NoGeneration>) {
        match read {
            Ok(Found::Nothing) => {}
            Ok(Found::Known) => {
                if self.told.take().is_some() {
                    info!(directory = %self.directory.display(), "the routes in force are those that are there again");
                }
            }
            Ok(Found::New(generation)) => {
                self.told = None;
                self.put_in_force(generation);
            }
            Err(why) => {
                if self.told.as_ref() != Some(&why) {
                    warn!(directory = %self.directory.display(), %why, "routes cannot be taken over; those before stay in force");
                }
                self.told = Some(why);
            }
        }
        self.metrics.routes(self.known.len(), self.told.is_some());
        self.connectors.sweep();
    }

    fn put_in_force(&mut self, generation: Generation) {
        let Generation { index, name, entries } = generation;
        let mut before = std::mem::take(&mut self.known);
        self.held.retain(|_, holdings| holdings.is_any());
        let mut patterns = Vec::new();
        for Entry { name, recipients, webhook } in entries {
            let known = before.remove(&name);
            let holdings = known.as_ref().map(|(_, route)| route.destination.holdings().clone());
            let target = match webhook.and_then(|webhook| self.route(&name, webhook, known)) {
                Some((webhook, route)) => {
                    self.held.remove(&name);
                    self.known.insert(name, (webhook, Arc::clone(&route)));
                    Target::Route(route)
                }
                None => {
                    self.held.extend(holdings.map(|holdings| (name.clone(), holdings)));
                    self.metrics.forget(&name);
                    Target::Deferred(name.into())
                }
            };
            patterns.extend(recipients.into_iter().map(|pattern| (pattern, target.clone())));
        }
        for (gone, (_, route)) in before {
            self.metrics.forget(&gone);
            self.held.insert(gone, route.destination.holdings().clone());
        }
        self.routes.swap(RouteTable::new(self.own.clone(), patterns, false));
        self.seen = Some(index);
        info!(generation = name, routes = self.known.len(), "routes taken over");
    }

    /// A route; the known one where nothing has changed, or where what is new cannot be used.
    fn route(
        &self,
        name: &str,
        webhook: Webhook,
        known: Option<(Webhook, Arc<Route>)>,
    ) -> Option<(Webhook, Arc<Route>)> {
        let known = match known {
            Some((before, route)) if before == webhook => return Some((before, route)),
            known => known,
        };
        let made = entry::config(&webhook).map_err(|error| error.to_string()).and_then(|config| {
            Destination::new(name, &config, &self.connectors, self.metrics.route(name))
                .map_err(|error| error.to_string())
        });
        match made {
            Ok(destination) => {
                let destination = match &known {
                    Some((_, before)) => destination.in_place_of(&before.destination),
                    None => destination.holding(self.held.get(name).cloned().unwrap_or_default()),
                };
                let header_prefixes =
                    webhook.header_prefixes.iter().map(|prefix| prefix.to_ascii_lowercase()).collect();
                Some((webhook, Arc::new(Route { destination, header_prefixes })))
            }
            Err(why) => {
                error!(route = name, why, kept = known.is_some(), "a route cannot be used");
                known
            }
        }
    }
}

/// Reads the generation that is there, unless it is the one that was seen.
fn read(directory: &Path, seen: Option<&[u8]>) -> Result<Found, NoGeneration> {
    let Some(index) = content(&directory.join(INDEX))? else { return Ok(Found::Nothing) };
    if seen == Some(index.as_slice()) {
        return Ok(Found::Known);
    }
    let read = read_index(&index)?;
    let mut unreadable = None;
    let entries = read_routes(&read, |number| {
        content(&directory.join(part_file(number))).unwrap_or_else(|error| {
            unreadable = Some(error);
            None
        })
    });
    if let Some(error) = unreadable {
        return Err(error);
    }
    Ok(Found::New(Generation { index, name: read.generation, entries: entries? }))
}

/// The content of a file, if there is one.
fn content(path: &Path) -> Result<Option<Vec<u8>>, NoGeneration> {
    let mut bytes = Vec::new();
    // One octet more than there may be makes another hash.
    let read = File::open(path).and_then(|file| file.take(PART_BYTES_MAX as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NoGeneration::Unreadable { file: file_name(path), kind: error.kind() }),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
