//! The store against a simple model, on a disk that fails and loses power.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::entry::{Head, Outcome, Progress};
use super::faulty::{Fault, FaultyDisk};
use super::outcomes::OUTCOME_BYTES;
use super::part::Part;
use super::segment::{Extent, Loaded, Location, SegmentId, State, load, scan};
use super::store::{AppendError, Entry, Limits, Merge, Store};

const LIMITS: Limits = Limits { total_bytes: 500_000, segment_bytes: 2_000, outcome_bytes: OUTCOME_BYTES };

#[derive(Debug, Clone)]
enum Action {
    /// Mails of these sizes, in one batch.
    Append(Vec<usize>),
    /// A large mail, which is written while it comes in.
    Adopt(usize),
    /// An outcome for one of the mails that were acknowledged.
    Note {
        mail: usize,
        ends: bool,
    },
    WriteOutcomes {
        durable: bool,
    },
    /// The outcomes of a segment are merged, if they have grown enough; more may happen meanwhile.
    MergeBegins,
    MergeEnds,
    /// The oldest segment goes, if all of its mails have met their end for good.
    Retire,
    /// The process ends, and starts again.
    Restart,
    /// The power goes off and comes back; which of the changes that were not synced survive.
    PowerLoss {
        survives: Vec<u8>,
    },
}

fn action() -> impl Strategy<Value = Action> {
    let size = prop_oneof![4 => 0usize..300, 1 => 1_500usize..3_000, 1 => Just(70_000usize)];
    prop_oneof![
        4 => prop::collection::vec(size, 1..6).prop_map(Action::Append),
        2 => (0usize..5_000).prop_map(Action::Adopt),
        4 => (0usize..1_000, prop::bool::weighted(0.8))
            .prop_map(|(mail, ends)| Action::Note { mail, ends }),
        3 => any::<bool>().prop_map(|durable| Action::WriteOutcomes { durable }),
        3 => Just(Action::MergeBegins),
        3 => Just(Action::MergeEnds),
        2 => Just(Action::Retire),
        1 => Just(Action::Restart),
        1 => prop::collection::vec(any::<u8>(), 1..8).prop_map(|survives| Action::PowerLoss { survives }),
    ]
}

/// For each operation of the disk, in turn, how it fails; none does after the last.
fn faults() -> impl Strategy<Value = Vec<Option<Fault>>> {
    let fault = prop_oneof![
        12 => Just(None),
        1 => Just(Some(Fault::Error)),
        1 => Just(Some(Fault::Full)),
        1 => Just(Some(Fault::Crash)),
    ];
    prop::collection::vec(fault, 0..60)
}

/// What is known of a mail that was acknowledged.
#[derive(Debug)]
struct Known {
    id: String,
    at: Location,
    content: Vec<u8>,
    end: End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotMet,
    /// By the present process.
    Noted,
    /// By a process that has gone: it may be on disk, or not.
    Uncertain,
    OnDisk,
}

struct Run {
    disk: FaultyDisk,
    store: Store<FaultyDisk>,
    known: Vec<Known>,
    mails: usize,
    notes: u64,
    /// Ids of mails that were refused because the disk failed: these may be found.
    doubtful: Vec<String>,
    merge: Option<Merge>,
    faults: Arc<Mutex<(std::vec::IntoIter<Option<Fault>>, usize)>>,
}

impl Run {
    fn new(faults: Vec<Option<Fault>>) -> Self {
        let disk = FaultyDisk::default();
        let faults = Arc::new(Mutex::new((faults.into_iter(), 0)));
        let store = Store::open(disk.clone(), LIMITS).unwrap();
        let run = Self {
            disk,
            store,
            known: Vec::new(),
            mails: 0,
            notes: 0,
            doubtful: Vec::new(),
            merge: None,
            faults,
        };
        run.arm();
        run
    }

    fn arm(&self) {
        let faults = Arc::clone(&self.faults);
        self.disk.fail(Box::new(move || {
            let mut faults = faults.lock().unwrap();
            let fault = faults.0.next().flatten();
            faults.1 += usize::from(fault.is_some());
            fault
        }));
    }

