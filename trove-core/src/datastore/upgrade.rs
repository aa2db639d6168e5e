use std::fmt;

use async_trait::async_trait;

use super::Cx;
use crate::{error::Result, model::Flavor, secret::SecretString};

/// A version of an engine and the image it runs from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Release {
    /// The version, of one of the [series](super::Manifest::series) of the driver.
    pub version: String,
    /// The image. A name with `@sha256:...` pins its content.
    pub image: String,
    /// The credentials to pull the image, if the registry requires any.
    pub login: Option<RegistryLogin>,
}

impl Release {
    /// Creates a release from a public image.
    pub fn new(version: impl Into<String>, image: impl Into<String>) -> Self {
        Self { version: version.into(), image: image.into(), login: None }
    }
}

/// Omits the credentials, which may change between two attempts of the same call.
impl fmt::Debug for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Release({} from {})", self.version, self.image)
    }
}

/// Credentials for a private registry.
#[derive(Clone, Debug)]
pub struct RegistryLogin {
    /// The user name.
    pub username: String,
    /// The password or access token.
    pub password: SecretString,
}

/// Upgrades an instance to another release on the same data, and rolls back if that fails.
///
/// ```
/// # #[cfg(feature = "conformance")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # use trove_core::conformance::{driver::DriverTestbed, memory::World};
/// use trove_core::{
///     datastore::{Cx, Driver, Prepare, Release},
///     id::OperationId,
/// };
///
/// # let testbed = World::new().testbed();
/// # let (driver, host) = (testbed.driver().clone(), testbed.allocate().await?);
/// let old = Release::new(&host.version, &host.image);
/// let datastore = driver.attach(host)?;
/// let cx = Cx::new(OperationId::new_v4(), 1);
/// datastore.prepare(&cx, &Prepare::default()).await?;
/// let upgrade = datastore.abilities().upgrade.expect("the manifest declares upgrades");
/// let new = Release::new("2", "memory:2");
/// upgrade.check(&cx, &new).await?;
/// match upgrade.upgrade(&cx, &new).await {
///     Ok(()) => upgrade.commit(&cx).await?,
///     Err(_) => upgrade.revert(&cx, &old).await?,
/// }
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Upgrade: Send + Sync {
    /// Validates an upgrade without changing anything: pulls the image, reads its engine and
    /// version, and checks the disk space for a copy of the data if one is needed.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::error::Kind::NotFound) for an image that does not exist,
    /// [`Conflict`](crate::error::Kind::Conflict) for an image of another engine or version,
    /// [`Unsupported`](crate::error::Kind::Unsupported) if the engine has no such upgrade path,
    /// [`NoSpace`](crate::error::Kind::NoSpace).
    async fn check(&self, cx: &Cx, to: &Release) -> Result<()>;

    /// Stops the server and starts the other release on the same data. After an error, the caller
    /// calls [`revert`](Self::revert).
    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()>;

    /// Rolls back to the previous release, with the data as it was if the upgrade changed it.
    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()>;

    /// Makes the upgrade final: deletes what only a rollback would need.
    async fn commit(&self, cx: &Cx) -> Result<()>;
}

/// Changes the memory and processor limits of a server.
#[async_trait]
pub trait Resize: Send + Sync {
    /// Restarts the server with the limits of this flavor and the settings derived from them. Does
    /// nothing if the server has them already.
    async fn resize(&self, cx: &Cx, flavor: &Flavor) -> Result<()>;
}
