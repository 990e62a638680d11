//! `spool`: what was answered with 250 is delivered, whatever happens in between.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Behaviour, Client, Daemon, Received, Webhook, command, eventually};

const TO: &str = "support@example.com";

/// A daemon with a spool in `directory`, which outlives it.
fn start(webhook: &Webhook, directory: &Path, variables: &[(&str, &str)]) -> Daemon {
    let base = [
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", directory.to_str().unwrap()),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ("MAIL_LASER_TLS", "off"),
    ];
    Daemon::start(webhook, &[&base[..], variables].concat())
}

fn send(daemon: &Daemon, subject: &str) -> (u16, String) {
    daemon.client().mail(TO, &format!("Subject: {subject}\r\n\r\nText of {subject}.\r\n"))
}

/// A webhook that answers with the status that is set.
fn switchable(status: u16) -> (Webhook, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let shown = Arc::clone(&status);
    (Webhook::behaving(move |_| Behaviour::status(shown.load(Ordering::Relaxed))), status)
}

fn metric(daemon: &Daemon, outcome: &str) -> Option<f64> {
    daemon.metric(&format!("mail_laser_messages_total{{route=\"default\",outcome=\"{outcome}\"}}"))
}

#[test]
fn a_mail_is_taken_and_delivered_once() {
    let (webhook, directory) = (Webhook::start(), tempfile::tempdir().unwrap());
    let mut daemon = start(&webhook, directory.path(), &[]);
    let (code, text) = send(&daemon, "one");
    assert_eq!(code, 250, "{text}");
    let received = webhook.wait_for(1);
    let id = received[0].json["id"].as_str().unwrap();
    assert!(text.contains(id), "{text}");
    assert_eq!(received[0].headers["idempotency-key"], id);
    assert_eq!(received[0].json["subject"], "one");
    eventually("it is counted", || (metric(&daemon, "forwarded") == Some(1.0)).then_some(()));
    eventually("nothing waits", || (daemon.metric("mail_laser_spool_messages") == Some(0.0)).then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end().success());
    let daemon = start(&webhook, directory.path(), &[]);
    assert_eq!(send(&daemon, "two").0, 250);
    let received = webhook.wait_for(2);
    assert_eq!(received[1].json["subject"], "two", "the first one is not delivered again");
}

#[test]
fn what_waits_outlives_the_process_byte_for_byte() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let variables =
        [("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1"), ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "3600")];
    let mut daemon = start(&webhook, directory.path(), &variables);
    let mut replies: Vec<String> = (0..20).map(|n| send(&daemon, &format!("mail {n}")).1).collect();
    assert!(replies.iter().all(|reply| reply.starts_with("250 ")), "{replies:?}");
    let first = webhook.wait_for(1)[0].clone();
    daemon.wait_for_log("circuit opened", 1);
    daemon.wait_for_log("mail deferred: the circuit is open", 1);
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    let seen = webhook.received().len();

    status.store(200, Ordering::Relaxed);
    // What the first process had no need to show is on disk as well.
    let daemon = start(
        &webhook,
        directory.path(),
        &[&variables[..], &[("MAIL_LASER_HEADER_PREFIX", "received")]].concat(),
    );
    replies.push(send(&daemon, "fresh").1);
    let received = eventually("all are delivered", || {
        // The one that was tried before is not due for a minute.
        Some(webhook.received()).filter(|received| received.len() >= seen + 20)
    });
    for reply in &replies[1..] {
        let count = received[seen..]
            .iter()
            .filter(|received| reply.contains(received.json["id"].as_str().unwrap()))
            .count();
        assert_eq!(count, 1, "{reply}");
    }
    for received in &received[seen..] {
        let (id, trace) = (received.json["id"].as_str().unwrap(), &received.json["headers"]["Received"]);
        assert!(trace.as_str().is_some_and(|trace| trace.contains(&format!(" id {id}; "))), "{trace}");
    }
    drop(first);
}

