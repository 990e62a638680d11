//! The writer on disks that fail and lose power.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::super::clock::Clock;
use super::super::dead::DeadLetters;
use super::super::dead::keeper::{Acted, DeadAction, DeadJob, DeadLetterRequest, Keeper, Wish};
use super::super::entry::{Death, Head};
use super::super::faulty::{Fault, FaultyDisk};
use super::super::lane::Pair;
use super::super::segment::{FileKind, Location, load, mails_file};
use super::super::selector::Selector;
use super::super::store::Limits;
use super::super::survey;
use super::*;

const LIMITS: Limits = Limits { total_bytes: 100_000, segment_bytes: 2_000, outcome_bytes: 0 };

/// A writer, and the disks that it writes to.
struct Bench {
    disk: FaultyDisk,
    dead: FaultyDisk,
    failing: Arc<AtomicU8>,
    jobs: Jobs<()>,
    dead_jobs: mpsc::Sender<DeadJob>,
    draining: CancellationToken,
    said: tokio::sync::mpsc::UnboundedReceiver<Said<()>>,
    threads: [JoinHandle<()>; 2],
}

impl Bench {
    fn new() -> Self {
        Self::on(FaultyDisk::default(), FaultyDisk::default())
    }

    fn on(disk: FaultyDisk, dead: FaultyDisk) -> Self {
        Self::asked(disk, dead, |_| {})
    }

    /// One that finds something to do when it starts.
    fn asked(disk: FaultyDisk, dead: FaultyDisk, ask: impl FnOnce(&Jobs<()>)) -> Self {
        let failing = Arc::new(AtomicU8::new(0));
        for (disk, which) in [(&disk, 1), (&dead, 2)] {
            let failing = Arc::clone(&failing);
            disk.fail(Box::new(move || match failing.load(Ordering::SeqCst) {
                now if now == which => Some(Fault::Error),
                3 => Some(Fault::Full),
                _ => None,
            }));
        }
        let (jobs, asked) = mpsc::channel();
        ask(&jobs);
        let (says, said) = tokio::sync::mpsc::unbounded_channel();
        let (dead_jobs, dead_asked) = mpsc::channel();
        let store = Store::open(disk.clone(), LIMITS).unwrap();
        let dead_store = Store::open(dead.clone(), LIMITS).unwrap();
        let metrics = SpoolMetrics::default();
        let dead_metrics = metrics.clone();
        let kept = move || DeadLetters::new(dead_store, Duration::from_secs(60), dead_metrics);
        let weak_says = says.downgrade();
        let writer = Writer::spawn(store, (jobs.clone(), asked), says, metrics).unwrap();
        let (of_writer, draining) = ((jobs.clone(), weak_says), CancellationToken::new());
        let (of_spool, stop) = (disk.clone(), draining.clone());
        let keeper = Keeper::spawn(
            of_spool,
            kept,
            dead_asked,
            of_writer,
            Clock::new(),
            stop,
            CancellationToken::new(),
        )
        .unwrap();
        Self { disk, dead, failing, jobs, dead_jobs, draining, said, threads: [keeper, writer] }
    }

    /// What fails from now on: 0 nothing, 1 the spool, 2 the dead letters, 3 both are full.
    fn fail(&self, which: u8) {
        self.failing.store(which, Ordering::SeqCst);
    }

    fn append(&mut self, id: &str, content: &str) -> Result<Location, AppendError> {
        let (reply, told) = oneshot::channel();
        let entry = Entry::new(&Head::example(id), content.as_bytes().to_vec()).unwrap();
        let append = Append { entry, routes: vec!["default".to_owned()], rest: (), since_ms: 1, reply };
        self.jobs.send(Job::Append(Box::new(append))).unwrap();
        told.blocking_recv().unwrap()?;
        match self.said.blocking_recv().unwrap() {
            Said::Spooled(spooled) => {
                assert_eq!(spooled[0].mail.as_ref().unwrap().0, content.as_bytes());
                Ok(spooled[0].at)
            }
            other => panic!("{other:?}"),
        }
    }

    fn dead_letter(&mut self, at: Location) -> Vec<(Pair, DeadLettered)> {
        self.dead_jobs.send(DeadJob::Keep(at.segment, vec![request(at)])).unwrap();
        self.dead_lettered()
    }

    fn dead_lettered(&mut self) -> Vec<(Pair, DeadLettered)> {
        match self.said.blocking_recv().unwrap() {
            Said::DeadLettered(results) => results,
            other => panic!("{other:?}"),
        }
    }

