//! Attacks on the daemon, each with the name that it goes by. Whatever comes in, mail of others flows,
//! `/health` answers, memory is bounded, and nothing happens that nobody asked for.

mod commands;
mod connections;
mod floods;
mod hoarding;
mod html;
mod idle;
mod injection;
mod lines;
mod mime;
mod slow;
mod smuggling;
mod webhook;

use std::time::{Duration, Instant};

use crate::harness::{Daemon, PATIENCE, eventually};

/// Sends a hostile mail while others send theirs and a probe asks for `/health`; returns the reply to
/// it. Nobody waits longer than a mail may take on a busy machine.
fn survive(daemon: &Daemon, name: &str, content: &[u8]) -> (u16, String) {
    survive_beside(&[250], daemon, name, content)
}

/// The same where mail of others gets one of these replies meanwhile.
fn survive_beside(others: &[u16], daemon: &Daemon, name: &str, content: &[u8]) -> (u16, String) {
    let begun = Instant::now();
    let reply = std::thread::scope(|scope| {
        let hostile = scope.spawn(|| {
            let mut client = daemon.client();
            client.begin_mail("support@example.com");
            client.send(content);
            client.send("\r\n.\r\n");
            client.reply()
        });
        let mut other = daemon.client();
        loop {
            let ended = hostile.is_finished();
            assert!(daemon.is_healthy(), "{name}: /health does not answer in time");
            let (code, text) = other.mail("support@example.com", "Subject: other\r\n\r\n");
            assert!(others.contains(&code), "{name}: another mail got {text}");
            if ended {
                break hostile.join().expect("the hostile client");
            }
            // The machine is to be busy with the hostile mail, and not with these.
            std::thread::sleep(PACE);
        }
    });
    println!("{name}: {} after {:?}", reply.0, begun.elapsed());
    assert!(begun.elapsed() < PATIENCE, "{name}: {:?}", begun.elapsed());
    reply
}

/// Waits until so many mails were accepted and each of them has come to its end.
fn settle(daemon: &Daemon, accepted: usize) {
    daemon.wait_for_log("mail accepted", accepted);
    eventually("every mail comes to its end", || {
        let ends = ["mail delivered", "mail dropped", "delivery failed"];
        let ended: usize = ends.iter().map(|end| daemon.logged(end).len()).sum();
        (ended >= daemon.logged("mail accepted").len()).then_some(())
    });
}

/// How often others send a mail.
const PACE: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
const MEBIBYTE: u64 = 1024 * 1024;