#[test]
fn what_the_webhook_never_takes_becomes_a_dead_letter() {
    let (webhook, directory) = (Webhook::behaving(|_| Behaviour::status(422)), tempfile::tempdir().unwrap());
    let daemon = start(&webhook, directory.path(), &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "3")]);
    assert_eq!(send(&daemon, "never").0, 250);
    eventually("it is a dead letter", || (metric(&daemon, "dead_lettered") == Some(1.0)).then_some(()));
    assert_eq!(webhook.received().len(), 1, "it is not tried again");
    assert_eq!(daemon.metric("mail_laser_dead_letters{route=\"default\"}"), Some(1.0));
    drop(daemon);
    let daemon = start(&webhook, directory.path(), &[]);
    eventually("it is still there", || {
        (daemon.metric("mail_laser_dead_letters{route=\"default\"}") == Some(1.0)).then_some(())
    });
    eventually("nothing waits", || (daemon.metric("mail_laser_spool_messages") == Some(0.0)).then_some(()));
    assert_eq!(webhook.received().len(), 1, "it is not tried again");
}

#[test]
fn retry_after_is_the_time_of_the_next_delivery() {
    let webhook = Webhook::behaving(|request| Behaviour {
        headers: vec![("retry-after", "1".to_owned())],
        ..Behaviour::status(if request == 0 { 429 } else { 200 })
    });
    let directory = tempfile::tempdir().unwrap();
    let daemon = start(&webhook, directory.path(), &[("MAIL_LASER_WEBHOOK_MAX_RETRIES", "3")]);
    assert_eq!(send(&daemon, "later").0, 250);
    let received = webhook.wait_for(2);
    let waited = received[1].at - received[0].at;
    assert!(waited >= std::time::Duration::from_secs(1), "{waited:?}");
    assert_eq!(received[0].json, received[1].json);
    assert_eq!(daemon.wait_for_log("mail deferred", 1).len(), 1);
}

#[test]
fn a_full_spool_says_so() {
    let (webhook, directory) = (Webhook::behaving(|_| Behaviour::hang()), tempfile::tempdir().unwrap());
    let variables = [("MAIL_LASER_MAX_MESSAGE_SIZE", "400000"), ("MAIL_LASER_SPOOL_MAX_BYTES", "1448576")];
    let daemon = start(&webhook, directory.path(), &variables);
    let content = format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(68)).repeat(5_000));
    let replies: Vec<(u16, String)> = (0..6).map(|_| daemon.client().mail(TO, &content)).collect();
    let taken = replies.iter().filter(|(code, _)| *code == 250).count();
    assert!((3..=4).contains(&taken), "{replies:?}");
    for (_, text) in &replies[taken..] {
        assert!(text.starts_with("452 4.3.1 "), "{text}");
    }
    assert_eq!(daemon.metric("mail_laser_spool_refused_total"), Some((replies.len() - taken) as f64));
}