    /// The copies, and whether the segment has gone.
    fn compact(&mut self, segment: SegmentId) -> (Vec<Spooled<()>>, bool) {
        self.jobs.send(Job::Compact { segment, jobs: self.jobs.clone() }).unwrap();
        let mut all = Vec::new();
        loop {
            match self.said.blocking_recv().unwrap() {
                Said::Copied(copies) => all.extend(copies),
                Said::Compacted { segment: compacted, mails, gone } => {
                    assert_eq!((compacted, mails), (segment, all.len()));
                    return (all, gone);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    /// The disks as they are after a loss of power, now.
    fn after_power_loss(self) -> (FaultyDisk, FaultyDisk) {
        let (disk, dead) = (self.disk.clone(), self.dead.clone());
        let disks = (disk.after_power_loss(|_| 0), dead.after_power_loss(|_| 0));
        self.end();
        disks
    }

    /// The same, after an end in peace.
    fn after_end(self) -> (FaultyDisk, FaultyDisk) {
        let (disk, dead) = (self.disk.clone(), self.dead.clone());
        self.end();
        (disk.after_power_loss(|_| 0), dead.after_power_loss(|_| 0))
    }

    fn end(self) {
        let [keeper, writer] = self.threads;
        self.dead_jobs.send(DeadJob::Stop).unwrap();
        keeper.join().unwrap();
        self.jobs.send(Job::Stop).unwrap();
        writer.join().unwrap();
    }
}

fn request(at: Location) -> DeadLetterRequest {
    let death = Death { at_ms: 5, reason: "refused".to_owned(), is_damaged: false };
    DeadLetterRequest { pair: pair(at), death, last: Some(failure(3)) }
}

fn pair(mail: Location) -> Pair {
    Pair { mail, destination: 0 }
}

fn failure(failures: u32) -> Progress {
    Progress { failures, due_ms: 10, at_ms: u64::from(failures), reason: format!("failure {failures}") }
}

fn waiting(disk: &FaultyDisk) -> Vec<Head> {
    let mut heads = Vec::new();
    survey::visit(disk, |_, found| {
        heads.push(found.head);
        ControlFlow::Continue(())
    })
    .unwrap();
    heads
}

fn ids(disk: &FaultyDisk) -> Vec<String> {
    waiting(disk).into_iter().map(|head| head.id).collect()
}

#[test]
fn what_is_acknowledged_survives_a_loss_of_power_and_a_failed_sync() {
    let mut bench = Bench::new();
    let before = bench.append("before", "x").unwrap();
    bench.fail(1);
    assert!(matches!(bench.append("lost", "x"), Err(AppendError::Failed(_))));
    bench.fail(3);
    assert_eq!(bench.append("refused", "x"), Err(AppendError::Full));
    bench.fail(0);
    let after = bench.append("after", "x").unwrap();
    assert!(after.segment > before.segment, "a file whose sync failed is not trusted again");
    assert_eq!(ids(&bench.after_power_loss().0), ["before", "after"]);
}

#[test]
fn a_dead_letter_keeps_the_mail_and_its_history() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.jobs.send(Job::Note(pair(at), Outcome::Deferred(failure(1)))).unwrap();
    bench.jobs.send(Job::Note(pair(at), Outcome::Deferred(failure(2)))).unwrap();
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Kept)]);
    let (disk, dead) = bench.after_end();
    assert!(ids(&disk).is_empty());
    let [letter] = &waiting(&dead)[..] else { panic!("not one dead letter") };
    let death = Death { at_ms: 5, reason: "refused".to_owned(), is_damaged: false };
    assert_eq!(letter.death, Some(death));
    assert_eq!(letter.destinations[0].progress, failure(3));
    assert_eq!(letter.destinations[0].history, [Progress { due_ms: 0, ..failure(1) }, failure(2)]);
    let segment = survey::segments(&dead).unwrap()[0];
    assert_eq!(load(&dead, Location { segment, offset: 28 }).unwrap().content, b"content");
}

#[test]
fn a_mail_that_cannot_be_made_a_dead_letter_waits_on() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.fail(2);
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Failed)]);
    bench.fail(0);
    assert_eq!(ids(&bench.disk), ["one"]);
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Kept)]);
    bench.end();
}

