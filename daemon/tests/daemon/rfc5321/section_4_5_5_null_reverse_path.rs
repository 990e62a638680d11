//! Messages with a null reverse-path: notifications, which are taken like any other mail.

use crate::harness::{Daemon, Webhook};

#[test]
fn a_mail_without_a_sender_is_taken_and_has_none() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    for (sent, line) in ["MAIL FROM:<>", "MAIL FROM:<> SIZE=2 BODY=8BITMIME"].into_iter().enumerate() {
        assert_eq!(client.ask(line).0, 250);
        assert_eq!(client.ask("RCPT TO:<support@example.com>").0, 250);
        client.send("BDAT 2 LAST\r\n\r\n");
        assert_eq!(client.reply().0, 250);
        assert_eq!(webhook.wait_for(sent + 1)[sent].json["sender"], "");
    }
    // A forward-path is never empty.
    assert_eq!(client.ask("MAIL FROM:<>").0, 250);
    assert_eq!(client.ask("RCPT TO:<>").0, 501);
}
