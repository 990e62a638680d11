//! Routes of others: put into a directory, taken over without a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use mail_laser_routes::files::{Entry, INDEX, Webhook as Target, part_file, write};

use crate::harness::{Behaviour, Client, Daemon, Webhook, command, eventually};

/// A route of this name to a webhook of this host.
pub(crate) fn route(name: &str, recipient: &str, webhook: &Webhook) -> Entry {
    Entry {
        name: name.to_owned(),
        recipients: vec![recipient.parse().unwrap()],
        webhook: Some(Target {
            timeout_seconds: 5,
            max_retries: 0,
            circuit_breaker_threshold: 1,
            circuit_breaker_reset_seconds: 3_600,
            concurrency: 4,
            allow_http: true,
            allow_private: true,
            ..Target::at(&webhook.url())
        }),
    }
}

fn target(route: &mut Entry) -> &mut Target {
    route.webhook.as_mut().unwrap()
}

/// Puts a generation into the directory; of its parts, only so many.
fn put_parts(directory: &Path, routes: &[Entry], parts: usize) {
    let (index, contents) = write(routes, 3).unwrap();
    for (number, content) in contents.iter().enumerate().take(parts) {
        std::fs::write(directory.join(part_file(number)), content).unwrap();
    }
    // As a mounted Secret changes: at once.
    let index = serde_json::to_vec(&index).unwrap();
    std::fs::write(directory.join("new"), index).unwrap();
    std::fs::rename(directory.join("new"), directory.join(INDEX)).unwrap();
}

pub(crate) fn put(directory: &Path, routes: &[Entry]) {
    put_parts(directory, routes, usize::MAX);
}

/// A daemon that has nothing but routes.
pub(crate) fn start(directory: &Path, variables: &[(&str, &str)]) -> Daemon {
    let base = [
        ("MAIL_LASER_ROUTES", directory.to_str().unwrap()),
        ("MAIL_LASER_TARGET_EMAILS", ""),
        ("MAIL_LASER_TLS", "off"),
    ];
    Daemon::posting_to("", &[&base[..], variables].concat())
}

fn recipient(daemon: &Daemon, address: &str) -> u16 {
    let mut client = daemon.client();
    client.ask("MAIL FROM:<ann@example.org>");
    client.ask(&format!("RCPT TO:<{address}>")).0
}

fn becomes(daemon: &Daemon, address: &str, code: u16) {
    eventually(&format!("{code} for {address}"), || (recipient(daemon, address) == code).then_some(()));
}

fn circuit(daemon: &Daemon, route: &str) -> Option<f64> {
    daemon.metric(&format!("mail_laser_circuit_breaker_state{{route=\"{route}\"}}"))
}

#[test]
fn routes_come_and_go_while_a_session_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let (billing, support) = (Webhook::of_others(), Webhook::of_others());
    let daemon = start(directory.path(), &[]);
    // Who is known is not known yet: nobody is sent away for good.
    assert_eq!(recipient(&daemon, "billing@example.com"), 451);
    assert!(daemon.is_healthy());

    put(directory.path(), &[route("team-b/billing", "billing+*@example.com", &billing)]);
    becomes(&daemon, "billing+1@example.com", 250);
    assert_eq!(recipient(&daemon, "support@example.com"), 550);
    let mut open: Client = daemon.client();
    open.begin_mail("billing+1@example.com");

    put(directory.path(), &[route("team-s/support", "*@example.com", &support)]);
    becomes(&daemon, "support@example.com", 250);
    // What was begun is brought to its end.
    open.send("Subject: begun before\r\n\r\n.\r\n");
    assert_eq!(open.reply().0, 250);
    assert_eq!(billing.wait_for(1)[0].json["recipient"], "billing+1@example.com");
    assert_eq!(open.mail("billing+1@example.com", "Subject: after\r\n\r\n").0, 250);
    let received = support.wait_for(1);
    assert_eq!(received[0].json["subject"], "after");
    let id = received[0].json["id"].as_str().unwrap();
    let key = &received[0].headers["idempotency-key"];
    assert!(key.starts_with(&format!("{id}.")), "{key}");
    assert_eq!(daemon.metric("mail_laser_routes"), Some(1.0));
}

