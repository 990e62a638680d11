//! Dots at the start of a line.

use crate::harness::{Daemon, Webhook};

#[test]
fn stuffed_dots_are_taken_out_and_others_are_kept() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let (code, _) = daemon.client().mail("support@example.com", "\r\n..\r\n...two\r\n.one\r\na.b.\r\n");
    assert_eq!(code, 250);
    assert_eq!(webhook.wait_for(1)[0].json["body"], ".\r\n..two\r\none\r\na.b.\r\n");
}
