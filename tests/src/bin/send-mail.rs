//! Sends the demo's mail: `send-mail HOST:PORT RECIPIENT`. A text, an HTML part and one attachment.

use std::env;
use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, bail};
use mail_laser_e2e::Letter;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [server, recipient] = arguments.as_slice() else {
        bail!("usage: send-mail HOST:PORT RECIPIENT");
    };
    let server: SocketAddr = server
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .with_context(|| format!("{server} is no HOST:PORT that resolves"))?;
    let reply = Letter::to(recipient)
        .subject("The printer on floor 3 is on fire")
        .html("<p>Please send <b>water</b>.</p>")
        .text("Please send water.")
        .attachment("status.txt", "text/plain", b"temperature: 451\n")
        .send(server)
        .await?;
    println!("{reply}");
    Ok(())
}