#[test]
fn a_generation_that_is_not_whole_leaves_the_one_before_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let webhook = Webhook::of_others();
    let old: Vec<Entry> =
        (0..9).map(|n| route(&format!("team/{n}"), &format!("old-{n}@example.com"), &webhook)).collect();
    put(directory.path(), &old);
    let daemon = start(directory.path(), &[]);
    assert_eq!(recipient(&daemon, "old-8@example.com"), 250);
    let new: Vec<Entry> =
        (0..9).map(|n| route(&format!("team/{n}"), &format!("new-{n}@example.com"), &webhook)).collect();
    put_parts(directory.path(), &new, 2);
    eventually("it is told", || (daemon.metric("mail_laser_routes_stale") == Some(1.0)).then_some(()));
    let told = daemon.wait_for_log("routes cannot be taken over; those before stay in force", 1);
    assert!(told[0]["why"].as_str().unwrap().contains("part 2"), "{told:?}");
    assert_eq!(
        (recipient(&daemon, "old-8@example.com"), recipient(&daemon, "new-8@example.com")),
        (250, 550)
    );
    std::fs::write(directory.path().join(INDEX), "{").unwrap();
    daemon.wait_for_log("routes cannot be taken over; those before stay in force", 2);
    assert_eq!(recipient(&daemon, "old-8@example.com"), 250);
    put(directory.path(), &old);
    eventually("all is well", || (daemon.metric("mail_laser_routes_stale") == Some(0.0)).then_some(()));
    std::fs::write(directory.path().join(INDEX), "{").unwrap();
    daemon.wait_for_log("routes cannot be taken over; those before stay in force", 3);
    put(directory.path(), &new);
    becomes(&daemon, "new-8@example.com", 250);
    eventually("all is well", || (daemon.metric("mail_laser_routes_stale") == Some(0.0)).then_some(()));
}

