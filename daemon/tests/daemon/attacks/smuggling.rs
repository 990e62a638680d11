//! SMTP smuggling: an end of data that is none, and a second mail behind it.

use crate::harness::{Client, Daemon, Webhook};

/// What other servers took, or passed on, for the end of a mail: CVE-2023-51764 (Postfix),
/// CVE-2023-51765 (Sendmail), CVE-2023-51766 (Exim), and what was found in their wake.
const FORMS: [&str; 24] = [
    "\n.\n",
    "\n.\r\n",
    "\r\n.\n",
    "\r.\r",
    "\r.\r\n",
    "\r\n.\r",
    "\r.\n",
    "\n.\r",
    "\n\n.\n\n",
    "\r\r.\r\r",
    "\r\n\0.\r\n",
    "\r\n.\0\r\n",
    "\r\n.\r\0\n",
    "\r\0\n.\r\n",
    "\r\n\0.\0\r\n",
    "\n\r.\r\n",
    "\r\n.\n\r",
    "\r\n.\r\r\n",
    "\r\r\n.\r\r\n",
    "\r\n .\r\n",
    "\r\n. \r\n",
    "\r\n.\t\r\n",
    "\u{b}.\u{b}",
    "\u{85}.\u{85}",
];

const SECOND_MAIL: &str = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\n\
                           Subject: smuggled\r\n\r\nx\r\n";

/// Ends the content, and makes sure that all of it was one mail and no command in it was obeyed.
fn was_one_mail(mut client: Client, form: &str) {
    client.send(".\r\n");
    let (code, text) = client.reply();
    assert!(code == 250 && text.contains("accepted"), "{form:?}: {text}");
    client.send("QUIT\r\n");
    let rest = client.read_to_end();
    assert!(rest.starts_with("221 ") && rest.lines().count() == 1, "{form:?}: {rest}");
}

fn no_mail_was_smuggled(webhook: &Webhook, daemon: &Daemon, sent: usize) {
    super::settle(daemon, sent);
    let received = webhook.received();
    assert_eq!(received.len(), sent);
    for request in received {
        assert_eq!(
            (&request.json["sender"], &request.json["subject"]),
            (&"sender@example.org".into(), &"outer".into())
        );
        assert!(request.json["body"].as_str().is_some_and(|body| body.contains("smuggled")), "it is text");
    }
    assert_eq!(daemon.logged("mail accepted").len(), sent);
}

#[test]
fn no_end_of_data_but_crlf_dot_crlf_lets_a_second_mail_in() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut sent = 0;
    for form in FORMS {
        // Cut into two packets at every position, and into one for each byte.
        let mut packets: Vec<Vec<&[u8]>> = vec![form.as_bytes().chunks(1).collect()];
        packets.extend((0..form.len()).map(|at| vec![&form.as_bytes()[..at], &form.as_bytes()[at..]]));
        for packets in packets {
            let mut client = daemon.client();
            client.begin_mail("support@example.com");
            client.send("Subject: outer\r\n\r\nx");
            packets.into_iter().for_each(|packet| client.send(packet));
            client.send(SECOND_MAIL);
            was_one_mail(client, form);
            sent += 1;
        }
    }
    no_mail_was_smuggled(&webhook, &daemon, sent);
}

#[test]
fn nor_does_one_that_begins_the_content() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    for form in [".\n", ".\r", "\0.\r\n", ".\0\r\n", " .\r\n", "\n.\r\n", "\r.\r\n", ".\r\r\n"] {
        let mut client = daemon.client();
        client.begin_mail("support@example.com");
        client.send(format!("{form}{SECOND_MAIL}"));
        was_one_mail(client, form);
    }
    super::settle(&daemon, 8);
    assert_eq!(webhook.received().len(), 8);
    assert!(webhook.received().iter().all(|request| request.json["sender"] == "sender@example.org"));
}

/// A chunk has its length: nothing in it ends it, not even the real end of data.
#[test]
fn nothing_in_a_chunk_ends_a_mail() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let forms = FORMS.iter().copied().chain(["\r\n.\r\n"]);
    for (sent, form) in forms.clone().enumerate() {
        let mut client = daemon.client();
        client.envelope("support@example.com");
        let content = format!("Subject: outer\r\n\r\nx{form}{SECOND_MAIL}.\r\n");
        // One chunk, or two that meet within the form.
        let cut = if sent % 2 == 0 { 0 } else { content.find(form).expect("it") + form.len() / 2 };
        let (first, second) = content.as_bytes().split_at(cut);
        client.send(format!("BDAT {}\r\n", first.len()));
        client.send(first);
        client.send(format!("BDAT {} LAST\r\n", second.len()));
        client.send(second);
        assert_eq!(client.codes(2), [250, 250], "{form:?}");
        assert_eq!(client.ask("QUIT").0, 221, "{form:?}: nothing was answered in between");
    }
    no_mail_was_smuggled(&webhook, &daemon, forms.count());
}
