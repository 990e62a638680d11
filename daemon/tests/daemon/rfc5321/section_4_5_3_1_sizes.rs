//! Sizes: what a server has to take, and what it does with more.

use crate::harness::{Daemon, Webhook};

/// 4.5.3.1.1: "The maximum total length of a user name or other local-part is 64 octets."
#[test]
fn a_local_part_has_up_to_64_octets() {
    let longest = format!("{}@example.com", "l".repeat(64));
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", longest.as_str())]);
    let mut client = daemon.client();
    assert_eq!(client.ask(&format!("MAIL FROM:<{longest}>")).0, 250);
    assert_eq!(client.ask(&format!("RCPT TO:<{longest}>")).0, 250);
    let (code, text) = client.ask(&format!("RCPT TO:<l{longest}>"));
    assert_eq!((code, text.contains("5.1.3")), (501, true), "{text}");
}

/// 4.5.3.1: "implementation techniques that impose no limits on the length of these objects should be used". Forwarders keep
/// whole addresses in the local part of theirs, and who refused these would lose the mail.
#[test]
fn a_reverse_path_may_have_a_longer_local_part() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let sender = format!("SRS0=AbCd=XY=example.net={}@example.org", "b".repeat(200));
    assert_eq!(client.ask(&format!("MAIL FROM:<{sender}>")).0, 250);
    assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
    assert_eq!(client.ask("DATA").0, 354);
    client.send("\r\nx\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["sender"], sender.as_str());
}

/// 4.5.3.1.2: "The maximum total length of a domain name or number is 255 octets." A path of 256 octets
/// (4.5.3.1.3), its brackets included, has no room for more than 252 of them behind `a@`.
#[test]
fn a_domain_has_up_to_what_a_path_has_room_for() {
    let domain = |octets: usize| {
        let labels = format!("{}.", "d".repeat(61)).repeat(4);
        format!("{labels}{}", "e".repeat(octets - labels.len()))
    };
    let longest = format!("a@{}", domain(252));
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", longest.as_str())]);
    let mut client = daemon.client();
    assert_eq!(client.ask(&format!("MAIL FROM:<{longest}>")).0, 250);
    assert_eq!(client.ask(&format!("RCPT TO:<{longest}>")).0, 250);
    assert_eq!(client.ask(&format!("RCPT TO:<a@{}>", domain(253))).0, 501, "a path of 257");
    // HELO has no path around its domain.
    assert_eq!(client.ask(&format!("HELO {}", domain(255))).0, 250);
    assert_eq!(client.ask(&format!("HELO {}", domain(256))).0, 501);
}

/// 4.5.3.1.3: "256 octets (including the punctuation and element separators)", a source route too.
#[test]
fn a_path_has_up_to_256_octets() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let path = |octets: usize| {
        let tail = ":support@example.com>";
        format!("<@{}.example{tail}", ["r"; 200].join(".").get(..octets - 2 - 8 - tail.len()).unwrap())
    };
    assert_eq!((path(256).len(), path(255).len()), (256, 255));
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<>").0, 250);
    assert_eq!(client.ask(&format!("RCPT TO:{}", path(256))).0, 250);
    assert_eq!(client.ask(&format!("RCPT TO:{}", path(257))).0, 501);
}

/// 4.5.3.1.4: a command line of 512 octets, its CRLF included, is taken; extensions make it longer, so
/// that this server takes 2,048.
#[test]
fn a_command_line_has_512_octets_and_more() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for (octets, code) in [(512, 250), (2_048, 250), (2_049, 500)] {
        let (actual, text) = client.ask(&format!("NOOP {}", "x".repeat(octets - 7)));
        assert_eq!(actual, code, "{octets}: {text}");
    }
    let (code, text) = client.ask(&"x".repeat(5_000));
    assert_eq!((code, text.contains("5.5.6")), (500, true), "{text}");
    assert_eq!(client.ask("NOOP").0, 250, "and the session goes on");
}

