//! The one error type: a sentence for the person at the terminal, and the status to exit with.

use std::fmt;
use std::io;
use std::process::ExitCode;

/// What every command returns.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command could not be carried out.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    /// Something went wrong: exit status 1.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The command line was wrong: exit status 2.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self { message: format!("{message} (`cargo xtask help` lists the commands)"), code: 2 }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}
