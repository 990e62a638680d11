//! Reads segments: the mails in them, and what became of each.

use std::io;
use std::ops::ControlFlow;

use super::disk::{Disk, DiskFile};
use super::entry::{
    FILE_HEADER_BYTES, Head, MAIL_HEADER_BYTES, MailHeader, Mark, Outcome, Progress, Subject, Target, mark_of,
};
use super::outcomes::{Fate, Fates, HISTORY_MAX};

/// Octets that are read at once while a segment is gone through.
const WINDOW_BYTES: usize = 256 * 1024;

/// How often the outcomes of a segment are looked for while another process merges them.
const READS_MAX: usize = 16;

/// The number of a segment. Newer ones have higher numbers.
pub type SegmentId = u64;

/// The file with a segment's mails.
#[must_use]
pub fn mails_file(segment: SegmentId) -> String {
    format!("{segment:016x}.mails")
}

/// A file with what became of them. There may be several of them: a next one when the one before cannot be trusted any
/// more, or while those before are merged into one.
#[must_use]
pub fn outcomes_file(segment: SegmentId, generation: u32) -> String {
    format!("{segment:016x}.outcomes-{generation}")
}

/// The file with the mails of a segment that was set aside.
#[must_use]
pub fn damaged_file(segment: SegmentId) -> String {
    format!("{segment:016x}.damaged")
}

/// What a file of a spool holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// The mails of a segment.
    Mails(SegmentId),
    /// What became of them, and the number of the file.
    Outcomes(SegmentId, u32),
    /// The mails of a segment that was set aside, because some of it is damaged.
    Damaged(SegmentId),
}

impl FileKind {
    /// What the file of that name holds; `None` for one that is not a spool's.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let (number, kind) = name.split_once('.')?;
        let segment = u64::from_str_radix(number, 16).ok()?;
        let kind = match kind.strip_prefix("outcomes-") {
            Some(generation) => Self::Outcomes(segment, generation.parse().ok()?),
            None if kind == "damaged" => Self::Damaged(segment),
            None => Self::Mails(segment),
        };
        (kind.name() == name).then_some(kind)
    }

    fn name(self) -> String {
        match self {
            Self::Mails(segment) => mails_file(segment),
            Self::Outcomes(segment, generation) => outcomes_file(segment, generation),
            Self::Damaged(segment) => damaged_file(segment),
        }
    }
}

/// Where a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// Its segment.
    pub segment: SegmentId,
    /// Where in it its entry begins.
    pub offset: u64,
}

/// A mail in a segment.
#[derive(Debug)]
pub struct Found {
    /// Where its entry begins.
    pub offset: u64,
    /// Octets of its entry.
    pub entry_bytes: u64,
    /// Octets of its content.
    pub content_bytes: u32,
    /// What is known of it.
    pub head: Head,
    /// Where it stands at each of its destinations.
    pub states: Vec<State>,
}

impl Found {
    /// Its destinations where it has not met its end: which, and where it stands there.
    pub fn pending(&self) -> impl Iterator<Item = (u16, &Target, &Progress)> {
        let destinations = self.states.iter().zip(&self.head.destinations).zip(0..);
        destinations.filter_map(|((state, target), destination)| match state {
            State::Pending(progress) => Some((destination, target, progress)),
            State::Ended => None,
        })
    }

    /// Whether it has not met its end somewhere.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending().next().is_some()
    }
}

/// Where a mail stands at a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has to be delivered.
    Pending(Progress),
    /// It has met its end.
    Ended,
}

/// What of a segment is gone through.
#[derive(Debug, Clone)]
pub struct Extent {
    /// The segment.
    pub segment: SegmentId,
    /// Where it ends for now, if it is still written to: what stands behind is not acknowledged.
    pub end: Option<u64>,
    /// What became of its mails and is not in its files yet.
    pub unwritten: Vec<(Subject, Outcome)>,
    /// By how many milliseconds the times in its files differ from those of the clock now.
    pub shift_ms: i64,
}

impl Extent {
    /// All of a segment that nobody writes to.
    #[must_use]
    pub fn all_of(segment: SegmentId) -> Self {
        Self { segment, end: None, unwritten: Vec::new(), shift_ms: 0 }
    }
}

/// Bytes of a segment that cannot be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Damage {
    /// Of entries that were acknowledged.
    pub mail_bytes: u64,
    /// Of outcomes, which costs a second delivery.
    pub outcome_bytes: u64,
}