#[test]
fn a_route_that_has_not_changed_keeps_its_circuit() {
    let directory = tempfile::tempdir().unwrap();
    let (broken, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    put(directory.path(), &[route("a/broken", "a@example.com", &broken)]);
    let daemon = start(directory.path(), &[]);
    assert_eq!(daemon.client().mail("a@example.com", "\r\n").0, 250);
    eventually("its circuit is open", || (circuit(&daemon, "a/broken") == Some(2.0)).then_some(()));

    let recipients_changed = route("a/broken", "b@example.com", &broken);
    put(directory.path(), &[recipients_changed.clone(), route("c/fine", "c@example.com", &fine)]);
    becomes(&daemon, "c@example.com", 250);
    assert_eq!(circuit(&daemon, "a/broken"), Some(2.0));
    let mut changed = recipients_changed;
    target(&mut changed).timeout_seconds = 4;
    put(directory.path(), &[changed]);
    eventually("its circuit is a new one", || (circuit(&daemon, "a/broken") == Some(0.0)).then_some(()));
    becomes(&daemon, "c@example.com", 550);
    assert_eq!(circuit(&daemon, "c/fine"), None, "the series of a route that is gone");
}

#[test]
fn a_route_has_its_own_token_headers_and_signature() {
    let directory = tempfile::tempdir().unwrap();
    let webhook = Webhook::of_others();
    let mut signed = route("team-b/billing", "billing@example.com", &webhook);
    target(&mut signed).bearer_token = Some("secret-token".to_owned());
    target(&mut signed).headers = BTreeMap::from([("X-Team".to_owned(), "secret-team".to_owned())]);
    target(&mut signed).signing_secrets = vec!["secret-new".to_owned(), "secret-old".to_owned()];
    target(&mut signed).header_prefixes = vec!["X-Ticket".to_owned()];
    put(directory.path(), &[signed]);
    let daemon = start(directory.path(), &[("RUST_LOG", "debug")]);
    assert_eq!(daemon.client().mail("billing@example.com", "X-Ticket-No: 7\r\nX-Other: 8\r\n\r\n").0, 250);
    let received = webhook.wait_for(1).remove(0);
    assert_eq!(received.headers["authorization"], "Bearer secret-token");
    assert_eq!(received.headers["x-team"], "secret-team");
    assert_eq!(received.json["headers"], serde_json::json!({"X-Ticket-No": "7"}));
    assert_eq!(received.headers["webhook-id"], received.headers["idempotency-key"]);
    assert_eq!(received.headers["webhook-timestamp"], received.headers["x-maillaser-timestamp"]);
    assert_eq!(received.headers["webhook-signature"].split(' ').count(), 2);
    assert!(received.headers["x-maillaser-signature-256"].starts_with("sha256="));
    daemon.wait_for_log("mail delivered", 1);
    assert!(!daemon.log_text().contains("secret"), "{}", daemon.log_text());
}

/// Neither by its address nor by a name that leads there; this host's own not even where inner ones are allowed.
#[test]
fn a_route_reaches_no_address_that_it_may_not() {
    let directory = tempfile::tempdir().unwrap();
    let (own, inner) = (Webhook::start(), Webhook::of_others());
    let by_name = own.url().replace("127.0.0.1", "localhost");
    let to = |name: &str, url: &str, allow_private: bool| {
        let mut entry = route(&format!("a/{name}"), &format!("{name}@example.com"), &inner);
        target(&mut entry).allow_private = allow_private;
        target(&mut entry).url = url.to_owned();
        entry
    };
    let routes = [
        to("address", &own.url(), false),
        to("address-inner", &own.url(), true),
        to("name", &by_name, false),
        to("name-inner", &by_name, true),
        to("fine", &inner.url(), true),
    ];
    put(directory.path(), &routes);
    let daemon = start(directory.path(), &[]);
    let told = daemon.wait_for_log("a route cannot be used", 2);
    let refused: BTreeMap<&str, &str> = told
        .iter()
        .map(|record| (record["route"].as_str().unwrap(), record["why"].as_str().unwrap()))
        .collect();
    assert!(refused["a/address"].contains("not a public one"), "{told:?}");
    assert!(refused["a/address-inner"].contains("no route may reach"), "{told:?}");
    for name in ["address", "address-inner"] {
        assert_eq!(recipient(&daemon, &format!("{name}@example.com")), 451);
    }
    for (count, name, why) in [(1, "name", "no public address"), (2, "name-inner", "no route may reach")] {
        assert_eq!(daemon.client().mail(&format!("{name}@example.com"), "\r\n").0, 250);
        let failed = daemon.wait_for_log("delivery attempt failed", count);
        assert!(failed[count - 1]["reason"].as_str().unwrap().contains(why), "{failed:?}");
    }
    assert_eq!(daemon.client().mail("fine@example.com", "Subject: fine\r\n\r\n").0, 250);
    assert_eq!(inner.wait_for(1)[0].json["subject"], "fine");
    assert!(own.received().is_empty());
}

/// What the environment says beats every route.
#[test]
fn the_environments_own_recipients_come_first() {
    let directory = tempfile::tempdir().unwrap();
    let (own, other) = (Webhook::start(), Webhook::of_others());
    put(directory.path(), &[route("a/greedy", "support@example.com", &other)]);
    let path = directory.path().to_str().unwrap();
    let daemon = Daemon::start(&own, &[("MAIL_LASER_ROUTES", path)]);
    assert_eq!(daemon.client().mail("support@example.com", "Subject: mine\r\n\r\n").0, 250);
    assert_eq!(own.wait_for(1)[0].json["subject"], "mine");
    assert!(other.received().is_empty());
}

/// Of the queue and of the memory, whoever hangs leaves others as much as it has.
#[test]
fn a_webhook_that_hangs_leaves_a_share_to_others() {
    let directory = tempfile::tempdir().unwrap();
    let (hanging, fine) = (Webhook::of_others_behaving(|_| Behaviour::hang()), Webhook::of_others());
    let mut routes = [route("a/hanging", "a@example.com", &hanging), route("b/fine", "b@example.com", &fine)];
    for (bound, seconds) in
        [(("MAIL_LASER_QUEUE_MAX_MESSAGES", "20"), 60), (("MAIL_LASER_MEMORY_MAX_BYTES", "4000000"), 80)]
    {
        target(&mut routes[0]).timeout_seconds = seconds;
        put(directory.path(), &routes);
        let daemon = start(directory.path(), &[bound, ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000")]);
        let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(1_000));
        let refused = eventually("the one that hangs has its share", || {
            let (code, text) = daemon.client().mail("a@example.com", &large);
            (code != 250).then_some(text)
        });
        assert!(refused.starts_with("451 4.3.2"), "{refused}");
        let before = fine.received().len();
        for n in 0..50 {
            assert_eq!(daemon.client().mail("b@example.com", "\r\n").0, 250, "{bound:?}, mail {n}");
            // What waits on a busy machine is its own share.
            fine.wait_for(before + n + 1);
        }
        // Who changes its route has no further share.
        target(&mut routes[0]).timeout_seconds += 1;
        put(directory.path(), &routes);
        daemon.wait_for_log("routes taken over", 2);
        assert_eq!(daemon.client().mail("a@example.com", &large).0, 451, "{bound:?}");
        // Nor who takes it away, whole or its webhook, and brings it back.
        let nowhere = Entry { webhook: None, ..routes[0].clone() };
        for (n, gone) in
            [vec![routes[1].clone()], vec![nowhere.clone(), routes[1].clone()]].into_iter().enumerate()
        {
            put(directory.path(), &gone);
            daemon.wait_for_log("routes taken over", 3 + 2 * n);
            put(directory.path(), &routes);
            daemon.wait_for_log("routes taken over", 4 + 2 * n);
            assert_eq!(daemon.client().mail("a@example.com", &large).0, 451, "{bound:?}");
        }
    }
}

/// A webhook that is down keeps nobody else from a mail: who has it is not sent it again, and who has not is tried later.
#[test]
fn an_open_circuit_keeps_no_mail_from_others() {
    let directory = tempfile::tempdir().unwrap();
    let (broken, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    let mut routes = [route("a/broken", "a@example.com", &broken), route("b/fine", "b@example.com", &fine)];
    target(&mut routes[0]).max_retries = 0;
    target(&mut routes[0]).circuit_breaker_threshold = 1;
    put(directory.path(), &routes);
    let daemon = start(directory.path(), &[("MAIL_LASER_DELIVERY", "confirm")]);
    let begin = |client: &mut Client, addresses: [&str; 2]| {
        client.ask("MAIL FROM:<ann@example.org>");
        addresses.map(|address| client.ask(&format!("RCPT TO:<{address}>")).0)
    };
    let both = ["a@example.com", "b@example.com"];
    let mut client = daemon.client();
    assert_eq!(begin(&mut client, both), [250, 250]);
    assert_eq!(daemon.client().mail("a@example.com", "\r\n").0, 451);
    assert_eq!(circuit(&daemon, "a/broken"), Some(2.0));
    for _ in 0..2 {
        // It has been open since the mail was begun, or since it was sent first.
        assert_eq!(client.ask("DATA").0, 354);
        let (code, text) = client.ask("Subject: both\r\n\r\n.");
        assert_eq!((code, fine.received().len()), (451, 1), "{text}");
        assert_eq!(begin(&mut client, ["b@example.com", "b@example.com"]), [250, 250]);
        client.ask("RSET");
        // Whichever comes first, the mail goes to the others without the one that is down.
        assert_eq!(begin(&mut client, ["b@example.com", "a@example.com"]), [250, 452]);
        client.ask("RSET");
        assert_eq!(begin(&mut client, both), [250, 452]);
    }
    assert_eq!(broken.received().len(), 1);
}

/// All requests of a mail are in memory together: who sends a large one to many destinations sends it again to those for
/// which there was no room, instead of to nobody.
#[test]
fn a_large_mail_goes_to_as_many_destinations_at_once_as_memory_has_room_for() {
    const ROUTES: usize = 20;
    let directory = tempfile::tempdir().unwrap();
    let webhook = Webhook::of_others();
    let routes: Vec<_> =
        (0..ROUTES).map(|n| route(&format!("t/{n}"), &format!("r{n}@example.com"), &webhook)).collect();
    put(directory.path(), &routes);
    for delivery in ["forward", "confirm"] {
        let daemon = start(
            directory.path(),
            &[
                ("MAIL_LASER_DELIVERY", delivery),
                ("MAIL_LASER_MEMORY_MAX_BYTES", "4000000"),
                ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000"),
            ],
        );
        becomes(&daemon, "r0@example.com", 250);
        let before = webhook.received().len();
        let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(2_600));
        let mut left: Vec<usize> = (0..ROUTES).collect();
        let mut mails = 0;
        let mut client = daemon.client();
        while !left.is_empty() {
            assert_eq!(client.ask(&format!("MAIL FROM:<ann@example.org> SIZE={}", large.len())).0, 250);
            let not_now = |n: &usize| {
                let (code, text) = client.ask(&format!("RCPT TO:<r{n}@example.com>"));
                assert!(code == 250 || text.starts_with("452 4.5.3"), "{text}");
                code == 452
            };
            let later: Vec<usize> = left.iter().copied().filter(not_now).collect();
            assert!(later.len() < left.len());
            left = later;
            assert_eq!(client.ask("DATA").0, 354);
            client.send(&large);
            client.send(".\r\n");
            let (code, text) = client.reply();
            assert_eq!(code, 250, "{delivery}: {text}");
            mails += 1;
            daemon.wait_for_log("mail accepted", mails);
            webhook.wait_for(before + ROUTES - left.len());
        }
        assert!(mails > 1, "there was room for all");
    }
    // A small one has room for all, and so may have one of which nothing is said.
    let daemon = start(
        directory.path(),
        &[("MAIL_LASER_MEMORY_MAX_BYTES", "4000000"), ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000")],
    );
    becomes(&daemon, "r0@example.com", 250);
    let mut client = daemon.client();
    for parameter in ["SIZE=1000", ""] {
        assert_eq!(client.ask(&format!("MAIL FROM:<ann@example.org> {parameter}")).0, 250);
        for n in 0..ROUTES {
            assert_eq!(client.ask(&format!("RCPT TO:<r{n}@example.com>")).0, 250);
        }
        assert_eq!(client.ask("RSET").0, 250);
    }
}

/// What hangs, or has taken all streams of a connection, is in the way of its own requests alone.
#[test]
fn routes_to_one_host_have_connections_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let webhook = Webhook::of_others();
    put(
        directory.path(),
        &[route("a/one", "a@example.com", &webhook), route("b/two", "b@example.com", &webhook)],
    );
    let daemon = start(directory.path(), &[]);
    for (sent, to) in ["a@example.com", "b@example.com"].repeat(3).into_iter().enumerate() {
        assert_eq!(daemon.client().mail(to, "\r\n").0, 250);
        webhook.wait_for(sent + 1);
        daemon.wait_for_log("mail delivered", sent + 1);
    }
    let connection = |route: usize| {
        let received = webhook.received();
        let of_route: BTreeSet<_> =
            received.iter().skip(route).step_by(2).map(|it| it.from.unwrap()).collect();
        assert_eq!(of_route.len(), 1, "a connection that is there is used again: {of_route:?}");
        of_route
    };
    assert_ne!(connection(0), connection(1));
}

/// On disk, too: of what hangs no more is in memory, and what has to wait longer is there no longer.
#[test]
fn mails_on_disk_for_a_webhook_that_hangs_leave_memory_to_others() {
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let hanging = Webhook::of_others_behaving(|_| Behaviour::hang());
    let (refusing, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    let mut routes = [
        route("a/hanging", "a@example.com", &hanging),
        route("b/fine", "b@example.com", &fine),
        route("c/refusing", "c@example.com", &refusing),
    ];
    target(&mut routes[0]).timeout_seconds = 60;
    put(directory.path(), &routes);
    let variables = [
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap()),
        ("MAIL_LASER_MEMORY_MAX_BYTES", "4000000"),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000"),
    ];
    let daemon = start(directory.path(), &variables);
    let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(1_000));
    for n in 0..200 {
        let to = ["a@example.com", "c@example.com"][n % 2];
        assert_eq!(daemon.client().mail(to, &large).0, 250, "mail {n}");
    }
    for n in 0..20 {
        assert_eq!(daemon.client().mail("b@example.com", &large).0, 250, "mail {n}");
        fine.wait_for(n + 1);
    }
    eventually("the circuit is open", || circuit(&daemon, "c/refusing").filter(|state| *state > 0.0));
}

/// The example of the documentation, and what else there is to say.
#[test]
fn explain_tells_which_route_takes_an_address_and_what_is_in_the_way_of_others() {
    let (directory, webhook) = (tempfile::tempdir().unwrap(), Webhook::of_others());
    let routes = [
        route("team-b/billing", "billing+*@example.com", &webhook),
        route("team-s/support", "*@example.com", &webhook),
        route("team-x/late", "billing+*@example.com", &webhook),
    ];
    let own = [("MAIL_LASER_TARGET_EMAILS", "own@example.com")];
    let explain = |arguments: &[&str]| {
        let routes = ("MAIL_LASER_ROUTES", directory.path().to_str().unwrap());
        let mut explain = command(directory.path(), &[&own[..], &[routes]].concat());
        let output = explain.args(["route", "explain"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = explain(&["x@example.com"]);
    assert_eq!(code, Some(3));
    assert!(text.contains("is taken by nobody yet") && text.contains("451"), "{text}");

    put(directory.path(), &routes);
    let (code, text) = explain(&["billing+may@example.com"]);
    assert_eq!(code, Some(0));
    let page = include_str!("../../../docs/daemon.md");
    assert!(page.contains(&format!("\n```\n{text}```\n")), "docs/daemon.md does not have:\n{text}");
    let own = explain(&["own@example.com", "--json"]);
    let own: serde_json::Value = serde_json::from_str(&own.1).unwrap();
    assert_eq!(own["taken"], serde_json::json!({"route": "default", "pattern": "own@example.com"}));
    assert_eq!(own["others"][0]["route"], "team-s/support");
    assert_eq!(own["others"][0]["obstacle"], "which is less specific");
    let nobody = explain(&["x@example.org"]);
    assert_eq!(nobody, (Some(3), "x@example.org is taken by nobody: 550\n".to_owned()));
    assert_eq!(explain(&["no address"]).0, Some(2));
    let nowhere = Entry { webhook: None, ..route("a/nowhere", "a@example.com", &webhook) };
    put(directory.path(), &[&routes[..], &[nowhere]].concat());
    let (code, text) = explain(&["a@example.com"]);
    assert_eq!(code, Some(3));
    assert!(
        text.starts_with("a@example.com is for a/nowhere, by a@example.com, which cannot be used"),
        "{text}"
    );
    put(directory.path(), &routes);

    // One part alone: that in which the route is.
    let parts = (0..3).map(|number| directory.path().join(part_file(number)));
    let of_part = |part: &Path| explain(&["x@example.com", "--routes", part.to_str().unwrap()]).1;
    let by_support = "x@example.com is taken by team-s/support, by *@example.com\n";
    assert_eq!(parts.filter(|part| of_part(part) == by_support).count(), 1);
}

/// A route that is gone takes no mail along: it becomes a dead letter. While it is not known which routes there
/// are, or where one leads, it waits.
#[test]
fn spooled_mail_of_a_route_that_is_gone_becomes_a_dead_letter() {
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let webhook = Webhook::of_others_behaving(|_| Behaviour::status(503));
    put(directory.path(), &[route("a/gone", "gone@example.com", &webhook)]);
    let variables =
        [("MAIL_LASER_DELIVERY", "spool"), ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap())];
    let daemon = start(directory.path(), &variables);
    for _ in 0..3 {
        assert_eq!(daemon.client().mail("gone@example.com", "\r\n").0, 250);
    }
    drop(daemon);

    let empty = tempfile::tempdir().unwrap();
    let daemon = start(empty.path(), &variables);
    eventually("they wait", || (daemon.metric("mail_laser_spool_messages") == Some(3.0)).then_some(()));
    let dead = "mail_laser_dead_letters{route=\"a/gone\"}";
    assert_eq!(daemon.metric(dead).unwrap_or(0.0), 0.0);
    let other = route("b/other", "other@example.com", &webhook);
    let nowhere = Entry { webhook: None, ..route("a/gone", "gone@example.com", &webhook) };
    put(empty.path(), &[other.clone(), nowhere]);
    becomes(&daemon, "other@example.com", 250);
    assert_eq!(recipient(&daemon, "gone@example.com"), 451);
    assert_eq!(daemon.metric("mail_laser_spool_messages"), Some(3.0));
    assert_eq!(daemon.metric(dead).unwrap_or(0.0), 0.0);
    put(empty.path(), &[other]);
    // The one that was tried, too, which was not due for a minute.
    eventually("they are dead letters", || (daemon.metric(dead) == Some(3.0)).then_some(()));
    eventually("none waits", || (daemon.metric("mail_laser_spool_messages") == Some(0.0)).then_some(()));
}

/// Whatever came and went: neither series nor memory stay behind.
#[test]
fn routes_that_come_and_go_leave_nothing_behind() {
    const ROUTES: usize = 300;
    const ROUNDS: usize = 6;
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let webhook = Webhook::of_others_behaving(|_| Behaviour::status(503));
    let spool = spool.path().to_str().unwrap();
    let spooled = [("MAIL_LASER_DELIVERY", "spool"), ("MAIL_LASER_SPOOL_DIR", spool)];
    let log = ("RUST_LOG", "mail_laser=info,mail_laser::webhook=warn,mail_laser::spool=debug");
    put(directory.path(), &[]);
    let daemon = start(directory.path(), &[&spooled[..], &[log]].concat());
    let gone = "mail_laser_messages_total{route=\"_other\",outcome=\"dead_lettered\"}";
    for round in 1..=ROUNDS {
        let name = |n: usize| format!("round-{round}/{n}");
        let recipient = |n: usize| format!("{n}@round-{round}.example.com");
        let routes: Vec<Entry> = (0..ROUTES).map(|n| route(&name(n), &recipient(n), &webhook)).collect();
        put(directory.path(), &routes);
        becomes(&daemon, &recipient(0), 250);
        let mut client = daemon.client();
        (0..ROUTES).for_each(|n| assert_eq!(client.mail(&recipient(n), "\r\n").0, 250));
        put(directory.path(), &[]);
        eventually("all are dead letters", || {
            (daemon.metric(gone) == Some((round * ROUTES) as f64)).then_some(())
        });
    }
    let discard = ["spool", "discard", "--dead", "--all"];
    let output = command(Path::new("."), &spooled).args(discard).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("no series is left", || {
        let text = Daemon::http(daemon.metrics, "GET", "/metrics");
        (!text.contains("round-")).then_some(())
    });
    eventually("the dispatcher knows none of them", || {
        let told = daemon.logged("nothing waits any more for routes that are gone");
        let removed: usize = told.iter().map(|it| it["removed"].as_u64().unwrap() as usize).sum();
        let left = told.last().map(|it| it["left"].as_u64().unwrap());
        ((removed, left) == (ROUNDS * ROUTES, Some(0))).then_some(())
    });
}

/// Whoever is down leaves disk to others, and alone may have most of it.
#[test]
fn a_webhook_that_is_down_leaves_disk_to_others() {
    const SPOOL_BYTES: u64 = 8_000_000;
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (down, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    let mut routes = vec![route("b/fine", "fine@example.com", &fine)];
    routes.extend((0..2).map(|n| route(&format!("a/{n}"), &format!("down-{n}@example.com"), &down)));
    put(directory.path(), &routes);
    let bytes = SPOOL_BYTES.to_string();
    let variables = [
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap()),
        ("MAIL_LASER_SPOOL_MAX_BYTES", bytes.as_str()),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000"),
    ];
    let daemon = start(directory.path(), &variables);
    let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(1_000));
    let fill = |recipient: &str| {
        let refused = eventually("it has its share", || {
            let (code, text) = daemon.client().mail(recipient, &large);
            (code != 250).then_some(text)
        });
        assert!(refused.starts_with("451 4.3.2"), "{refused}");
        daemon.metric("mail_laser_spool_bytes").unwrap() / SPOOL_BYTES as f64
    };
    let of_one = fill("down-0@example.com");
    assert!((0.7..0.9).contains(&of_one), "alone it has {of_one} of the disk");
    let of_two = fill("down-1@example.com");
    assert!(of_one < of_two && of_two < 0.95, "both have {of_two} of the disk");
    // More than there is room for at once.
    let smaller = format!("\r\n{}", format!("{}\r\n", "x".repeat(70)).repeat(300));
    for n in 0..100 {
        assert_eq!(daemon.client().mail("fine@example.com", &smaller).0, 250, "mail {n}");
        fine.wait_for(n + 1);
    }
    // What it holds is known after a restart, too.
    drop(daemon);
    let daemon = start(directory.path(), &variables);
    eventually("it has its share still", || {
        (daemon.client().mail("down-0@example.com", &large).0 == 451).then_some(())
    });
    assert_eq!(daemon.client().mail("fine@example.com", &smaller).0, 250);
}

/// What a destination held of the disk it holds no longer when its mails were given up, none of which is delivered then.
#[test]
fn mails_that_were_given_up_hold_no_disk() {
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let down = Webhook::of_others_behaving(|_| Behaviour::status(503));
    let routes = ["down", "other"].map(|it| route(&format!("a/{it}"), &format!("{it}@example.com"), &down));
    put(directory.path(), &routes);
    let variables = [
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap()),
        ("MAIL_LASER_SPOOL_MAX_BYTES", "8000000"),
        ("MAIL_LASER_SPOOL_LIFETIME", "5"),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "2000000"),
    ];
    let daemon = start(directory.path(), &variables);
    let mail = |to: &str, content: &str| daemon.client().mail(&format!("{to}@example.com"), content).0;
    let circuit = "mail_laser_circuit_breaker_state{route=\"a/down\"}";
    eventually("its circuit is open", || {
        assert_eq!(mail("down", "\r\n"), 250);
        (daemon.metric(circuit) == Some(2.0)).then_some(())
    });
    // So few and so fast that they are given up together.
    let large = format!("\r\n{}", format!("{}\r\n", "x".repeat(998)).repeat(1_000));
    eventually("it has its share", || (mail("down", &large) == 451).then_some(()));
    eventually("none waits", || (daemon.metric("mail_laser_spool_messages") == Some(0.0)).then_some(()));
    eventually("the other one has its share", || (mail("other", &large) == 451).then_some(()));
    let reply = daemon.client().mail("down@example.com", "\r\n");
    assert_eq!(reply.0, 250, "{}", reply.1);
}