/// Runs `mail-laser spool` and returns its exit code and what it prints.
fn spool(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = command(directory, &[("MAIL_LASER_SPOOL_DIR", directory.to_str().unwrap())]);
    let output = command.arg("spool").args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

fn listed(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let (code, text) = spool(directory, &[&["list", "--json"], arguments].concat());
    assert_eq!(code, Some(0), "{text}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn mails_that_wait_are_listed_shown_retried_and_discarded() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let daemon = start(&webhook, directory, &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1000")]);
    for n in 0..3 {
        assert_eq!(send(&daemon, &format!("mail {n}")).0, 250);
    }
    daemon.wait_for_log("mail deferred", 3);
    let mails = eventually("their failures are written", || {
        Some(listed(directory, &[])).filter(|mails| mails.iter().all(|mail| mail["failures"] == 1))
    });
    assert_eq!(mails.len(), 3);
    for mail in &mails {
        assert_eq!((&mail["state"], &mail["destination"]), (&json!("waiting"), &json!("default")));
        assert_eq!((&mail["recipients"], &mail["sender"]), (&json!([TO]), &json!("sender@example.org")));
        assert_eq!(mail["reason"], "the webhook answered 503");
    }
    let id = |n: usize| mails[n]["id"].as_str().unwrap();
    assert_eq!(listed(directory, &[id(1)]).len(), 1);
    assert_eq!(listed(directory, &["--dead"]).len(), 0);
    assert_eq!(listed(directory, &["--older-than", "1h"]).len(), 0);
    assert_eq!(listed(directory, &["--reason", "ANSWERED 503", "--limit", "2"]).len(), 2);
    assert_eq!(listed(directory, &["--destination", "other"]).len(), 0);

    let (code, text) = spool(directory, &["show", id(0)]);
    assert_eq!(code, Some(0));
    let shown: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(shown["history"][0]["reason"], "the webhook answered 503");
    let (_, content) = spool(directory, &["show", "--content", id(0)]);
    assert_eq!(content, "Subject: mail 0\r\n\r\nText of mail 0.\r\n");
    let (code, text) = spool(directory, &["show", "nothing"]);
    assert!(code == Some(1) && text.contains("not in the spool: nothing"), "{text}");

    let (code, text) = spool(directory, &["discard"]);
    assert!(code == Some(1) && text.contains("say which mails"), "{text}");
    assert_eq!(spool(directory, &["discard", id(0)]), (Some(0), "1 mails are discarded\n".to_owned()));
    assert_eq!(daemon.wait_for_log("mail discarded by hand", 1)[0]["id"], id(0));
    status.store(200, Ordering::Relaxed);
    let seen = webhook.received().len();
    let (code, text) = spool(directory, &["retry", "--all"]);
    assert_eq!((code, text.as_str()), (Some(0), "2 mails are on their way again\n"));
    let received = webhook.wait_for(seen + 2);
    let mut subjects: Vec<&str> =
        received[seen..].iter().map(|received| received.json["subject"].as_str().unwrap()).collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["mail 1", "mail 2"]);
    eventually("nothing is left", || listed(directory, &[]).is_empty().then_some(()));
}

#[test]
fn dead_letters_are_listed_replayed_and_discarded() {
    let (webhook, status) = switchable(422);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut daemon = start(&webhook, directory, &[]);
    for n in 0..3 {
        assert_eq!(send(&daemon, &format!("mail {n}")).0, 250);
    }
    let dead = eventually("they are dead letters", || {
        Some(listed(directory, &["--dead"])).filter(|mails| mails.len() == 3)
    });
    assert!(dead.iter().all(|mail| mail["reason"] == "the webhook answered 422"), "{dead:?}");
    // Each was a dead letter for good before it ceased to wait.
    eventually("none waits", || listed(directory, &["--waiting"]).is_empty().then_some(()));
    let id = |n: usize| dead[n]["id"].as_str().unwrap();
    assert_eq!(spool(directory, &["discard", "--dead", id(0)]).0, Some(0));
    assert_eq!(daemon.wait_for_log("mail discarded by hand", 1)[0]["id"], id(0));

    status.store(200, Ordering::Relaxed);
    let seen = webhook.received().len();
    assert_eq!(spool(directory, &["retry", "--reason", "422"]).1, "2 mails are on their way again\n");
    let received = webhook.wait_for(seen + 2);
    for again in &received[seen..] {
        let before = received[..seen].iter().find(|before| before.json["id"] == again.json["id"]).unwrap();
        assert_eq!(before.json, again.json, "the same bytes");
    }
    eventually("nothing is left", || listed(directory, &[]).is_empty().then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end().success());
    assert!(listed(directory, &[]).is_empty());
    let (code, text) = spool(directory, &["retry", "--all"]);
    assert!(code == Some(1) && text.contains("no daemon answers"), "{text}");
}