#[test]
fn the_oldest_dead_letters_make_room_for_new_ones() {
    let mut bench = Bench::new();
    let large = "x".repeat(30_000);
    for id in ["one", "two", "three", "four", "five"] {
        let at = bench.append(id, &large).unwrap();
        assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Kept)]);
        bench.jobs.send(Job::Retire { segment: at.segment, end: None }).unwrap();
        assert!(matches!(bench.said.blocking_recv().unwrap(), Said::Retired(_, true)));
    }
    assert_eq!(ids(&bench.dead), ["three", "four", "five"]);
    bench.end();
}

#[test]
fn dead_letters_are_replayed_or_discarded_by_hand() {
    let mut bench = Bench::new();
    for id in ["one", "two", "three"] {
        let at = bench.append(id, "content").unwrap();
        bench.dead_letter(at);
    }
    let mut act = |wish, ids: &[&str]| {
        let (reply, told) = oneshot::channel();
        let ids = ids.iter().map(|&id| id.to_owned()).collect();
        let selector = Selector { ids, ..Selector::default() };
        bench.dead_jobs.send(DeadJob::Act(DeadAction { selector, wish, reply })).unwrap();
        let count = told.blocking_recv().unwrap().map(|acted| acted.done);
        match bench.said.try_recv() {
            Ok(Said::Spooled(spooled)) => (count, spooled.len()),
            Ok(other) => panic!("{other:?}"),
            Err(_) => (count, 0),
        }
    };
    assert_eq!(act(Wish::Discard, &["one"]), (Ok(1), 0));
    assert_eq!(act(Wish::Retry, &["two"]), (Ok(1), 1));
    assert_eq!(act(Wish::Retry, &["two"]), (Ok(0), 0));
    let (disk, dead) = bench.after_end();
    assert_eq!(ids(&dead), ["three"]);
    let [replayed] = &waiting(&disk)[..] else { panic!("not one mail") };
    assert!(replayed.id == "two" && replayed.death.is_none() && replayed.replayed_at_ms.is_some());
    assert_eq!(replayed.destinations[0].history, [failure(3)], "its history goes on");
}

/// A hundred thousand dead letters would keep senders waiting for minutes.
#[test]
fn bulk_work_stands_back_behind_new_messages() {
    let ((bulk_reply, bulk_told), (reply, told)) = (oneshot::channel(), oneshot::channel());
    let mut bench = Bench::asked(FaultyDisk::default(), FaultyDisk::default(), |jobs| {
        let head = Head::example("replayed");
        let entry = Entry::new(&head, b"content".to_vec()).unwrap();
        let messages = vec![BulkMessage { entry, head, replaces: Vec::new(), replaces_bytes: 0 }];
        jobs.send(Job::Bulk(BulkAppend { origin: Origin::Replay, messages, reply: bulk_reply })).unwrap();
        let entry = Entry::new(&Head::example("new"), b"content".to_vec()).unwrap();
        let append = Append { entry, routes: vec!["default".to_owned()], rest: (), since_ms: 1, reply };
        jobs.send(Job::Append(Box::new(append))).unwrap();
    });
    assert_eq!(told.blocking_recv().unwrap(), Ok(()));
    assert_eq!(bulk_told.blocking_recv().unwrap(), [Ok(())]);
    let mut is_new = Vec::new();
    while let Ok(Said::Spooled(spooled)) = bench.said.try_recv() {
        is_new.extend(spooled.iter().map(|spooled| spooled.mail.is_some()));
    }
    assert_eq!(is_new, [true, false]);
    assert_eq!(bench.disk.syncs(), 2, "for the new segment, and once for both");
    bench.end();
}

#[test]
fn new_messages_are_taken_while_others_become_dead_letters() {
    let mut bench = Bench::new();
    let content = "x".repeat(200);
    let all: Vec<Location> = (0..40).map(|n| bench.append(&n.to_string(), &content).unwrap()).collect();
    let first = all[0].segment;
    let of_first: Vec<DeadLetterRequest> =
        all.iter().filter(|at| at.segment == first).map(|at| request(*at)).collect();
    let count = of_first.len();
    assert!(count > 2);
    bench.dead_jobs.send(DeadJob::Keep(first, of_first)).unwrap();
    let mut kept = Vec::new();
    while kept.len() < count {
        kept.extend(bench.dead_lettered());
    }
    assert!(kept.iter().all(|(_, result)| *result == DeadLettered::Kept));
    let (disk, dead) = bench.after_end();
    assert_eq!(ids(&disk).len(), all.len() - count);
    assert_eq!(ids(&dead).len(), count);
}