/// Goes through the mails of a segment in their order, until `visit` says no more; returns what is damaged.
///
/// A damaged entry costs itself alone. An entry at the end of the file that is not whole was never answered with `250`,
/// and is not damage.
///
/// # Errors
/// When the file with the mails cannot be read, or is none.
pub fn scan<D: Disk>(
    disk: &D,
    extent: &Extent,
    mut visit: impl FnMut(Found) -> ControlFlow<()>,
) -> io::Result<Damage> {
    let file = disk.open(&mails_file(extent.segment))?;
    let mut window = Window::new(&file);
    let first = window.bytes(0, FILE_HEADER_BYTES + MAIL_HEADER_BYTES)?;
    let mark = mark_by(first).ok_or(io::ErrorKind::InvalidData)?;
    let (mut fates, outcome_bytes) = fates(disk, extent, mark, 1, |_| true)?;
    let mut damage = Damage { mail_bytes: 0, outcome_bytes };
    let mut offset = FILE_HEADER_BYTES as u64;
    while extent.end.is_none_or(|end| offset < end) && !window.bytes(offset, 1)?.is_empty() {
        let Some(header) = MailHeader::read(window.bytes(offset, MAIL_HEADER_BYTES)?, mark) else {
            let is_torn = is_torn(window.bytes(offset, MAIL_HEADER_BYTES)?);
            let next = window.find(offset + 1, mark)?;
            if is_torn && window.bytes(next, 1)?.is_empty() {
                break;
            }
            damage.mail_bytes += next - offset;
            offset = next;
            continue;
        };
        let next = offset + header.entry_bytes();
        if window.bytes(next - 1, 1)?.is_empty() {
            break;
        }
        match header.head(window.bytes(offset + MAIL_HEADER_BYTES as u64, header.head_bytes as usize)?) {
            Some(head) => {
                if visit(found(offset, header, head, &mut fates)).is_break() {
                    break;
                }
            }
            None => damage.mail_bytes += header.entry_bytes(),
        }
        offset = next;
    }
    Ok(damage)
}

/// Whether these last bytes of a file are what a crash leaves of an entry that it cut off: the beginning of a header, or
/// space that was never written.
fn is_torn(bytes: &[u8]) -> bool {
    bytes.len() < MAIL_HEADER_BYTES || bytes.iter().all(|byte| *byte == 0)
}

/// Whether a segment was made and nothing written to it: its header may not be whole then.
#[must_use]
pub fn is_unwritten<D: Disk>(disk: &D, segment: SegmentId) -> bool {
    let length = disk.open(&mails_file(segment)).and_then(|file| file.length());
    length.is_ok_and(|length| length <= FILE_HEADER_BYTES as u64)
}

/// Failed deliveries of the mails of a segment, by mail and destination.
#[derive(Debug)]
pub struct Histories(Fates);

impl Histories {
    /// Reads those of `wanted`.
    ///
    /// # Errors
    /// When the segment's files cannot be read.
    pub fn read<D: Disk>(disk: &D, extent: &Extent, wanted: impl Fn(Subject) -> bool) -> io::Result<Self> {
        let mark = Mails::open(disk, extent.segment)?.mark;
        Ok(Self(fates(disk, extent, mark, HISTORY_MAX, wanted)?.0))
    }

    /// How often, when and why the delivery of a mail to one of its destinations failed, as far as it
    /// is kept; the oldest first.
    #[must_use]
    pub fn of(&mut self, subject: Subject, target: &Target) -> Vec<Progress> {
        let moved = (!target.progress.is_none()).then(|| target.progress.clone());
        let later = match self.0.take(subject) {
            Some(Fate::Deferred(deferrals)) => deferrals.history(),
            Some(Fate::Ended(_)) | None => Vec::new(),
        };
        let mut all: Vec<Progress> = target.history.iter().cloned().chain(moved).chain(later).collect();
        all.drain(..all.len().saturating_sub(HISTORY_MAX));
        all
    }
}

/// A mail as it stands on disk.
#[derive(Debug)]
pub struct Loaded {
    /// What is known of it.
    pub head: Head,
    /// Its content.
    pub content: Vec<u8>,
    /// Bytes of its whole entry.
    pub entry_bytes: u64,
    /// Whether the content is what was received.
    pub intact: bool,
}

/// Reads one mail if `admits` says so of the bytes of its content; `None` otherwise.
///
/// # Errors
/// As [`load`].
pub fn load_if<D: Disk>(
    disk: &D,
    location: Location,
    admits: impl FnOnce(usize) -> bool,
) -> io::Result<Option<Loaded>> {
    let mails = Mails::open(disk, location.segment)?;
    let content_bytes = mails.header(location.offset)?.content_bytes as usize;
    if admits(content_bytes) { mails.load(location.offset).map(Some) } else { Ok(None) }
}

