//! Mail that goes round in circles.

use crate::harness::{Daemon, Webhook};

#[test]
fn a_mail_that_has_passed_too_many_servers_is_refused() {
    let webhook = Webhook::start();
    let daemon = Daemon::start(&webhook, &[]);
    let mut client = daemon.client();
    let mail = |hops: usize| format!("{}\r\n", "Received: from a by b; now\r\n".repeat(hops));
    let (code, text) = client.mail("support@example.com", &mail(101));
    assert_eq!((code, text.contains("5.4.6")), (554, true), "{text}");
    assert_eq!(client.mail("support@example.com", &mail(100)).0, 250);
}
