//! Version numbers.

use trove_core::error::{Error, Result};

/// A version: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerVersion {
    pub(crate) major: u32,
    /// `None` matches any.
    pub(crate) minor: Option<u32>,
}

impl ServerVersion {
    /// Parses a version.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](trove_core::error::Kind::Unsupported) if there is no such version.
    pub(crate) fn parse(engine: &str, version: &str) -> Result<Self> {
        let mut parts = version.split('.').map(str::parse);
        match (parts.next(), parts.next().transpose()) {
            (Some(Ok(major)), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err(Error::unsupported(format!("there is no {engine} {version:?}"))),
        }
    }

    /// Returns true if both are patch releases of one series.
    pub(crate) fn same_series(&self, other: &Self) -> bool {
        self.major == other.major && (self.minor == other.minor || self.minor.is_none() || other.minor.is_none())
    }
}

/// Returns the digits and dots after `mark`.
pub(crate) fn version_after(text: &str, mark: &str) -> Option<String> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let version = rest[..end].trim_matches('.');
    // It is shown to the user, so it must not be anything else.
    (!version.is_empty() && version.len() < 16).then(|| version.to_owned())
}