#[test]
fn no_dead_letter_is_made_while_the_process_ends() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.draining.cancel();
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Postponed)]);
    let (disk, dead) = bench.after_end();
    assert_eq!((ids(&disk), ids(&dead).len()), (vec!["one".to_owned()], 0));
}

#[test]
fn damaged_dead_letter_is_replayed_only_if_that_is_forced() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.disk.damage(&mails_file(at.segment), b"content");
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Kept)]);
    let [letter] = &waiting(&bench.dead)[..] else { panic!("not one dead letter") };
    assert!(letter.death.as_ref().unwrap().is_damaged, "{letter:?}");
    let act = |wish| {
        let (reply, told) = oneshot::channel();
        let action = DeadAction { selector: Selector::default(), wish, reply };
        bench.dead_jobs.send(DeadJob::Act(action)).unwrap();
        told.blocking_recv().unwrap().unwrap()
    };
    assert_eq!(act(Wish::Retry), Acted { done: 0, damaged: 1 });
    assert_eq!(act(Wish::Force), Acted { done: 1, damaged: 0 });
    let (disk, dead) = bench.after_end();
    assert_eq!(ids(&dead).len(), 0);
    let replayed = waiting(&disk).into_iter().find(|head| head.replayed_at_ms.is_some()).unwrap();
    assert_eq!(replayed.id, "one");
}

#[test]
fn dead_letter_that_the_disk_damages_is_replayed_only_if_that_is_forced() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.dead_letter(at);
    let segment = survey::segments(&bench.dead).unwrap()[0];
    bench.dead.damage(&mails_file(segment), b"content");
    let (reply, told) = oneshot::channel();
    let action = DeadAction { selector: Selector::default(), wish: Wish::Retry, reply };
    bench.dead_jobs.send(DeadJob::Act(action)).unwrap();
    assert_eq!(told.blocking_recv().unwrap(), Ok(Acted { done: 0, damaged: 1 }));
    bench.end();
}

#[test]
fn message_whose_head_is_damaged_is_no_dead_letter_and_its_segment_is_set_aside() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.disk.damage(&mails_file(at.segment), b"received_at_ms");
    assert_eq!(bench.dead_letter(at), [(pair(at), DeadLettered::Unreadable)]);
    bench.jobs.send(Job::Note(pair(at), Outcome::Unreadable)).unwrap();
    bench.jobs.send(Job::SetAside(at.segment)).unwrap();
    // A number is not used twice, though no file has it any more.
    let next = bench.append("two", "content").unwrap();
    assert!(next.segment > at.segment);
    let (disk, _) = bench.after_end();
    assert_eq!(ids(&disk), ["two"]);
    assert_eq!(survey::damaged_segments(&disk).unwrap(), 1);
    let store = Store::open(disk, LIMITS).unwrap();
    assert_eq!(store.segments_aside(), 1);
    assert!(store.bytes() > 0);
}

#[test]
fn what_is_left_of_a_segment_is_copied_with_where_it_stands() {
    let mut bench = Bench::new();
    let content = "x".repeat(200);
    let mails: Vec<Location> = (0..6).map(|n| bench.append(&n.to_string(), &content).unwrap()).collect();
    let first = mails[0].segment;
    let (gone, left): (Vec<Location>, Vec<Location>) = mails
        .iter()
        .copied()
        .filter(|mail| mail.segment == first)
        .partition(|mail| mail.offset != mails[1].offset);
    assert!(gone.len() > 2 && left.len() == 1 && mails[5].segment > first);
    for at in gone {
        bench.jobs.send(Job::Note(pair(at), Outcome::Delivered)).unwrap();
    }
    for n in 1..=10 {
        bench.jobs.send(Job::Note(pair(mails[1]), Outcome::Deferred(failure(n)))).unwrap();
    }
    let (copies, gone) = bench.compact(first);
    assert!(gone && copies.len() == 1, "{copies:?}");
    assert_eq!(copies[0].destinations, [("default".to_owned(), failure(10))]);
    let (disk, _) = bench.after_power_loss();
    let files = disk.list().unwrap();
    assert!(files.iter().all(|(name, _)| FileKind::of(name) != Some(FileKind::Mails(first))), "{files:?}");
    let copy = waiting(&disk).into_iter().find(|head| head.id == "1").unwrap();
    assert_eq!(copy.destinations[0].progress, failure(10));
    assert_eq!(copy.destinations[0].history.len(), 7, "the last failures are kept");
    assert_eq!(load(&disk, copies[0].at).unwrap().content, content.as_bytes());
}

