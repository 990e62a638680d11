//! The `mail-laser` command.

mod cli;

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cli::route::RouteArguments;
use cli::spool::{SpoolArguments, SpoolCommand};
use mail_laser::config::problem::{Problem, Problems};
use mail_laser::config::variables::{self, Variable};
use mail_laser::config::{Checked, Config, Sources, dotenv, merged};
use mail_laser::runtime::worker_threads;
use mail_laser::server::{Daemon, Drained, drain_spool};
use mail_laser_logging::{self as logging, LogFormat};
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use tracing_subscriber::filter::Targets;

/// Deliveries that hang leave a heap with holes, which the C library's allocator searches: thousands of them made all
/// other mail slower by a fifth.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code for a configuration that cannot be used: `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Exit code of a drain that has left dead letters.
const EXIT_DEAD_LETTERS: u8 = 3;

/// Exit code of a drain that was stopped: `EX_TEMPFAIL` of sysexits.h.
const EXIT_STOPPED: u8 = 75;

/// Receives mail over SMTP and posts it to a webhook as JSON.
///
/// Everything is configured by environment variables, which a .env file in the working directory
/// completes. At least MAIL_LASER_TARGET_EMAILS and MAIL_LASER_WEBHOOK_URL have to be set, or
/// MAIL_LASER_ROUTES.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve; this is the default
    Run,
    /// Check the configuration and print what is in force, without secrets
    Check,
    /// Ask the local health server; exits with 0 when it answers and with 1 otherwise
    Healthcheck,
    Spool(SpoolArguments),
    Route(RouteArguments),
}

fn main() -> ExitCode {
    let command = Arguments::parse().command.unwrap_or(Command::Run);
    let mut environment = Environment::read();
    match command {
        Command::Run => start(&environment, "mail-laser starts", serve),
        Command::Check => check(&environment),
        Command::Healthcheck => healthcheck(&environment),
        Command::Spool(SpoolArguments { dir, command }) => {
            if let Some(directory) = dir {
                environment.set(&variables::SPOOL_DIR, directory);
            }
            match command {
                SpoolCommand::Drain => start(&environment, "the spool is being drained", drain),
                command => environment.if_intact(|| {
                    cli::spool::run(command, Path::new(environment.setting(&variables::SPOOL_DIR)))
                }),
            }
        }
        Command::Route(arguments) => environment.if_intact(|| {
            let directory = Some(environment.setting(&variables::ROUTES)).filter(|path| !path.is_empty());
            let own = environment.setting(&variables::TARGET_EMAILS);
            cli::route::run(arguments, own, directory.map(PathBuf::from))
        }),
    }
}

/// The environment with `.env` filled in, and what could not be read of either.
struct Environment {
    variables: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Environment {
    fn read() -> Self {
        let mut problems = Vec::new();
        let file = match std::fs::read_to_string(".env") {
            Ok(text) => dotenv::parse(&text).unwrap_or_else(|lines| {
                problems.extend(lines);
                Vec::new()
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                problems.push(Problem::other(format!(".env cannot be read: {error}")));
                Vec::new()
            }
        };
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => environment.push((name, value)),
                (Ok(name), Err(_)) if is_ours(&name) => {
                    problems.push(Problem::other(format!("{name} has a value that is not UTF-8")));
                }
                // Somebody else's variable.
                _ => {}
            }
        }
        Self { variables: merged(environment, file), problems }
    }

    fn get(&self, name: &str) -> &str {
        self.variables.get(name).map_or("", String::as_str)
    }

    /// Runs a command that needs no whole configuration, unless some of the environment could not be read.
    fn if_intact(&self, command: impl FnOnce() -> ExitCode) -> ExitCode {
        if self.problems.is_empty() { command() } else { refuse(&Problems(self.problems.clone())) }
    }

    /// What holds for one of the daemon's variables.
    fn setting(&self, variable: &Variable) -> &str {
        variable.value(&self.variables)
    }

    /// Has a variable hold what an option of the command line says.
    fn set(&mut self, variable: &Variable, value: String) {
        self.variables.insert(variable.name.to_owned(), value);
    }

