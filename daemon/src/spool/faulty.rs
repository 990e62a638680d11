//! A disk that fails, and that loses what was not synced.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Disk, DiskFile};

/// Says which operation fails: given the number of the operation, whether and how.
pub(super) type Faults = Box<dyn FnMut() -> Option<Fault> + Send>;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// It fails; a write may have written a part.
    Error,
    /// There is no room.
    Full,
    /// The power goes off while it is under way: it, and everything after it, fails.
    Crash,
}

/// The bytes of a file as the process sees them, and as they are after a loss of power.
#[derive(Debug, Clone, Default)]
struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Changes since the last sync, each of which may or may not survive.
    changes: Vec<Change>,
    /// Whether a sync failed: then what it should have saved is lost, though it is still seen, and
    /// nothing more is saved for whoever goes on with the file.
    lost: bool,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(offset, written) => {
                let (start, end) = (*offset as usize, *offset as usize + written.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(written);
            }
            Self::Cut(length) => bytes.resize(*length as usize, 0),
        }
    }
}

#[derive(Default)]
struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    faults: Option<Faults>,
    crashed: bool,
    syncs: usize,
}

/// A disk in memory.
#[derive(Clone, Default)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

/// A file of it.
pub(super) struct FaultyFile {
    disk: FaultyDisk,
    number: usize,
    writable: bool,
}

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What fails from now on.
    pub(super) fn fail(&self, faults: Faults) {
        self.state().faults = Some(faults);
    }

    /// Flips a bit where `text` stands in a file, as a disk that ages does.
    pub(super) fn damage(&self, name: &str, text: &[u8]) {
        let mut state = self.state();
        let file = state.names[name];
        let content = &mut state.files[file];
        for bytes in [&mut content.seen, &mut content.durable] {
            if let Some(at) = memchr::memmem::find(bytes, text) {
                bytes[at] ^= 1;
            }
        }
    }

    /// How often a file was synced.
    pub(super) fn syncs(&self) -> usize {
        self.state().syncs
    }

    /// Whether the power is off.
    pub(super) fn is_off(&self) -> bool {
        self.state().crashed
    }

    /// The disk after the power came back: `survives` says of each change that was not synced
    /// whether it did, and of a write, how much of it.
    pub(super) fn after_power_loss(&self, mut survives: impl FnMut(usize) -> usize) -> Self {
        let state = self.state();
        let files = state.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for change in &file.changes {
                match change {
                    Change::Write(offset, written) => {
                        let kept = survives(written.len());
                        if kept > 0 {
                            Change::Write(*offset, written[..kept].to_vec()).apply(&mut bytes);
                        }
                    }
                    Change::Cut(_) if survives(1) == 1 => change.apply(&mut bytes),
                    Change::Cut(_) => {}
                }
            }
            Content { seen: bytes.clone(), durable: bytes, ..Content::default() }
        });
        let files = files.collect();
        let mut names = state.durable_names.clone();
        for (name, file) in &state.names {
            if state.durable_names.get(name) != Some(file) && survives(1) == 1 {
                names.insert(name.clone(), *file);
            }
        }
        for name in state.durable_names.keys() {
            if !state.names.contains_key(name) && survives(1) == 1 {
                names.remove(name);
            }
        }
        let durable_names = names.clone();
        Self(Arc::new(Mutex::new(State { files, names, durable_names, ..State::default() })))
    }
}

impl State {
    fn operation(&mut self) -> io::Result<()> {
        if self.crashed {
            return Err(io::Error::other("the power is off"));
        }
        match self.faults.as_mut().and_then(|faults| faults()) {
            None => Ok(()),
            Some(Fault::Error) => Err(io::Error::other("injected")),
            Some(Fault::Full) => Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Crash) => {
                self.crashed = true;
                Err(io::Error::other("the power goes off"))
            }
        }
    }

    fn change(&mut self, file: usize, change: Change) {
        let file = &mut self.files[file];
        change.apply(&mut file.seen);
        file.changes.push(change);
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state();
        Ok(state
            .names
            .iter()
            .map(|(name, file)| (name.clone(), state.files[*file].seen.len() as u64))
            .collect())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        state.operation()?;
        assert!(!state.names.contains_key(name), "{name} is made twice");
        state.files.push(Content::default());
        let file = state.files.len() - 1;
        state.names.insert(name.to_owned(), file);
        Ok(FaultyFile { disk: self.clone(), number: file, writable: true })
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let number = self.state().names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        Ok(FaultyFile { disk: self.clone(), number, writable: false })
    }

    fn open_for_writing(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        let file = state.names.get(name).copied().ok_or(io::ErrorKind::NotFound)?;
        // As on Linux: a later process hears nothing of the sync that failed. What it writes is saved,
        // around holes where the lost octets should be.
        let content = &mut state.files[file];
        if std::mem::take(&mut content.lost) {
            content.changes.clear();
        }
        drop(state);
        Ok(FaultyFile { disk: self.clone(), number: file, writable: true })
    }

    fn rename(&self, name: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        let file = state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.operation()?;
        state.names.remove(name);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operation()?;
        state.durable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for FaultyFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        assert!(self.writable, "it was opened for reading");
        let mut state = self.disk.state();
        let result = state.operation();
        // A write that fails may have written a part.
        let written = if result.is_ok() { bytes.len() } else { bytes.len() / 2 };
        if written > 0 {
            state.change(self.number, Change::Write(offset, bytes[..written].to_vec()));
        }
        result
    }

    fn read_at(&self, room: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.disk.state();
        let bytes = &state.files[self.number].seen;
        let start = bytes.len().min(offset as usize);
        let read = room.len().min(bytes.len() - start);
        room[..read].copy_from_slice(&bytes[start..start + read]);
        Ok(read)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.number].seen.len() as u64)
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        assert!(self.writable, "it was opened for reading");
        let mut state = self.disk.state();
        state.operation()?;
        state.change(self.number, Change::Cut(length));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let result = state.operation();
        let crashed = state.crashed;
        state.syncs += 1;
        let file = &mut state.files[self.number];
        match result {
            Ok(()) => {
                if !file.lost {
                    for change in std::mem::take(&mut file.changes) {
                        change.apply(&mut file.durable);
                    }
                }
            }
            // As on Linux: what could not be saved counts as saved from then on, and is not.
            Err(_) if !crashed => file.lost = true,
            Err(_) => {}
        }
        result
    }
}
