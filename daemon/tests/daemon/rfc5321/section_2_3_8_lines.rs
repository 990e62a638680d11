//! "SMTP client implementations MUST NOT transmit [bare CR or LF] except when they are intended
//! as line terminators": a receiver that takes them for line ends lets mail be smuggled.

use crate::harness::{Client, Daemon, Webhook, eventually};

/// What CVE-2023-51764, -51765 and -51766 did to other servers: an end of data that is none,
/// followed by a second mail.
#[test]
fn no_form_of_smuggling_makes_a_second_mail() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let forms = [
        "\n.\n",
        "\n.\r\n",
        "\r\n.\n",
        "\r.\r",
        "\r.\r\n",
        "\r\n.\r",
        "\n.\r",
        "\r\n\0.\r\n",
        "\r\n.\0\r\n",
        "\n\r.\r\n",
    ];
    for (index, form) in forms.iter().enumerate() {
        let mut client = daemon.client();
        let smuggled = "MAIL FROM:<evil@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nSubject: smuggled\r\n\r\nx";
        client.begin_mail("support@example.com");
        for byte in format!("Subject: outer\r\n\r\nx{form}{smuggled}\r\n").as_bytes() {
            client.send([*byte]);
        }
        client.send(".\r\n");
        assert_eq!(client.reply().0, 250, "{form:?}");
        assert_eq!(client.ask("QUIT").0, 221, "{form:?}: nothing was answered in between");
        let received = webhook.wait_for(index + 1);
        assert_eq!(received.len(), index + 1, "{form:?}");
        assert_eq!(received[index].json["subject"], "outer", "{form:?}");
    }
}

#[test]
fn a_bare_line_feed_does_not_end_a_command() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    client.send("NOOP\nNOOP\n\r");
    client.send("\n");
    let (code, text) = client.reply();
    assert_eq!((code, text.contains("5.5.2")), (500, true), "{text}");
    assert_eq!(client.ask("NOOP").0, 250);
}

#[test]
fn commands_behind_the_data_command_are_content() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = Client::connect(daemon.smtp);
    assert_eq!(client.reply().0, 220);
    client.send(
        "EHLO c\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<support@example.com>\r\nDATA\r\nQUIT\r\nRSET\r\n.\r\nQUIT\r\n",
    );
    let codes: Vec<u16> = (0..6).map(|_| client.reply().0).collect();
    assert_eq!(codes, [250, 250, 250, 354, 250, 221]);
    let received = webhook.wait_for(1);
    assert_eq!(received[0].json["body"], "QUIT\r\nRSET\r\n");
    eventually("the connection is closed", || client.is_closed().then_some(()));
}