#[test]
fn a_drain_delivers_what_waits_and_tells_what_is_left() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = start(&webhook, directory.path(), &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1")]);
    for n in 0..10 {
        assert_eq!(send(&daemon, &format!("mail {n}")).0, 250);
    }
    daemon.wait_for_log("circuit opened", 1);
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end().success());
    let drain = || {
        let variables = [
            ("MAIL_LASER_TARGET_EMAILS", TO),
            ("MAIL_LASER_WEBHOOK_URL", &webhook.url()),
            ("MAIL_LASER_DELIVERY", "spool"),
            ("MAIL_LASER_SPOOL_DIR", "/proc/nothing"),
            ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ];
        let mut command = command(directory.path(), &variables);
        // The option wins over the variable.
        command
            .args(["spool", "drain", "--dir"])
            .arg(directory.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let ended = |child: Child| {
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // One was tried before and is not due for a minute.
    let first = listed(directory.path(), &["--reason", "503"]);
    assert_eq!(first.len(), 1);
    status.store(422, Ordering::Relaxed);
    let mut child = drain();
    eventually("the others are dead letters", || {
        (listed(directory.path(), &["--dead"]).len() == 9).then_some(())
    });
    assert!(child.try_wait().unwrap().is_none(), "it waits for the last one");
    let id = first[0]["id"].as_str().unwrap();
    assert_eq!(spool(directory.path(), &["discard", id]).0, Some(0));
    let (code, text) = ended(child);
    assert_eq!(code, Some(3), "{text}");
    assert!(text.contains("9 dead letters are left in the spool"), "{text}");

    assert_eq!(ended(drain()).0, Some(3));
    let daemon = start(&webhook, directory.path(), &[]);
    status.store(200, Ordering::Relaxed);
    eventually("they are replayed", || {
        (spool(directory.path(), &["retry", "--all"]).1 == "9 mails are on their way again\n").then_some(())
    });
    eventually("they are delivered", || listed(directory.path(), &[]).is_empty().then_some(()));
    drop(daemon);
    let (code, text) = ended(drain());
    assert_eq!(code, Some(0), "{text}");
}

/// A daemon that has these mails in its spool, killed before it could deliver any; the ids.
fn left_behind(webhook: &Webhook, directory: &Path, mails: usize) -> Vec<String> {
    let mut daemon = start(webhook, directory, &[("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1")]);
    // It opens the circuit, and is not due for a minute.
    assert_eq!(send(&daemon, "first").0, 250);
    daemon.wait_for_log("circuit opened", 1);
    let replies = (0..mails).map(|n| send(&daemon, &format!("mail {n}")).1);
    let ids = replies.map(|text| text.trim().rsplit(' ').next().unwrap().to_owned()).collect();
    daemon.signal(Signal::KILL);
    daemon.wait_for_end();
    ids
}

#[test]
fn a_damaged_entry_costs_itself_alone() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let ids = left_behind(&webhook, directory.path(), 5);
    let segment = directory.path().join("0000000000000001.mails");
    let mut bytes = std::fs::read(&segment).unwrap();
    for damaged in ["Text of mail 1.".to_owned(), format!("\"id\":\"{}", ids[3])] {
        let at = bytes.windows(damaged.len()).position(|part| part == damaged.as_bytes()).unwrap();
        bytes[at + 8] ^= 1;
    }
    std::fs::write(&segment, bytes).unwrap();

    status.store(200, Ordering::Relaxed);
    let seen = webhook.received().len();
    let daemon = start(&webhook, directory.path(), &[]);
    let received = webhook.wait_for(seen + 3);
    let mut delivered: Vec<&str> = received[seen..].iter().map(|r| r.json["id"].as_str().unwrap()).collect();
    delivered.sort_unstable();
    assert_eq!(delivered, [&ids[0], &ids[2], &ids[4]]);
    daemon.wait_for_log("a segment is damaged", 1);
    // Nothing but its checksum says that the content is wrong: it is kept for a person to look at.
    let dead = eventually("the damaged content is a dead letter", || {
        Some(listed(directory.path(), &["--dead"])).filter(|dead| !dead.is_empty())
    });
    assert_eq!((&dead[0]["id"], dead.len()), (&json!(ids[1]), 1));
    assert!(dead[0]["reason"].as_str().unwrap().contains("damaged on disk"), "{dead:?}");
    let (_, content) = spool(directory.path(), &["show", "--content", &ids[1]]);
    assert!(content.contains("Subject: mail 1\r\n"), "{content}");
    // Its content is not what was received, so nobody delivers it by accident.
    let (code, text) = spool(directory.path(), &["retry", &ids[1]]);
    assert!(code == Some(0) && text.starts_with("0 mails") && text.contains("--force"), "{text}");
    // The other was answered with 250 and cannot be read: its segment is there for a person to look at.
    assert_eq!(spool(directory.path(), &["retry", "--waiting"]).0, Some(0));
    daemon.wait_for_log("a damaged segment was set aside", 1);
    let aside = directory.path().join("0000000000000001.damaged");
    let kept = std::fs::read(&aside).unwrap();
    assert!(kept.windows(14).any(|part| part == b"Text of mail 3"));
    eventually("the metric shows it", || {
        (daemon.metric("mail_laser_spool_damaged_segments") == Some(1.0)).then_some(())
    });
    let before = webhook.received().len();
    assert_eq!(spool(directory.path(), &["retry", "--force", &ids[1]]).0, Some(0));
    webhook.wait_for(before + 1);
}

#[test]
fn a_segment_that_is_torn_at_its_end_is_not_damaged() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let ids = left_behind(&webhook, directory.path(), 2);
    let segment = directory.path().join("0000000000000001.mails");
    // What a loss of power leaves of an entry that was never acknowledged.
    let mut bytes = std::fs::read(&segment).unwrap();
    let torn: Vec<u8> = bytes[28..28 + 20].to_vec();
    bytes.extend(torn);
    std::fs::write(&segment, bytes).unwrap();
    status.store(200, Ordering::Relaxed);
    let seen = webhook.received().len();
    let mut daemon = start(&webhook, directory.path(), &[]);
    webhook.wait_for(seen + ids.len());
    assert_eq!(spool(directory.path(), &["retry", "--all"]).0, Some(0));
    eventually("the segment is gone", || (!segment.exists()).then_some(()));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait_for_end().success());
    assert!(!daemon.log_text().contains("damaged"), "{}", daemon.log_text());
}