    fn failures(&self) -> usize {
        self.faults.lock().unwrap().1
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Append(sizes) => self.append(sizes),
            Action::Adopt(size) => self.adopt(*size),
            Action::Note { mail, ends } => {
                if self.known.is_empty() {
                    return;
                }
                let count = self.known.len();
                let known = &mut self.known[mail % count];
                self.notes += 1;
                if *ends {
                    self.store.note(known.at, 0, Outcome::Delivered);
                    known.end = End::Noted;
                } else if known.end == End::NotMet {
                    let progress = Progress { failures: 1, due_ms: 1, at_ms: 1, reason: "why".to_owned() };
                    self.store.note(known.at, 0, Outcome::Deferred(progress));
                }
            }
            Action::WriteOutcomes { durable } => {
                if self.store.write_outcomes(*durable).is_ok() && *durable {
                    let noted = self.known.iter_mut().filter(|known| known.end == End::Noted);
                    noted.for_each(|known| known.end = End::OnDisk);
                }
            }
            Action::MergeBegins => {
                if self.merge.is_none() {
                    self.merge = self.store.begin_merge().ok().flatten();
                }
            }
            Action::MergeEnds => {
                if let Some(merge) = self.merge.take() {
                    let merged = merge.run(&self.disk).ok();
                    let _ = self.store.end_merge(merge, merged.as_ref());
                }
            }
            Action::Retire => {
                let Some(oldest) = self.store.segments().next() else { return };
                let of_it = |known: &&Known| known.at.segment == oldest;
                if self.known.iter().filter(of_it).all(|known| known.end == End::OnDisk) {
                    let _ = self.store.retire(oldest);
                }
            }
            // A process whose disk has no power starts again once it has.
            Action::Restart if self.disk.is_off() => self.act(&Action::PowerLoss { survives: vec![0] }),
            Action::Restart => self.reopen(self.disk.clone(), false),
            Action::PowerLoss { survives } => {
                let mut survives = survives.iter().cycle();
                let after = self.disk.after_power_loss(|bytes| match survives.next() {
                    Some(255) => bytes,
                    Some(part) => bytes * usize::from(*part) / 256 + usize::from(*part > 127 && bytes == 1),
                    None => 0,
                });
                self.reopen(after, true);
            }
        }
    }

    fn append(&mut self, sizes: &[usize]) {
        let entries: Vec<(String, Vec<u8>)> = sizes
            .iter()
            .map(|size| {
                self.mails += 1;
                let id = format!("mail {}", self.mails);
                let content = id.bytes().cycle().take(*size).collect();
                (id, content)
            })
            .collect();
        let batch: Vec<Entry> = entries
            .iter()
            .map(|(id, content)| Entry::new(&Head::example(id), content.clone()).unwrap())
            .collect();
        let failures = self.failures();
        let results = self.store.append(&batch);
        assert_eq!(results.len(), entries.len());
        for ((id, content), result) in entries.into_iter().zip(results) {
            match result {
                Ok(at) => self.known.push(Known { id, at, content, end: End::NotMet }),
                Err(error) => {
                    let failed = self.failures() > failures;
                    assert!(self.failures() > 0 || error == AppendError::Full, "{id}: {error}");
                    if failed || error != AppendError::Full {
                        self.doubtful.push(id);
                    }
                }
            }
        }
        // What a disk that fails leaves behind is not counted before the next start.
        let bytes_max = LIMITS.total_bytes + OUTCOME_BYTES * self.notes;
        assert!(self.failures() > 0 || self.store.bytes() <= bytes_max, "{} bytes", self.store.bytes());
    }

    fn adopt(&mut self, size: usize) {
        self.mails += 1;
        let id = format!("mail {}", self.mails);
        let content: Vec<u8> = id.bytes().cycle().take(size).collect();
        let failures = self.failures();
        let sealed = Part::create(self.disk.clone()).and_then(|mut part| {
            content.chunks(1_000).try_for_each(|chunk| part.push(chunk))?;
            assert_eq!(part.content()?, content);
            part.seal(&Head::example(&id))
        });
        let adopted =
            sealed.map_err(|error| AppendError::from(&error)).and_then(|sealed| self.store.adopt(&sealed, 1));
        match adopted {
            Ok(at) => self.known.push(Known { id, at, content, end: End::NotMet }),
            Err(error) => {
                let failed = self.failures() > failures;
                assert!(self.failures() > 0 || error == AppendError::Full, "{id}: {error}");
                if failed {
                    self.doubtful.push(id);
                }
            }
        }
    }

    fn reopen(&mut self, disk: FaultyDisk, power_was_lost: bool) {
        self.disk = disk;
        self.merge = None;
        self.store = Store::open(self.disk.clone(), LIMITS).unwrap();
        self.check(power_was_lost);
        let noted = self.known.iter_mut().filter(|known| known.end == End::Noted);
        noted.for_each(|known| known.end = End::Uncertain);
        self.arm();
    }

    /// Everything that was acknowledged and has not met its end is there, whole.
    fn check(&self, power_was_lost: bool) {
        let mut pending: BTreeMap<String, Location> = BTreeMap::new();
        for segment in self.store.segments() {
            for (id, at) in self.pending_of(segment) {
                assert!(pending.insert(id.clone(), at).is_none(), "{id} is there twice");
            }
        }
        for known in &self.known {
            match (known.end, pending.remove(&known.id)) {
                (End::NotMet, None) => panic!("{} is lost", known.id),
                (End::NotMet, Some(at)) => {
                    let Loaded { head, content, intact, .. } = load(&self.disk, at).unwrap();
                    assert!(intact);
                    assert_eq!((head.id.as_str(), at), (known.id.as_str(), known.at));
                    assert!(content == known.content, "{} has other content", known.id);
                }
                (End::OnDisk, Some(_)) => panic!("{} has met its end and comes back", known.id),
                (End::Noted | End::Uncertain | End::OnDisk, _) => {}
            }
        }
        for id in pending.keys() {
            assert!(
                self.doubtful.contains(id),
                "{id} was refused and is there; power lost: {power_was_lost}"
            );
        }
    }

    fn pending_of(&self, segment: SegmentId) -> Vec<(String, Location)> {
        let mut found = Vec::new();
        let scanned = scan(&self.disk, &Extent::all_of(segment), |mail| {
            found.push(mail);
            ControlFlow::Continue(())
        });
        if scanned.is_err() {
            // Made in the moment of a crash; nothing in it was acknowledged.
            assert!(self.known.iter().all(|known| known.at.segment != segment || known.end == End::OnDisk));
            return Vec::new();
        };
        let mails = found.into_iter().filter(|mail| matches!(mail.states[0], State::Pending(_)));
        mails.map(|mail| (mail.head.id, Location { segment, offset: mail.offset })).collect()
    }
}

