//! Determines which engine and version an image contains.

use std::time::Duration;

use trove_core::{
    datastore::{Cx, GuestHost},
    error::{Error, Result},
};

use super::ContainerDatastore;
use crate::container::{Engine, containers::CommandOutput};

/// How long a program may take to print its version.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

impl<E: Engine> ContainerDatastore<E> {
    /// Ensures that the image of the instance is on this machine, and returns its id.
    pub(super) async fn ensure_image(&self, cx: &Cx, host: &GuestHost) -> Result<String> {
        self.docker.ensure_image(cx, &host.image, host.login.as_ref()).await
    }

    /// Returns the version of the engine in the image.
    ///
    /// # Errors
    ///
    /// [`Conflict`](trove_core::error::Kind::Conflict) if the image contains another engine or
    /// another version than the instance states.
    pub(super) async fn image_version(&self, cx: &Cx, host: &GuestHost) -> Result<String> {
        match self.found_version(cx, host).await? {
            Some(found) if is_of_series(&found, &host.version) => Ok(found),
            found => Err(self.conflict(host, found)),
        }
    }

    /// Returns the error for an image that turned out to be the wrong one.
    pub(super) async fn wrong_image(&self, cx: &Cx, host: &GuestHost) -> Error {
        match self.found_version(cx, host).await {
            Ok(found) => self.conflict(host, found),
            Err(error) => self.conflict(host, None).with_source(error),
        }
    }

    /// Returns the version of the engine in an image; `None` if it contains another engine or the
    /// version is unknown.
    pub(super) async fn found_version(&self, cx: &Cx, host: &GuestHost) -> Result<Option<String>> {
        let Some(command) = self.engine.version_command() else { return Ok(None) };
        let cpus = self.docker.host().await?.cpus;
        let spec = self.specs.version(host, cpus, command);
        let ran = self.containers.run(cx, spec, VERSION_LIMIT);
        Ok(match cx.waiting("read the version of the image", ran).await? {
            CommandOutput::Ended { code: 0, output } => {
                self.engine.read_version(&output).filter(|version| is_version(version))
            }
            CommandOutput::Ended { .. } | CommandOutput::NoProgram => None,
        })
    }

    fn conflict(&self, host: &GuestHost, found: Option<String>) -> Error {
        let (engine, GuestHost { image, version, .. }) = (self.specs.datastore(), host);
        Error::conflict(match found {
            Some(found) if !is_of_series(&found, version) => {
                format!("image {image} is {engine} {found}, not {version}")
            }
            Some(found) => format!("image {image} is {engine} {found} and lacks programs that a server needs"),
            None => format!("image {image} does not contain {engine}"),
        })
    }
}

/// Accepts only numbers and dots, because the version is shown to the user.
fn is_version(text: &str) -> bool {
    text.len() <= 40 && text.split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns true if a version belongs to the series.
fn is_of_series(version: &str, series: &str) -> bool {
    let rest = version.strip_prefix(series);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_match_series_by_number() {
        for (version, series, of) in
            [("17.5", "17", true), ("17", "17", true), ("170.1", "17", false), ("10.11.18", "10.11", true)]
        {
            assert_eq!(is_of_series(version, series), of, "{version} {series}");
        }
        assert!(is_version("10.11.18") && !is_version("10.") && !is_version("") && !is_version("1\u{1b}[2J"));
    }
}
