//! The numbers of versions.

use trove_core::error::{Error, Result};

/// A version: its series, and what comes after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ServerVersion {
    pub(crate) major: u32,
    /// `None` stands for any.
    pub(crate) minor: Option<u32>,
}

impl ServerVersion {
    /// The numbers of a version; [`Unsupported`](trove_core::error::Kind::Unsupported) where these are none.
    pub(crate) fn parse(engine: &str, version: &str) -> Result<Self> {
        let mut parts = version.split('.').map(str::parse);
        match (parts.next(), parts.next().transpose()) {
            (Some(Ok(major)), Ok(minor)) => Ok(Self { major, minor }),
            _ => Err(Error::unsupported(format!("there is no {engine} {version:?}"))),
        }
    }

    /// True where both are patches of one series.
    pub(crate) fn same_series(&self, other: &Self) -> bool {
        self.major == other.major && (self.minor == other.minor || self.minor.is_none() || other.minor.is_none())
    }
}

/// The digits and dots that follow `mark`.
pub(crate) fn version_after(text: &str, mark: &str) -> Option<String> {
    let (_, rest) = text.split_once(mark)?;
    let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(rest.len());
    let version = rest[..end].trim_matches('.');
    // It is told to the user and so must be nothing else.
    (!version.is_empty() && version.len() < 16).then(|| version.to_owned())
}
