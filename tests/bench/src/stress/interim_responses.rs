//! A webhook that answers with `103` responses without end, and messages for another route meanwhile.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::load::Client;
use crate::mail;
use crate::report::thousands;
use crate::routes::{Route, own_address};
use crate::sink::{Pace, Sink};

use super::daemon::Daemon;
use super::figure::Figure;
use super::place::Place;
use super::probe::Sender;

/// The time in which deliveries are counted, with and without that webhook.
const MEASURED: Duration = Duration::from_secs(10);

/// Connections that send, and messages that may be under way: below the bound on those that wait.
const CONNECTIONS: usize = 16;
const UNDER_WAY_MAX: u64 = 500;

/// Messages for that webhook at first, one for each delivery at the same time; afterwards one every `PERIOD`.
const FIRST: usize = 64;
const PERIOD: Duration = Duration::from_millis(100);

/// What deliveries to the other route come to at least.
const RATE_MIN: f64 = 0.5;

/// Processor time in each second that nothing but that webhook takes: a tenth of a core.
const CPU_MAX: f64 = 0.1;

const NAMES: [&str; 2] = ["endless", "other"];

pub(super) async fn figures(place: Place, mut figures: Vec<Figure>) -> anyhow::Result<Vec<Figure>> {
    let host = own_address()?;
    let sink = Arc::new(Sink::start_at(host, Pace::AtOnce).await?);
    let (endless, _endless) = endless(host).await?;
    let [to_endless, to_other] = NAMES.map(|name| format!("{name}@example.com"));
    let route = |name: &str, webhook: SocketAddr| Route {
        name: format!("team-{name}/route"),
        recipient: format!("{name}@example.com"),
        url: format!("http://{webhook}/"),
    };
    let folder = place.routes()?;
    let routes = [route(NAMES[0], endless), route(NAMES[1], sink.address())];
    place.put_routes(&folder, &routes, None).await?;
    let variables = [
        ("MAIL_LASER_ROUTES", folder.display().to_string()),
        ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0".to_owned()),
    ];
    let daemon = Daemon::start(&place, &variables).await?;
    let alone = rate(daemon.smtp, &sink, &to_other).await?;

    let sender = Sender::new(daemon.smtp, vec![to_endless]);
    for number in 0..FIRST {
        sender.send(number).await;
    }
    let (mut beside, mut cpu) = (Ok(0.0), Ok(0.0));
    sender
        .at_a_pace(PERIOD, async {
            beside = rate(daemon.smtp, &sink, &to_other).await;
            cpu = cpu_share(&daemon).await;
        })
        .await;
    let (beside, cpu) = (beside?, cpu?);
    figures.push(Figure::new(
        "delivered to another route beside endless 103 responses",
        format!("at least {RATE_MIN} x"),
        format!("{} a second, {} alone, {:.2} x", thousands(beside), thousands(alone), beside / alone),
        beside >= RATE_MIN * alone,
    ));
    figures.push(Figure::new(
        "processor time of endless 103 responses alone",
        format!("at most {CPU_MAX} cores"),
        format!("{cpu:.2} cores"),
        cpu <= CPU_MAX,
    ));
    daemon.process.kill().await?;
    Ok(figures)
}

/// Processor time in each second, of a daemon that does what it does.
async fn cpu_share(daemon: &Daemon) -> anyhow::Result<f64> {
    let (before, began) = (daemon.process.cpu()?, Instant::now());
    tokio::time::sleep(MEASURED).await;
    Ok((daemon.process.cpu()? - before).as_secs_f64() / began.elapsed().as_secs_f64())
}

/// Messages for `recipient` that arrive in each second, sent as fast as they do.
async fn rate(smtp: SocketAddr, sink: &Arc<Sink>, recipient: &str) -> anyhow::Result<f64> {
    let before = sink.arrived();
    let (sent, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut connections = JoinSet::new();
    let content = mail::text(1024);
    for _ in 0..CONNECTIONS {
        let (sent, is_over, sink) = (Arc::clone(&sent), Arc::clone(&is_over), Arc::clone(sink));
        let (recipient, content) = (recipient.to_owned(), Arc::clone(&content));
        connections.spawn(async move {
            let mut client = Client::greeted(smtp).await?;
            while !is_over.load(Ordering::Relaxed) {
                if sent.load(Ordering::Relaxed) < sink.arrived() - before + UNDER_WAY_MAX {
                    let accepted = client.offer(&recipient, &content).await?;
                    sent.fetch_add(u64::from(accepted), Ordering::Relaxed);
                } else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            anyhow::Ok(())
        });
    }
    let began = Instant::now();
    tokio::time::sleep(MEASURED).await;
    let rate = (sink.arrived() - before) as f64 / began.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    while let Some(connection) = connections.join_next().await {
        connection??;
    }
    Ok(rate)
}

/// A webhook whose answers never come to an end, until what is returned with its address is dropped.
async fn endless(host: IpAddr) -> anyhow::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind((host, 0)).await?;
    let address = listener.local_addr()?;
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            // It ends when the daemon closes it.
            connections.spawn(async move { drop(answer(stream).await) });
            while connections.try_join_next().is_some() {}
        }
    });
    Ok((address, server))
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    // The request fits: a message of 1 KiB.
    let mut request = [0; 16 * 1024];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    let responses = b"HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1_000);
    loop {
        stream.write_all(&responses).await?;
    }
}