    /// The configuration and how to log, or everything that is wrong with either.
    fn configuration(&self) -> Result<(Checked, LogFormat, Targets), Problems> {
        let checked = Config::from_sources(&Sources {
            variables: self.variables.clone(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            read_file: &|path| std::fs::read(path),
        });
        let format = LogFormat::parse(self.get(logging::FORMAT));
        let filter = logging::parse_filter(self.get(logging::FILTER), "info");
        match (checked, format, filter) {
            (Ok(checked), Ok(format), Ok(filter)) if self.problems.is_empty() => {
                Ok((checked, format, filter))
            }
            (checked, format, filter) => {
                let mut problems = self.problems.clone();
                problems.extend(checked.err().into_iter().flat_map(|problems| problems.0));
                problems.extend(format.err().into_iter().chain(filter.err()).map(Problem::other));
                Err(Problems(problems))
            }
        }
    }
}

fn is_ours(name: &str) -> bool {
    name.starts_with("MAIL_LASER_") || [logging::FILTER, logging::FORMAT].contains(&name)
}

fn refuse(problems: &Problems) -> ExitCode {
    eprintln!("mail-laser: {problems}");
    ExitCode::from(EXIT_CONFIG)
}

fn check(environment: &Environment) -> ExitCode {
    match environment.configuration() {
        Ok((checked, ..)) => {
            for warning in &checked.warnings {
                eprintln!("mail-laser: warning: {warning}");
            }
            let mut out = std::io::stdout().lock();
            let mut lines = checked.effective.iter();
            let printed = lines.try_for_each(|(name, value)| writeln!(out, "{name}={value}"));
            cli::ended(printed.map(|()| ExitCode::SUCCESS))
        }
        Err(problems) => refuse(&problems),
    }
}

/// Runs `task` with the configuration until it ends, or says what is wrong.
fn start<F>(
    environment: &Environment,
    message: &str,
    task: impl FnOnce(Config, CancellationToken) -> F,
) -> ExitCode
where
    F: Future<Output = Result<ExitCode, Box<dyn Error>>>,
{
    let (checked, format, filter) = match environment.configuration() {
        Ok(configuration) => configuration,
        Err(problems) => return refuse(&problems),
    };
    let _flush = match logging::init(format, filter) {
        Ok(flush) => flush,
        Err(error) => return fail(&error),
    };
    let webhook = checked.config.webhook.as_ref().map(|webhook| webhook.url.to_string());
    info!(version = env!("CARGO_PKG_VERSION"), webhook, "{message}");
    for warning in &checked.warnings {
        warn!("{warning}");
    }
    let mut config = checked.config;
    config.fit_open_files(open_files());
    match tokio::runtime::Builder::new_multi_thread().worker_threads(worker_threads()).enable_all().build() {
        Ok(runtime) => {
            let result = runtime.block_on(async {
                let shutdown = CancellationToken::new();
                cancel_on_signal(shutdown.clone())?;
                task(config, shutdown).await
            });
            // A mail that is being read when the grace ends must not hold the process.
            runtime.shutdown_background();
            result.unwrap_or_else(|error| fail(&*error))
        }
        Err(error) => fail(&error),
    }
}

async fn serve(config: Config, shutdown: CancellationToken) -> Result<ExitCode, Box<dyn Error>> {
    Daemon::bind(config)?.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

async fn drain(config: Config, shutdown: CancellationToken) -> Result<ExitCode, Box<dyn Error>> {
    Ok(match drain_spool(&config, shutdown).await? {
        Drained::Empty => ExitCode::SUCCESS,
        Drained::Left { dead_letters, damaged_segments } => {
            logging::print_error(&format!("mail-laser: {dead_letters} dead letters are left in the spool"));
            if damaged_segments > 0 {
                let text =
                    format!("mail-laser: {damaged_segments} damaged segments are set aside in the spool");
                logging::print_error(&text);
            }
            ExitCode::from(EXIT_DEAD_LETTERS)
        }
        Drained::Stopped => {
            logging::print_error(
                "mail-laser: stopped before everything was delivered; what waits stays in the spool",
            );
            ExitCode::from(EXIT_STOPPED)
        }
    })
}

fn cancel_on_signal(shutdown: CancellationToken) -> std::io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM received"),
            _ = interrupt.recv() => info!("SIGINT received"),
        }
        shutdown.cancel();
    });
    Ok(())
}

/// How many files may be open, once the limit is as high as it may be: many systems allow 1,024
/// unless one asks for more, and every connection is one.
fn open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let before = limit.current;
    limit.current = limit.maximum;
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) => limit.current,
        Err(error) => {
            warn!(%error, "the limit of open files stays as it is");
            before
        }
    }
}

/// One line with the whole chain.
fn fail(error: &dyn Error) -> ExitCode {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    logging::print_error(&format!("mail-laser: {text}"));
    ExitCode::FAILURE
}

fn healthcheck(environment: &Environment) -> ExitCode {
    let result = mail_laser::health::address(&environment.variables).and_then(|address| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?
            .block_on(mail_laser::health::ask(address))
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mail-laser: {error}");
            ExitCode::FAILURE
        }
    }
}
