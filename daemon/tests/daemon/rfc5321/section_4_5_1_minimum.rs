//! The postmaster.

use crate::harness::{Daemon, Webhook};

#[test]
fn the_postmaster_of_a_served_domain_gets_its_mail() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    assert_eq!(client.ask("MAIL FROM:<>").0, 250);
    assert_eq!(client.ask("RCPT TO:<PostMaster>").0, 250);
    assert_eq!(client.ask("RCPT TO:<postmaster@EXAMPLE.com>").0, 250);
    assert_eq!(client.ask("RCPT TO:<postmaster@example.org>").0, 550);
    assert_eq!(client.ask("DATA").0, 354);
    client.send("\r\n.\r\n");
    assert_eq!(client.reply().0, 250);
    let recipients = &webhook.wait_for(1)[0].json["recipients"];
    assert_eq!(*recipients, serde_json::json!(["PostMaster", "postmaster@EXAMPLE.com"]));
}