proptest! {
    #[test]
    fn what_was_acknowledged_is_there(
        actions in prop::collection::vec(action(), 1..40),
        faults in faults(),
        last in prop::collection::vec(any::<u8>(), 1..8),
    ) {
        let mut run = Run::new(faults);
        actions.iter().for_each(|action| run.act(action));
        run.act(&Action::PowerLoss { survives: last });
    }

    #[test]
    fn without_faults_nothing_is_doubtful(actions in prop::collection::vec(action(), 1..40)) {
        let mut run = Run::new(Vec::new());
        actions.iter().for_each(|action| run.act(action));
        run.act(&Action::Restart);
        prop_assert!(run.doubtful.is_empty());
    }
}

/// What one process failed to sync must not hide what the next one notes.
#[test]
fn one_fault_at_any_step_before_a_restart_costs_no_outcome() {
    let note = |ends| Action::Note { mail: 0, ends };
    let script = [
        Action::Append(vec![10, 20]),
        note(false),
        Action::WriteOutcomes { durable: true },
        Action::Restart,
        note(true),
        Action::WriteOutcomes { durable: true },
        Action::PowerLoss { survives: vec![0] },
    ];
    for fault in [Fault::Error, Fault::Full, Fault::Crash] {
        for step in 0..30 {
            let mut run = Run::new((0..30).map(|at| (at == step).then_some(fault)).collect());
            script.iter().for_each(|action| run.act(action));
        }
    }
}
