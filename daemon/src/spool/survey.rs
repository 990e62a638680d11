//! Reads what is in a spool, beside the process that writes to it or without one.

use std::io;
use std::ops::ControlFlow;

use super::disk::Disk;
use super::segment::{Extent, FileKind, Found, SegmentId, scan};

/// All segments of a spool, the oldest first.
///
/// # Errors
/// When the directory cannot be listed.
pub fn segments<D: Disk>(disk: &D) -> io::Result<Vec<SegmentId>> {
    let mut segments: Vec<SegmentId> = disk
        .list()?
        .into_iter()
        .filter_map(|(name, _)| match FileKind::of(&name) {
            Some(FileKind::Mails(segment)) => Some(segment),
            Some(FileKind::Outcomes(..) | FileKind::Damaged(_)) | None => None,
        })
        .collect();
    segments.sort_unstable();
    Ok(segments)
}

/// How many segments are set aside because some of them is damaged.
///
/// # Errors
/// When the directory cannot be listed.
pub fn damaged_segments<D: Disk>(disk: &D) -> io::Result<u64> {
    let is_damaged = |(name, _): &(String, u64)| matches!(FileKind::of(name), Some(FileKind::Damaged(_)));
    Ok(disk.list()?.iter().filter(|file| is_damaged(file)).count() as u64)
}

/// Gives all mails that have not met their end to `visit`, the oldest first, until it says no more.
/// What is being written meanwhile may be missing; a segment that goes meanwhile is left out.
///
/// # Errors
/// When the directory, or a segment that is still there, cannot be read.
pub fn visit<D: Disk>(
    disk: &D,
    mut visit: impl FnMut(SegmentId, Found) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut flow = ControlFlow::Continue(());
    for segment in segments(disk)? {
        let scanned = scan(disk, &Extent::all_of(segment), |found| {
            if found.is_pending() {
                flow = visit(segment, found);
            }
            flow
        });
        match scanned {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => drop(result?),
        }
        if flow.is_break() {
            break;
        }
    }
    Ok(())
}

/// How many mails have not met their end.
///
/// # Errors
/// When the spool cannot be read.
pub fn count<D: Disk>(disk: &D) -> io::Result<u64> {
    let mut count = 0;
    visit(disk, |_, _| {
        count += 1;
        ControlFlow::Continue(())
    })?;
    Ok(count)
}
