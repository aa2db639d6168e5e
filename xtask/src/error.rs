//! The error type of all commands: a message for the person at the terminal, and an exit status.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// The result of a command.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Error {
    message: String,
    exit_status: u8,
}

impl Error {
    /// A failure: exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_status: 1 }
    }

    /// A wrong command line: exit status 2.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: format!("{message} (`cargo xtask help` lists the commands)"), exit_status: 2 }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_status)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}

/// Returns one error with all messages, unless there are none.
pub(crate) fn all_ok(errors: impl IntoIterator<Item = Error>) -> Result<()> {
    let messages: Vec<_> = errors.into_iter().map(|error| error.message).collect();
    if messages.is_empty() { Ok(()) } else { Err(Error::new(messages.join("; "))) }
}