#[test]
fn a_segment_with_a_damaged_header_is_read_all_the_same() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    left_behind(&webhook, directory.path(), 2);
    let segment = directory.path().join("0000000000000001.mails");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[..28].fill(0);
    std::fs::write(&segment, bytes).unwrap();
    status.store(200, Ordering::Relaxed);
    let seen = webhook.received().len();
    let _daemon = start(&webhook, directory.path(), &[]);
    webhook.wait_for(seen + 2);
}

#[test]
fn a_full_disk_refuses_mail_and_goes_on_once_there_is_room() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let variables = [
        ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1"),
        ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "1"),
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", directory.path().to_str().unwrap()),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "100000"),
        ("MAIL_LASER_SPOOL_MAX_BYTES", "1200000"),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ("MAIL_LASER_TLS", "off"),
    ];
    // A disk of its own that is smaller than the spool may become.
    let mount = format!("mount -t tmpfs -o size=1m spool {} && exec \"$0\"", directory.path().display());
    let daemon = Daemon::under(
        &["unshare", "--map-root-user", "--mount", "sh", "-c", &mount],
        &webhook.url(),
        &variables,
    );
    let content = format!("Subject: large\r\n\r\n{}", format!("{}\r\n", "x".repeat(68)).repeat(1_000));
    let mut taken = 0;
    let refused = eventually("the disk is full", || {
        let (code, text) = daemon.client().mail(TO, &content);
        taken += usize::from(code == 250);
        (code != 250).then_some(text)
    });
    assert!(refused.starts_with("452 4.3.1 ") && taken > 5, "{taken}: {refused}");
    assert!(daemon.client().mail(TO, &content).1.starts_with("452 4.3.1 "));

    status.store(200, Ordering::Relaxed);
    eventually("what waited is delivered", || {
        // Those that were tried are not due for a minute.
        spool(&daemon.path(directory.path()), &["retry", "--all"]);
        (metric(&daemon, "forwarded") >= Some(f64::from(u32::try_from(taken).unwrap()))).then_some(())
    });
    eventually("there is room again", || (daemon.client().mail(TO, &content).0 == 250).then_some(()));
}

