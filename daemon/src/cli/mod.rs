//! Commands that are more than a call of the library.

pub(crate) mod route;
pub(crate) mod spool;

use std::io;
use std::process::ExitCode;

/// The exit code of a command that prints.
pub(crate) fn ended(result: io::Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        // Who reads no further has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mail-laser: {error}");
            ExitCode::FAILURE
        }
    }
}
