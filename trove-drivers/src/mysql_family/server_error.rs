//! Errors of the server, and what they are to the caller of a driver.

use std::{fmt, io};

use trove_core::error::{Effect, Error, Kind};

/// `ER_CON_COUNT_ERROR`: all connections are in use.
pub(super) const TOO_MANY_CONNECTIONS: u16 = 1040;

/// `ER_GET_ERRNO`: the storage engine reported an error of the operating system.
const STORAGE_ENGINE_ERROR: u16 = 1030;

/// Why a statement or a login failed.
#[derive(Debug)]
pub(crate) enum ServerError {
    /// The connection failed and cannot be used any more.
    Connection(io::Error),
    /// The server refused, with this error code and message.
    Refused { code: u16, message: String },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            // The message of a syntax error quotes the statement.
            Self::Refused { code: 1064, .. } => f.write_str("the statement has a syntax error (1064)"),
            Self::Refused { code, message } => write!(f, "{message} ({code})"),
        }
    }
}

impl std::error::Error for ServerError {}

impl From<io::Error> for ServerError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl ServerError {
    /// Returns the error for the caller of the driver, without the server's message.
    fn classify(&self) -> Error {
        let (code, message) = match self {
            Self::Connection(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Error::timeout("the database server took too long").with_effect(Effect::Unknown);
            }
            Self::Connection(_) => {
                return Error::unavailable("the connection to the database server failed").with_effect(Effect::Unknown);
            }
            Self::Refused { code, message } => (*code, message),
        };
        let classified = match code {
            TOO_MANY_CONNECTIONS | 1203 => Error::unavailable("the database server has no connection left"),
            1053 | 1079 | 1927 => Error::unavailable("the database server is starting or stopping"),
            1037 | 1038 | 1041 => Error::unavailable("the database server has no memory left"),
            1021 | 1114 => Error::no_space("the volume of the database server is full"),
            STORAGE_ENGINE_ERROR if is_out_of_space(message) => {
                Error::no_space("the volume of the database server is full")
            }
            1205 | 1213 | 3572 => Error::busy("another session of the database server holds a lock"),
            1317 | 1969 | 3024 => Error::timeout("the database server took too long"),
            1290 | 1836 => Error::conflict("the database server is read-only"),
            1007 | 1396 => Error::conflict("the name is taken"),
            1008 | 1049 | 1133 | 1141 | 1147 | 1403 => Error::not_found("the object does not exist"),
            1115 => Error::invalid("the database server does not support this character set"),
            1273 => Error::invalid("the database server does not support this collation"),
            1253 | 1302 => Error::invalid("the collation does not belong to the character set"),
            1059 | 1102 | 1470 => Error::invalid("the database server does not accept this name"),
            _ => Error::internal("the database server refused a statement"),
        };
        classified.with("code", code)
    }

    /// Returns true if the server rejected what it was asked for, rather than being unable to do it just now.
    pub(super) fn is_rejection(&self) -> bool {
        let transient = [Kind::Unavailable, Kind::Timeout, Kind::Busy, Kind::NoSpace, Kind::Cancelled];
        matches!(self, Self::Refused { .. }) && !transient.contains(&self.classify().kind())
    }
}

/// The server's own message is in the source only, for the operator.
impl From<ServerError> for Error {
    fn from(error: ServerError) -> Self {
        error.classify().with_source(error)
    }
}

/// Returns true for "Got error 28 ... from storage engine": `ENOSPC` is only in the message.
fn is_out_of_space(message: &str) -> bool {
    message.split(|letter: char| !letter.is_ascii_digit()).any(|number| number == "28")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn storage_engine_errors_are_out_of_space_only_for_enospc() {
        for (message, kind) in [
            ("Got error 28 - 'No space left on device' from storage engine", Kind::NoSpace),
            ("Got error 28 \"No space left on device\" from storage engine InnoDB", Kind::NoSpace),
            ("Got error 128 \"Table was marked as crashed\" from storage engine Aria", Kind::Internal),
        ] {
            let error = ServerError::Refused { code: STORAGE_ENGINE_ERROR, message: message.to_owned() };
            assert_eq!(Error::from(error).kind(), kind, "{message}");
        }
    }
}
