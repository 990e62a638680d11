use std::num::NonZeroU32;
use std::sync::LazyLock;

use http::HeaderMap;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::deliver::by_destination;
use super::*;
use crate::address::Address;
use crate::config::WebhookConfig;
use crate::config::url::WebhookUrl;
use crate::delivery::forward::Forward;
use crate::delivery::intake::Intake;
use crate::routes::RouteTable;
use crate::smtp::protocol::TlsPolicy;
use crate::webhook::connectors::Connectors;
use crate::webhook::destination::Destination;
use mail_laser_routes::reach::Reach;

mod room;
mod time;

/// What is costly to make and the same for all: where mail goes, and a certificate.
static SHARED: LazyLock<(Arc<Route>, Arc<ServerConfig>)> = LazyLock::new(|| {
    let pair = tls::self_signed("mx.example.com").unwrap();
    let tls = tls::Tls::fixed(pair).server_config().unwrap();
    (route("default"), tls)
});

/// A route that leads nowhere.
fn route(name: &str) -> Arc<Route> {
    crate::crypto::init();
    let webhook = WebhookConfig {
        url: WebhookUrl::parse("http://127.0.0.1:9/", false).unwrap(),
        bearer_token: None,
        ca_roots: Vec::new(),
        timeout: Duration::from_secs(1),
        retries_max: 0,
        breaker_threshold: NonZeroU32::MIN,
        breaker_reset: Duration::from_secs(60),
        concurrency: NonZeroU32::MIN,
        headers: HeaderMap::new(),
        signing_secrets: Vec::new(),
        reach: Reach::Anywhere,
    };
    let destination =
        Destination::new(name, &webhook, &Connectors::default(), Metrics::default().route(name)).unwrap();
    Arc::new(Route { destination, header_prefixes: Vec::new() })
}

#[test]
fn a_route_that_changes_between_two_recipients_is_one_destination() {
    let [before, other, after] = ["team/a", "team/b", "team/a"].map(route);
    let address = |text: &str| Address::parse(text).unwrap();
    let recipients =
        [("x@a.example", &before), ("x@b.example", &other), ("y@a.example", &after), ("z@a.example", &after)];
    let recipients = recipients.map(|(text, route)| (address(text), Arc::clone(route)));
    let destinations = by_destination(recipients.into());
    let [(first, of_first), (second, of_second)] = &destinations[..] else { panic!("{destinations:?}") };
    assert!(Arc::ptr_eq(first, &after) && Arc::ptr_eq(second, &other));
    assert_eq!(of_first, &["x@a.example", "y@a.example", "z@a.example"].map(address));
    assert_eq!(of_second, &[address("x@b.example")]);
}

/// Sessions that take mail for `x@known.example`; nobody listens where it goes.
fn context() -> Context {
    let (route, tls) = &*SHARED;
    let (memory, metrics) = (MemoryBudget::new(1_000_000), Arc::<Metrics>::default());
    let known = [Address::parse("x@known.example").unwrap()];
    Context {
        settings: Settings {
            hostname: "mx.example.com".into(),
            message_bytes_max: 1_000,
            unknown_recipients_max: None,
            tls: TlsPolicy::Opportunistic,
        },
        idle_timeout: Duration::from_secs(10),
        routes: Arc::new(Routes::new(RouteTable::of_one(&known, route))),
        delivery: Arc::new(Delivery::Forward(Forward::new(Intake::new(1_000, 1_000, false)))),
        transfers: Transfers::new(&memory, Arc::clone(&metrics)),
        memory,
        metrics,
        tls: Some(Arc::clone(tls)),
        draining: CancellationToken::new(),
    }
}