/// 4.5.3.1.5: "512 octets including the reply code and the <CRLF>", whatever the server is called.
#[test]
fn a_reply_line_has_up_to_512_octets() {
    let name = format!("{}{}.example", format!("{}.", "n".repeat(60)).repeat(3), "m".repeat(60));
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_HOSTNAME", name.as_str())]);
    let mut client = daemon.client();
    for line in [
        format!("EHLO {name}"),
        format!("MAIL FROM:<a@{name}>"),
        format!("RCPT TO:<nobody@{name}>"),
        format!("VRFY {}", "v".repeat(1_500)),
        "x".repeat(2_000),
        "HELP".into(),
    ] {
        let (_, text) = client.ask(&line);
        assert!(text.lines().all(|reply| reply.len() + 2 <= 512), "{text}");
    }
    assert!(client.ask(&format!("EHLO {name}")).1.contains(&name));
}

/// 4.5.3.1.6: "a text line including the <CRLF> is 1000 octets (not counting the leading dot duplicated
/// for transparency)"; longer ones are taken as well.
#[test]
fn a_text_line_has_1000_octets_and_more() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for (sent, octets) in [1_000, 1_001, 100_000].into_iter().enumerate() {
        let line = format!(".{}\r\n", "t".repeat(octets - 3));
        assert_eq!(client.mail("support@example.com", &format!("\r\n.{line}")).0, 250);
        assert_eq!(webhook.wait_for(sent + 1)[sent].json["body"], line);
    }
}

/// 4.5.3.1.8: "The minimum total number of recipients that MUST be buffered is 100"; 4.5.3.1.10: more
/// than the limit are `452`, so that the client sends the mail again for the rest.
#[test]
fn a_mail_has_100_recipients_and_more() {
    let targets: Vec<String> = (0..=1_000).map(|number| format!("r{number}@example.com")).collect();
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_TARGET_EMAILS", &targets.join(","))]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<>").0, 250);
    for recipient in &targets[..1_000] {
        assert_eq!(client.ask(&format!("RCPT TO:<{recipient}>")).0, 250, "{recipient}");
    }
    let (code, text) = client.ask(&format!("RCPT TO:<{}>", targets[1_000]));
    assert_eq!((code, text.contains("4.5.3")), (452, true), "{text}");
    assert_eq!(client.ask("DATA").0, 354);
    client.send("\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    let json = &webhook.wait_for(1)[0].json;
    assert_eq!(json["recipients"], serde_json::json!(targets[..1_000]));
}

/// 4.5.3.1.7 and .9: a message that is too large is `552`.
#[test]
fn a_mail_that_is_too_large_is_refused_at_its_end_and_the_session_goes_on() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_MESSAGE_SIZE", "10000")]);
    let mut client = daemon.client();
    let line = format!("{}\r\n", "x".repeat(98));
    let (code, text) = client.mail("support@example.com", &line.repeat(101));
    assert_eq!((code, text.contains("5.3.4")), (552, true), "{text}");
    assert_eq!(client.mail("support@example.com", &line.repeat(100)).0, 250);
    assert_eq!(webhook.wait_for(1)[0].json["size_bytes"], 10_000);
    assert_eq!(daemon.metric("mail_laser_messages_total{route=\"default\",outcome=\"rejected\"}"), Some(1.0));
}

#[test]
fn an_attachment_that_is_too_large_is_refused() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[("MAIL_LASER_MAX_ATTACHMENT_SIZE", "100")]);
    let mail =
        |bytes: usize| format!("Content-Type: application/octet-stream\r\n\r\n{}\r\n", "x".repeat(bytes));
    let mut client = daemon.client();
    assert_eq!(client.mail("support@example.com", &mail(200)).0, 552);
    assert_eq!(client.mail("support@example.com", &mail(90)).0, 250);
}
