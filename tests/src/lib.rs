//! End-to-end tests of MailLaser on a real Kubernetes, and the webhook receiver that they and the demo use.
//!
//! A test asks for a namespace of its own and gets an [`Env`] in it:
//!
//! ```no_run
//! use mail_laser_e2e::{in_namespace, Letter};
//!
//! # async fn example() {
//! in_namespace("greeting", |env| async move {
//!     let webhook = env.deploy_webhook("webhook").await?;
//!     env.apply(&mail_laser_e2e::mail_laser("inbox", "webhook")).await?;
//!     env.wait_ready("inbox").await?;
//!     let smtp = env.reach_service("inbox", 25).await?;
//!     Letter::to("inbox@example.com").subject("Hello").send(smtp.address()).await?;
//!     webhook.wait_for_mail("Hello").await?;
//!     Ok(())
//! })
//! .await;
//! # }
//! ```
//!
//! The namespace is deleted at the end, whatever the end is; on a failure what happened in it is printed first.
//! Tests wait for states, never for durations: see [`wait_for`].

mod cluster;
mod documentation;
mod env;
pub mod fields;
mod installation;
mod letter;
mod manifests;
mod metrics;
mod process;
mod reach;
mod smtp_client;
mod tls;
mod volumes;
mod wait;
mod webhook;

pub mod receiver;
pub mod traffic;

pub use cluster::{Cluster, OPERATOR_NAMESPACE, OperatorWrite, SECOND_OPERATOR_NAMESPACE, repository};
pub use documentation::{Example, Expectation, Page, pages};
pub use env::{Condition, Env, alone_for_longer, alone_in_namespace, in_another_namespace, in_namespace};
pub use letter::Letter;
pub use manifests::{documents, mail_laser, receiver_manifest};
pub use metrics::Metrics;
pub use process::memory_mib;
pub use reach::Reach;
pub use smtp_client::{Reply, SmtpClient};
pub use tls::{Authority, Pair};
pub use volumes::VOLUME_SIZE;
pub use wait::{wait_for, wait_while};
pub use webhook::Webhook;

/// Makes rustls use ring; every client of `reqwest` and `kube` panics without a provider.
pub fn init_crypto() {
    // An error means that another test of this process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