/// Sends the pieces one by one, each once the session has taken the one before, and returns all
/// replies with the ids of mails masked.
async fn converse(context: &Context, pieces: &[&[u8]]) -> String {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let session = run(server, SocketAddr::from(([192, 0, 2, 1], 25)), false, context);
    let client = async {
        let mut replies = Vec::new();
        read_greeting(&mut client, &mut replies).await;
        let (mut reader, mut writer) = tokio::io::split(client);
        let send = async {
            for piece in pieces {
                if writer.write_all(piece).await.is_err() {
                    break;
                }
                // Enough turns for the session to take the piece and to wait for the next.
                for _ in 0..4 {
                    tokio::task::yield_now().await;
                }
            }
            let _ = writer.shutdown().await;
        };
        let read = async { reader.read_to_end(&mut replies).await };
        let (_, read) = tokio::join!(send, read);
        read.unwrap();
        in_clear_text(&replies).to_owned()
    };
    let (ended, replies) = tokio::join!(session, client);
    let _ = ended;
    let mask = |line: &str| line.split("accepted as ").next().unwrap().to_owned();
    replies.lines().map(mask).collect::<Vec<_>>().join("\n")
}

/// The replies up to a handshake, in which nothing of what was sent behind STARTTLS is answered:
/// only an alert of TLS may follow.
fn in_clear_text(replies: &[u8]) -> &str {
    const READY: &[u8] = b"Ready to start TLS\r\n";
    const ALERT: u8 = 21;
    let end = memchr::memmem::find(replies, READY).map_or(replies.len(), |start| start + READY.len());
    assert!(matches!(replies.get(end), None | Some(&ALERT)), "{:?}", String::from_utf8_lossy(replies));
    std::str::from_utf8(&replies[..end]).unwrap()
}

async fn read_greeting(client: &mut DuplexStream, replies: &mut Vec<u8>) {
    while !replies.ends_with(b"\r\n") {
        replies.push(client.read_u8().await.unwrap());
    }
}

/// A bit of everything that a client may say, right or wrong.
fn dialogue() -> impl Strategy<Value = Vec<&'static str>> {
    let line = prop_oneof![
        Just("EHLO c\r\n"),
        Just("MAIL FROM:<a@b.example>\r\n"),
        Just("RCPT TO:<x@known.example>\r\n"),
        Just("RCPT TO:<y@b.example>\r\n"),
        Just("DATA\r\n"),
        Just("Subject: x\r\n\r\ntext\r\n.\r\n"),
        Just(".\r\n"),
        Just("\r\n.\r\n"),
        Just("BDAT 6\r\nabc\r\nd"),
        Just("BDAT 3 LAST\r\n.\r\n"),
        Just("BDAT x\r\n"),
        Just("BDAT 0\r\n"),
        Just("BDAT 1200\r\n"),
        Just("STARTTLS\r\n"),
        Just("RSET\r\n"),
        Just("NOOP\n\r\n"),
        Just("NONSENSE\r\n"),
        Just("\r"),
        Just("\n"),
        Just("QUIT\r\n"),
    ];
    let envelope = "EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<x@known.example>\r\n";
    let mail = Just(vec![envelope, "DATA\r\n", "..x\r\n.\r\n"]);
    prop_oneof![
        proptest::collection::vec(line.clone(), 0..20),
        (mail, proptest::collection::vec(line, 0..20)).prop_map(|(mut mail, more)| {
            mail.extend(more);
            mail
        })
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Where the network cuts a dialogue changes no reply.
    #[test]
    fn splits_of_a_dialogue_do_not_matter(
        lines in dialogue(),
        cuts in proptest::collection::vec(0usize..600, 0..20),
    ) {
        let input = lines.concat().into_bytes();
        let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= input.len()).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let bytes: Vec<&[u8]> = input.chunks(1).collect();
        let (whole, split, bytewise) = runtime.block_on(async {
            let whole = converse(&context(), &[&input]).await;
            (whole, converse(&context(), &pieces).await, converse(&context(), &bytes).await)
        });
        prop_assert_eq!(&split, &whole);
        prop_assert_eq!(&bytewise, &whole);
    }
}
