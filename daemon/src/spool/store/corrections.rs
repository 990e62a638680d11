//! The file with the corrections of the clock.

use std::io;

use tracing::error;

use crate::spool::LOG_TARGET;
use crate::spool::clock::Corrections;
use crate::spool::disk::{Disk, DiskFile};
use crate::spool::part::part_name;
use crate::spool::segment::exactly;

/// The file's name.
const FILE: &str = "clock";

/// Bytes of the file: its corrections are few and short.
const BYTES_MAX: u64 = 64 * 1024;

/// Reads the corrections; none where there is no file.
///
/// One that is damaged is as good as none: messages wait for a longer or a shorter time then, and are not lost.
pub(super) fn read<D: Disk>(disk: &D) -> Corrections {
    match try_read(disk) {
        Ok(corrections) => corrections,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Corrections::default(),
        Err(error) => {
            error!(target: LOG_TARGET, file = FILE, %error, "corrections of the clock cannot be read; waits and lifetimes may be wrong by them");
            Corrections::default()
        }
    }
}

fn try_read<D: Disk>(disk: &D) -> io::Result<Corrections> {
    let file = disk.open(FILE)?;
    let length = usize::try_from(file.length()?.min(BYTES_MAX)).unwrap_or(0);
    Ok(serde_json::from_slice(&exactly(&file, 0, length)?)?)
}

/// Replaces the file in one step that survives a loss of power.
pub(super) fn write<D: Disk>(disk: &D, corrections: &Corrections) -> io::Result<()> {
    let bytes = serde_json::to_vec(corrections)?;
    let name = part_name()?;
    let file = disk.create(&name)?;
    let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
    written.and_then(|()| disk.rename(&name, FILE)).inspect_err(|_| drop(disk.remove(&name)))?;
    disk.sync()
}
