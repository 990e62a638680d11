//! The operator of MailLaser.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use mail_laser_logging::{self as logging, LogFormat};
use mail_laser_operator::scope::{self, Scope};
use mail_laser_operator::{Config, has_ipv6, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::Targets;

/// What is logged by default. The record of a request that failed is made by who asked: the client has none.
const RECORDS: &str = "info,kube_client=off";

/// Reconciles MailLaser resources into Deployments, Services and all else that the daemon needs in a cluster.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Image of the daemon where a resource does not say.
    #[arg(long, env = "MAIL_LASER_IMAGE", default_value = "localhost/mail-laser:dev")]
    image: String,
    /// The namespaces to look after, with commas between them; all by default. Rights in them are enough then.
    #[arg(long, env = "MAIL_LASER_OPERATOR_NAMESPACES", value_delimiter = ',', value_parser = scope::namespace)]
    namespaces: Vec<String>,
    /// Labels that resources must have to be looked after, as `kubectl get --selector` takes them; none by default.
    #[arg(long, env = "MAIL_LASER_OPERATOR_SELECTOR", value_parser = scope::selector)]
    selector: Option<String>,
    /// Where the Lease is that says who leads; in a cluster by default the operator's own namespace.
    #[arg(long, env = "MAIL_LASER_OPERATOR_LEASE_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "MAIL_LASER_OPERATOR_BIND_ADDRESS", default_value = "0.0.0.0:8080")]
    bind_address: SocketAddr,
    /// How records are logged: text or json.
    #[arg(long, env = "LOG_FORMAT", default_value = "text", value_parser = LogFormat::parse)]
    log_format: LogFormat,
    /// Which records are logged: a level, or target=level pairs, as in info,mail_laser=debug.
    #[arg(long, env = "RUST_LOG", default_value = RECORDS, value_parser = |text: &str| logging::parse_filter(text, RECORDS))]
    log_level: Targets,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let _flush = match logging::init(args.log_format, args.log_level.clone()) {
        Ok(flush) => flush,
        Err(error) => return fail(&anyhow::Error::new(error).context("records cannot be logged")),
    };
    serve(args).map_or_else(|error| fail(&error), |()| ExitCode::SUCCESS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    logging::print_error(&format!("Error: {error:?}"));
    ExitCode::FAILURE
}

#[tokio::main]
async fn serve(args: Args) -> anyhow::Result<()> {
    // An error means that there is a provider already, and any will do.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let cluster = kube::Config::infer().await.context("there is no way to the Kubernetes API")?;
    let admin = TcpListener::bind(args.bind_address)
        .await
        .with_context(|| format!("cannot listen on {} (--bind-address)", args.bind_address))?;
    let ipv6 = has_ipv6();
    let scope = Scope::new(args.namespaces, args.selector);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        image = args.image,
        %scope,
        admin = %admin.local_addr()?,
        ipv6,
        "operator started"
    );

    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("operator stops when what is under way is done");
        stop.cancel();
    });
    let config =
        Config { image: args.image, scope, lease_namespace: args.lease_namespace, ipv6, admin: Some(admin) };
    run(cluster, config, shutdown).await?;
    Ok(())
}