/// A disk that the kernel found broken is read-only from then on, whatever is open on it.
#[test]
fn a_disk_that_turns_read_only_refuses_mail_and_loses_none() {
    let (webhook, status) = switchable(503);
    let directory = tempfile::tempdir().unwrap();
    let (image, spool_directory) = (directory.path().join("image"), directory.path().join("spool"));
    std::fs::create_dir(&spool_directory).unwrap();
    std::fs::File::create(&image).unwrap().set_len(16 << 20).unwrap();
    run("mkfs.ext4", &["-q", image.to_str().unwrap()]);
    let variables = [
        ("MAIL_LASER_CIRCUIT_BREAKER_THRESHOLD", "1"),
        ("MAIL_LASER_CIRCUIT_BREAKER_RESET", "1"),
        ("MAIL_LASER_DELIVERY", "spool"),
        ("MAIL_LASER_SPOOL_DIR", spool_directory.to_str().unwrap()),
        ("MAIL_LASER_SPOOL_MAX_BYTES", "4000000"),
        ("MAIL_LASER_MAX_MESSAGE_SIZE", "100000"),
        ("MAIL_LASER_WEBHOOK_MAX_RETRIES", "0"),
        ("MAIL_LASER_TLS", "off"),
    ];
    let mount = format!(
        "mount -o loop,errors=remount-ro {} {} && exec \"$0\"",
        image.display(),
        spool_directory.display()
    );
    let on_disk = ["unshare", "--mount", "sh", "-c", &mount];
    let daemon = Daemon::under(&on_disk, &webhook.url(), &variables);
    for subject in ["first", "second"] {
        assert_eq!(send(&daemon, subject).0, 250);
    }
    // The second is the circuit's probe: nothing is under way any more.
    daemon.wait_for_log("mail deferred: it is tried again later", 2);

    let device =
        run("losetup", &["--noheadings", "--output", "NAME", "--associated", image.to_str().unwrap()]);
    let name = device.trim().trim_start_matches("/dev/");
    std::fs::write(format!("/sys/fs/ext4/{name}/trigger_fs_error"), "a disk that fails").unwrap();
    let refused = eventually("a refusal", || {
        let (code, text) = send(&daemon, "third");
        (code != 250).then_some(text)
    });
    assert!(refused.starts_with("451 4.3.0 "), "{refused}");
    assert!(daemon.is_healthy());
    status.store(200, Ordering::Relaxed);
    let seen = daemon.path(&spool_directory);
    assert_eq!(spool(&seen, &["retry", "--all"]).1, "2 mails are on their way again\n");
    eventually("both are delivered", || (metric(&daemon, "forwarded") == Some(2.0)).then_some(()));
    drop(daemon);

    // That could not be noted: both come again, each under its id.
    run("e2fsck", &["-p", image.to_str().unwrap()]);
    let daemon = Daemon::under(&on_disk, &webhook.url(), &variables);
    eventually("both come again", || {
        spool(&daemon.path(&spool_directory), &["retry", "--all"]);
        (metric(&daemon, "forwarded") == Some(2.0)).then_some(())
    });
    let received = webhook.received();
    let keys: BTreeSet<&String> = received.iter().map(|it| &it.headers["idempotency-key"]).collect();
    assert_eq!(keys.len(), 2);
}

/// What a program prints; it must succeed, or be content with what it repaired.
fn run(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap());
    let output = std::process::Command::new(program).args(arguments).env("PATH", path).output().unwrap();
    let repaired = program == "e2fsck" && output.status.code() == Some(1);
    assert!(output.status.success() || repaired, "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn large_mails_that_come_in_slowly_wait_on_disk() {
    const MAILS: usize = 8;
    let (webhook, directory) = (Webhook::start(), tempfile::tempdir().unwrap());
    let daemon = start(&webhook, directory.path(), &[]);
    let idle = daemon.resident_bytes();
    let chunk = format!("{}\r\n", "x".repeat(998)).repeat(1_000);
    let mut clients: Vec<Client> = (0..MAILS).map(|_| daemon.client()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("MAIL FROM:<a@example.org>").0, 250);
        assert_eq!(client.ask(&format!("RCPT TO:<{TO}>")).0, 250);
        assert_eq!(client.ask("DATA").0, 354);
        client.send("Subject: large\r\n\r\n");
        (0..8).for_each(|_| client.send(&chunk));
    }
    let incoming = || {
        let files = std::fs::read_dir(directory.path()).unwrap().map(|file| file.unwrap());
        let incoming = files.filter(|file| file.file_name().to_string_lossy().starts_with("incoming-"));
        // One may have gone since it was listed.
        incoming.filter_map(|file| Some(file.metadata().ok()?.len())).collect::<Vec<u64>>()
    };
    eventually("they are on disk", || {
        (incoming().iter().filter(|bytes| **bytes > 7_000_000).count() == MAILS).then_some(())
    });
    // 64 MB came in. Of each mail the first MiB is in memory before its file is begun, twice while its buffer
    // grows, and the allocator gives back later.
    let grown = daemon.peak_bytes() - idle;
    assert!(grown < 32_000_000, "{grown} bytes were held");
    drop(clients.pop());
    eventually("one that does not come to its end goes", || (incoming().len() == MAILS - 1).then_some(()));
    for client in &mut clients {
        let (code, text) = client.ask(".");
        assert_eq!(code, 250, "{text}");
    }
    let received = webhook.wait_for(MAILS - 1);
    for mail in &received {
        assert_eq!(mail.json["size_bytes"], 8_000_018);
        assert_eq!(mail.json["body"].as_str().unwrap().len(), 8_000_000);
    }
    assert!(incoming().is_empty());
}