/// Mails that end at the same time all find the same room.
#[test]
fn a_burst_for_a_webhook_that_is_down_leaves_disk_to_others() {
    const MAILS: usize = 150;
    let (directory, spool) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (down, fine) = (Webhook::of_others_behaving(|_| Behaviour::status(503)), Webhook::of_others());
    let routes = [route("a/down", "down@example.com", &down), route("b/fine", "fine@example.com", &fine)];
    put(directory.path(), &routes);
    let daemon = start(
        directory.path(),
        &[
            ("MAIL_LASER_DELIVERY", "spool"),
            ("MAIL_LASER_SPOOL_DIR", spool.path().to_str().unwrap()),
            ("MAIL_LASER_SPOOL_MAX_BYTES", "8000000"),
            ("MAIL_LASER_MAX_MESSAGE_SIZE", "200000"),
            // Larger mails are looked through before they go to disk.
            ("MAIL_LASER_MAX_ATTACHMENT_SIZE", "1000"),
            ("MAIL_LASER_MAX_CONCURRENT_PER_IP", "0"),
        ],
    );
    becomes(&daemon, "down@example.com", 250);
    let large = format!("{}\r\n", "x".repeat(70)).repeat(1_000);
    let mut clients: Vec<Client> = (0..MAILS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        client.begin_mail("down@example.com");
        client.send(format!("\r\n{large}"));
    }
    clients.iter_mut().for_each(|client| client.send(".\r\n"));
    let taken = clients.iter_mut().filter_map(|client| (client.reply().0 == 250).then_some(())).count();
    // 97 make its share. For a moment each counts twice, as coming in and as there, so it may be half of that.
    assert!((48..MAILS).contains(&taken), "{taken} were taken");
    assert_eq!(daemon.client().mail("fine@example.com", &format!("\r\n{large}{large}")).0, 250);
    fine.wait_for(1);
    // One that has its share keeps no mail from others, whichever comes first.
    for addresses in [["down@example.com", "fine@example.com"], ["fine@example.com", "down@example.com"]] {
        eventually("it has its share, and goes alone", || {
            daemon.client().mail("down@example.com", &format!("\r\n{large}"));
            let mut client = daemon.client();
            client.ask("MAIL FROM:<ann@example.org>");
            let codes = addresses.map(|address| client.ask(&format!("RCPT TO:<{address}>")).0);
            (codes == [250, 452]).then_some(())
        });
    }
}

