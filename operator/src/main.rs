//! The operator of MailLaser.

use std::io::IsTerminal;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;
use mail_laser_operator::scope::{self, Scope};
use mail_laser_operator::{Config, has_ipv6, run};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

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
    /// How lines are logged; which ones is up to RUST_LOG.
    #[arg(long, env = "LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    start_logging(args.log_format);
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

/// What `RUST_LOG` says, if it says anything that can be read.
fn filter(text: &str) -> Option<Targets> {
    // An empty directive would be the target of everything.
    let directives: Vec<_> =
        text.split(',').map(str::trim).filter(|directive| !directive.is_empty()).collect();
    if directives.is_empty() { None } else { directives.join(",").parse().ok() }
}

fn start_logging(format: LogFormat) {
    // The client logs each failed request, which whoever made it does, too.
    let default = Targets::new().with_default(LevelFilter::INFO).with_target("kube_client", LevelFilter::OFF);
    let filter = std::env::var("RUST_LOG").ok().and_then(|text| filter(&text)).unwrap_or(default);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_ansi(std::io::stdout().is_terminal());
    match format {
        LogFormat::Text => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json()).init(),
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn what_says_nothing_leaves_the_default() {
        for text in ["", " ", ",", "a=b=c"] {
            assert!(filter(text).is_none(), "{text:?}");
        }
        let filter = filter("info, kube_client=debug,").unwrap();
        assert!(filter.would_enable("kube_client", &Level::DEBUG));
        assert!(!filter.would_enable("mail_laser_operator", &Level::DEBUG));
    }
}