#[test]
fn space_of_delivered_mails_is_given_back() {
    const MAILS: usize = 64;
    // One of sixteen is not taken at first, and waits for a minute in a segment of mails that are gone.
    let refused = |request: usize| request < MAILS && request.is_multiple_of(16);
    let webhook =
        Webhook::behaving(move |request| Behaviour::status(if refused(request) { 503 } else { 200 }));
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let variables = [("MAIL_LASER_MAX_MESSAGE_SIZE", "400000"), ("MAIL_LASER_SPOOL_MAX_BYTES", "2000000")];
    let daemon = start(&webhook, directory, &variables);
    let text = format!("{}\r\n", "x".repeat(68)).repeat(150);
    for n in 0..MAILS {
        assert_eq!(daemon.client().mail(TO, &format!("Subject: {n}\r\n\r\n{text}")).0, 250);
        webhook.wait_for(n + 1);
    }
    let on_disk = || {
        let files = std::fs::read_dir(directory).unwrap().map(|file| file.unwrap());
        let mails = files.filter(|file| file.file_name().to_string_lossy().ends_with(".mails"));
        mails.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>()
    };
    daemon.wait_for_log("a segment was compacted", 1);
    eventually("hardly more than what waits is left", || (on_disk() < 200_000).then_some(()));
    let (_, told) = spool(directory, &["retry", "--all"]);
    assert_eq!(told, "4 mails are on their way again\n");
    let received = webhook.wait_for(MAILS + 4);
    for n in [0, 16, 32, 48] {
        let same = |again: &Received| again.json == received[n].json;
        assert_eq!(
            received[MAILS..].iter().filter(|again| same(again)).count(),
            1,
            "mail {n}, the same bytes"
        );
    }
}

/// What the daemon says on its way out with a spool there that it cannot use.
fn refused(spool: &Path) -> String {
    let (webhook, empty) = (Webhook::start(), tempfile::tempdir().unwrap());
    let mut daemon = command(
        empty.path(),
        &[
            ("MAIL_LASER_TARGET_EMAILS", TO),
            ("MAIL_LASER_WEBHOOK_URL", &webhook.url()),
            ("MAIL_LASER_DELIVERY", "spool"),
            ("MAIL_LASER_SPOOL_DIR", spool.to_str().unwrap()),
            ("MAIL_LASER_PORT", "0"),
            ("MAIL_LASER_HEALTH_PORT", "0"),
            ("MAIL_LASER_METRICS_PORT", "0"),
        ],
    );
    let output = daemon.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let text = refused(Path::new("/proc/nothing"));
    assert!(text.contains("/proc/nothing") && text.contains("MAIL_LASER_SPOOL_DIR"), "{text}");
}

#[test]
fn a_spool_has_one_writer() {
    let (webhook, directory) = (Webhook::start(), tempfile::tempdir().unwrap());
    let daemon = start(&webhook, directory.path(), &[]);
    assert_eq!(send(&daemon, "it has the spool").0, 250);
    let text = refused(directory.path());
    assert!(text.contains("is used by another process"), "{text}");
}