/// Whether a segment has no file with mails any more.
#[must_use]
pub fn is_gone<D: Disk>(disk: &D, segment: SegmentId) -> bool {
    disk.open(&mails_file(segment)).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// Reads one mail.
///
/// # Errors
/// When it cannot be read, or what is known of it is damaged (`InvalidData`).
pub fn load<D: Disk>(disk: &D, location: Location) -> io::Result<Loaded> {
    Mails::open(disk, location.segment)?.load(location.offset)
}

/// The mails of a segment, to be read one by one.
#[derive(Debug)]
pub(super) struct Mails<F> {
    file: F,
    mark: Mark,
}

impl<F: DiskFile> Mails<F> {
    /// Opens those of a segment.
    ///
    /// # Errors
    /// When the file cannot be read, or is none with mails (`InvalidData`).
    pub(super) fn open<D: Disk<File = F>>(disk: &D, segment: SegmentId) -> io::Result<Self> {
        let file = disk.open(&mails_file(segment))?;
        let mark = mark_in(&file)?;
        Ok(Self { file, mark })
    }

    fn header(&self, offset: u64) -> io::Result<MailHeader> {
        let header = exactly(&self.file, offset, MAIL_HEADER_BYTES)?;
        MailHeader::read(&header, self.mark).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Reads the mail whose entry begins at `offset`.
    ///
    /// # Errors
    /// When it cannot be read, or what is known of it is damaged (`InvalidData`).
    pub(super) fn load(&self, offset: u64) -> io::Result<Loaded> {
        let damaged = || io::Error::from(io::ErrorKind::InvalidData);
        let header = self.header(offset)?;
        let start = offset + MAIL_HEADER_BYTES as u64;
        let head =
            header.head(&exactly(&self.file, start, header.head_bytes as usize)?).ok_or_else(damaged)?;
        let start = start + u64::from(header.head_bytes);
        let content = exactly(&self.file, start, header.content_bytes as usize)?;
        let intact = header.fits_content(&content);
        Ok(Loaded { head, content, entry_bytes: header.entry_bytes(), intact })
    }
}

/// Fates of a segment's mails, and how many bytes of its outcomes are damaged.
fn fates<D: Disk>(
    disk: &D,
    extent: &Extent,
    mark: Mark,
    keep: usize,
    wanted: impl Fn(Subject) -> bool,
) -> io::Result<(Fates, u64)> {
    let (mut fates, damaged_bytes) = read_fates(disk, extent.segment, mark, u32::MAX, keep, &wanted)?;
    for (subject, outcome) in extent.unwritten.iter().filter(|(subject, _)| wanted(*subject)) {
        fates.add(*subject, outcome);
    }
    Ok((fates, damaged_bytes))
}

/// Fates by the files with outcomes up to number `last`.
///
/// Where one of them has gone, or another set of them is there afterwards, some were merged into one meanwhile, which
/// another look finds: a directory that is listed while a file is replaced may show neither.
pub(super) fn read_fates<D: Disk>(
    disk: &D,
    segment: SegmentId,
    mark: Mark,
    last: u32,
    keep: usize,
    wanted: &impl Fn(Subject) -> bool,
) -> io::Result<(Fates, u64)> {
    for _ in 0..READS_MAX {
        match try_read_fates(disk, segment, mark, last, keep, wanted) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

fn try_read_fates<D: Disk>(
    disk: &D,
    segment: SegmentId,
    mark: Mark,
    last: u32,
    keep: usize,
    wanted: &impl Fn(Subject) -> bool,
) -> io::Result<(Fates, u64)> {
    let (mut fates, mut damaged_bytes) = (Fates::keeping(keep), 0);
    let before = generations(disk, segment)?;
    for generation in before.iter().copied().filter(|generation| *generation <= last) {
        let file = disk.open(&outcomes_file(segment, generation))?;
        damaged_bytes += add_file(&mut fates, &file, mark, wanted)?;
    }
    if generations(disk, segment)? != before {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok((fates, damaged_bytes))
}

/// The numbers of a segment's files with outcomes, in their order.
pub(super) fn generations<D: Disk>(disk: &D, segment: SegmentId) -> io::Result<Vec<u32>> {
    let names = disk.list()?.into_iter();
    let mut generations: Vec<u32> = names
        .filter_map(|(name, _)| match FileKind::of(&name) {
            Some(FileKind::Outcomes(of, generation)) if of == segment => Some(generation),
            _ => None,
        })
        .collect();
    generations.sort_unstable();
    Ok(generations)
}

/// Folds the outcomes of a file in, window by window; returns how many bytes are damaged.
fn add_file(
    fates: &mut Fates,
    file: &impl DiskFile,
    mark: Mark,
    wanted: &impl Fn(Subject) -> bool,
) -> io::Result<u64> {
    let mut header = [0; FILE_HEADER_BYTES];
    let read = file.read_at(&mut header, 0)?;
    if mark_of(&header[..read]) != Some(mark) {
        return file.length();
    }
    let (mut held, mut window) = (Vec::new(), vec![0; WINDOW_BYTES]);
    let (mut offset, mut damaged_bytes) = (FILE_HEADER_BYTES as u64, 0);
    loop {
        let read = file.read_at(&mut window, offset)?;
        offset += read as u64;
        held.extend_from_slice(&window[..read]);
        let (used, damaged) = fates.read(&held, mark, read == 0, wanted);
        damaged_bytes += damaged as u64;
        held.drain(..used);
        if read == 0 {
            return Ok(damaged_bytes);
        }
    }
}

fn found(offset: u64, header: MailHeader, head: Head, fates: &mut Fates) -> Found {
    let states = head.destinations.iter().zip(0..).map(|(target, destination)| {
        match fates.take(Subject { offset, destination }) {
            None => State::Pending(target.progress.clone()),
            Some(Fate::Deferred(deferrals)) => State::Pending(deferrals.progress()),
            Some(Fate::Ended(_)) => State::Ended,
        }
    });
    let states = states.collect();
    Found { offset, entry_bytes: header.entry_bytes(), content_bytes: header.content_bytes, head, states }
}

/// The mark of a segment.
///
/// # Errors
/// When the file cannot be read, or is none with mails (`InvalidData`).
pub(super) fn mark_in(file: &impl DiskFile) -> io::Result<Mark> {
    let mut first = [0; FILE_HEADER_BYTES + MAIL_HEADER_BYTES];
    let read = file.read_at(&mut first, 0)?;
    mark_by(&first[..read]).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The mark of a segment, by its first bytes: by those of the first mail if the header is damaged.
fn mark_by(first: &[u8]) -> Option<Mark> {
    let of_first_mail = || {
        let header = first.get(FILE_HEADER_BYTES..FILE_HEADER_BYTES + MAIL_HEADER_BYTES)?;
        let mark = Mark(header[..16].try_into().ok()?);
        MailHeader::read(header, mark).map(|_| mark)
    };
    mark_of(first).or_else(of_first_mail)
}

/// Reads exactly so many bytes.
pub(super) fn exactly(file: &impl DiskFile, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut window = vec![0; length.min(WINDOW_BYTES)];
    while bytes.len() < length {
        let room = window.len().min(length - bytes.len());
        match file.read_at(&mut window[..room], offset + bytes.len() as u64)? {
            0 => return Err(io::ErrorKind::InvalidData.into()),
            read => bytes.extend_from_slice(&window[..read]),
        }
    }
    Ok(bytes)
}

/// A part of a file that is in memory.
struct Window<'f, F> {
    file: &'f F,
    start: u64,
    bytes: Vec<u8>,
}

impl<'f, F: DiskFile> Window<'f, F> {
    fn new(file: &'f F) -> Self {
        Self { file, start: 0, bytes: Vec::new() }
    }

    /// Up to `length` bytes at `offset`; fewer at the end of the file.
    fn bytes(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let within = |window: &Self| {
            let from = usize::try_from(offset.checked_sub(window.start)?).ok()?;
            (from + length <= window.bytes.len()).then_some(from)
        };
        let from = match within(self) {
            Some(from) => from,
            None => {
                self.fill(offset, length.max(WINDOW_BYTES))?;
                0
            }
        };
        Ok(&self.bytes[from..(from + length).min(self.bytes.len())])
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.start = offset;
        self.bytes.resize(length, 0);
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut self.bytes[filled..], offset + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        self.bytes.truncate(filled);
        Ok(())
    }

    /// Where the mark stands next, or the end of the file.
    fn find(&mut self, mut offset: u64, mark: Mark) -> io::Result<u64> {
        loop {
            let bytes = self.bytes(offset, WINDOW_BYTES)?;
            if let Some(found) = memchr::memmem::find(bytes, &mark.0) {
                return Ok(offset + found as u64);
            }
            if bytes.len() < WINDOW_BYTES {
                return Ok(offset + bytes.len() as u64);
            }
            // The mark may begin at the end of this window.
            offset += (bytes.len() - mark.0.len()) as u64;
        }
    }
}
