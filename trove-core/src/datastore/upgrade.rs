use std::fmt;

use async_trait::async_trait;

use super::Cx;
use crate::{error::Result, model::Flavor, secret::SecretString};

/// What an instance runs: a version of its engine, from an image.
#[derive(Clone)]
#[non_exhaustive]
pub struct Release {
    /// The version, of one of the driver's [series](super::Manifest::series).
    pub version: String,
    /// The image; with `@sha256:...` exactly this one.
    pub image: String,
    /// Who may pull it, where not everybody may.
    pub login: Option<RegistryLogin>,
}

impl Release {
    /// A version from an image that everybody may pull.
    pub fn new(version: impl Into<String>, image: impl Into<String>) -> Self {
        Self { version: version.into(), image: image.into(), login: None }
    }
}

/// Who pulls the image may change between two tries of the same, so it is not shown.
impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Release({} from {})", self.version, self.image)
    }
}

/// How a private registry is signed in to.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// Who signs in.
    pub username: String,
    /// With this password, or token.
    pub password: SecretString,
}

/// Runs an instance's data with another release, and goes back where that fails.
#[async_trait]
pub trait Upgrade: Send + Sync {
    /// Refuses, before anything is changed, what cannot be: fetches the image, asks it which engine in which version it
    /// holds, and looks whether there is room for a safety copy where one is needed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for an image that does not exist,
    /// [`Conflict`](crate::error::Kind::Conflict) for another engine's or one of another version than it should be,
    /// [`Unsupported`](crate::error::Kind::Unsupported) where the engine has no such way,
    /// [`NoSpace`](crate::error::Kind::NoSpace).
    async fn check(&self, cx: &Cx, to: &Release) -> Result<()>;

    /// Stops the server and starts the other release on the same data. An error leaves it to
    /// [`revert`](Self::revert) what is there.
    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()>;

    /// Goes back to the release before, with the data as it was where the other one changed it.
    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()>;

    /// Drops what only a way back would need.
    async fn conclude(&self, cx: &Cx) -> Result<()>;
}

/// Gives a server other limits.
#[async_trait]
pub trait Resize: Send + Sync {
    /// Restarts the server with the memory and processors of this flavor, and with the settings that follow from them.
    /// Does nothing to one that has them.
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()>;
}