#[test]
fn copies_are_synced_together() {
    let mut bench = Bench::new();
    let mut mails = vec![bench.append("0", "content").unwrap()];
    let first = mails[0].segment;
    // The copies fit into the next segment.
    while mails[mails.len() - 1].segment == first {
        mails.push(bench.append(&mails.len().to_string(), "content").unwrap());
    }
    assert!(mails.len() > 5, "{} mails are too few", mails.len());
    for gone in &mails[3..mails.len() - 1] {
        bench.jobs.send(Job::Note(pair(*gone), Outcome::Delivered)).unwrap();
    }
    let before = bench.disk.syncs();
    let (copies, gone) = bench.compact(first);
    let syncs = bench.disk.syncs() - before;
    assert!(gone && copies.len() == 3, "{copies:?}");
    // The outcomes may have been synced, too.
    assert!(syncs < 3, "{syncs} syncs");
    bench.end();
}

#[test]
fn mail_is_taken_while_what_is_left_of_a_segment_is_read() {
    let mut bench = Bench::new();
    let first = bench.append("left", "content").unwrap().segment;
    while bench.append("other", "content").unwrap().segment == first {}
    let (jobs, read) = mpsc::channel();
    bench.jobs.send(Job::Compact { segment: first, jobs }).unwrap();
    let copy = read.recv().unwrap();
    bench.append("meanwhile", "content").unwrap();
    bench.jobs.send(copy).unwrap();
    let Said::Copied(copies) = bench.said.blocking_recv().unwrap() else { panic!("nothing was copied") };
    // What was copied by then is at one place all the same when the writer ends.
    assert!(matches!(read.recv().unwrap(), Job::EndCompaction { all: true, .. }));
    let before = copies.len() + 2;
    let (disk, _) = bench.after_end();
    let ids = ids(&disk);
    assert_eq!(ids.len(), before, "{ids:?}");
    assert_eq!(ids.iter().filter(|id| *id == "left").count(), 1, "{ids:?}");
}

#[test]
fn a_full_spool_is_compacted_all_the_same() {
    let mut bench = Bench::new();
    let left = bench.append("left", "content").unwrap();
    let mut at = left;
    while at.segment == left.segment {
        if at != left {
            bench.jobs.send(Job::Note(pair(at), Outcome::Delivered)).unwrap();
        }
        at = bench.append("other", "content").unwrap();
    }
    while bench.append("other", "content").is_ok() {}
    let (copies, gone) = bench.compact(left.segment);
    assert!(gone && copies.len() == 1, "{copies:?}");
    bench.end();
}

#[test]
fn a_segment_that_cannot_be_copied_stays() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.fail(3);
    let (copies, gone) = bench.compact(at.segment);
    assert!(!gone && copies.is_empty(), "{copies:?}");
    assert_eq!(ids(&bench.after_power_loss().0), ["one"]);
}

#[test]
fn a_segment_that_has_grown_meanwhile_is_not_removed() {
    let mut bench = Bench::new();
    let one = bench.append("one", "content").unwrap();
    let two = bench.append("two", "content").unwrap();
    let mut retire = |end| {
        bench.jobs.send(Job::Retire { segment: one.segment, end: Some(end) }).unwrap();
        matches!(bench.said.blocking_recv().unwrap(), Said::Retired(_, true))
    };
    assert!(!retire(two.offset));
    let entry = Entry::new(&Head::example("two"), b"content".to_vec()).unwrap();
    assert!(retire(two.offset + entry.bytes()));
    bench.end();
}

#[test]
fn a_segment_that_was_filled_up_meanwhile_is_not_removed() {
    let mut bench = Bench::new();
    let one = bench.append("one", "content").unwrap();
    let two = bench.append("two", "content").unwrap();
    while bench.append("three", "content").unwrap().segment == one.segment {}
    bench.jobs.send(Job::Retire { segment: one.segment, end: Some(two.offset) }).unwrap();
    assert!(matches!(bench.said.blocking_recv().unwrap(), Said::Retired(_, false)));
    assert!(ids(&bench.after_power_loss().0).contains(&"two".to_owned()));
}

#[test]
fn outcomes_are_synced_though_nothing_else_happens() {
    let mut bench = Bench::new();
    let at = bench.append("one", "content").unwrap();
    bench.jobs.send(Job::Note(pair(at), Outcome::Delivered)).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !ids(&bench.disk.after_power_loss(|_| 0)).is_empty() {
        assert!(Instant::now() < deadline, "the outcome is not synced");
        std::thread::sleep(Duration::from_millis(20));
    }
    bench.end();
}