/// Nobody learns of another's recipients, whose mail it is just as much.
#[test]
fn each_destination_sees_its_own_recipients() {
    let directory = tempfile::tempdir().unwrap();
    let (billing, support) = (Webhook::of_others(), Webhook::of_others());
    let routes = [
        route("b/billing", "billing@example.com", &billing),
        route("s/support", "*@support.example.com", &support),
    ];
    put(directory.path(), &routes);
    for mode in ["forward", "confirm"] {
        let daemon = start(directory.path(), &[("MAIL_LASER_DELIVERY", mode)]);
        let mut client = daemon.client();
        client.ask("MAIL FROM:<ann@example.org>");
        for address in ["a@support.example.com", "billing@example.com", "b@support.example.com"] {
            assert_eq!(client.ask(&format!("RCPT TO:<{address}>")).0, 250);
        }
        assert_eq!(client.ask("DATA").0, 354);
        client.send(format!("Subject: {mode}\r\n\r\n.\r\n"));
        assert_eq!(client.reply().0, 250);
        let of_mode = |webhook: &Webhook| {
            eventually("its request", || {
                webhook.received().into_iter().find(|request| request.json["subject"] == mode)
            })
        };
        let (one, other) = (of_mode(&billing), of_mode(&support));
        assert_eq!(one.json["recipients"], serde_json::json!(["billing@example.com"]));
        let both = serde_json::json!(["a@support.example.com", "b@support.example.com"]);
        assert_eq!((&other.json["recipients"], &other.json["recipient"]), (&both, &both[0]));
        assert_eq!(one.json["id"], other.json["id"]);
        assert_ne!(one.headers["idempotency-key"], other.headers["idempotency-key"]);
    }
}
