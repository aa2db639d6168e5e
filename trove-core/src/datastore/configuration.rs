use async_trait::async_trait;

use super::Cx;
use crate::{
    error::Result,
    model::{ParameterCatalog, Settings},
};

/// Reads the parameters of a server and applies the settings of an instance.
///
/// Settings satisfy the [catalog](Self::catalog) and
/// [`Driver::check_settings`](super::Driver::check_settings) before they get here.
///
/// ```
/// # #[cfg(feature = "conformance")]
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// # use trove_core::conformance::{driver::DriverTestbed, memory::World};
/// use trove_core::{
///     datastore::{Cx, Driver, Prepare, check_settings},
///     id::OperationId,
///     model::Settings,
/// };
///
/// # let testbed = World::new().testbed();
/// # let (driver, host) = (testbed.driver().clone(), testbed.allocate().await?);
/// # let flavor = host.flavor.clone();
/// let datastore = driver.attach(host)?;
/// let cx = Cx::new(OperationId::new_v4(), 1);
/// datastore.prepare(&cx, &Prepare::default()).await?;
/// let configuration = datastore.abilities().configuration.expect("the manifest declares configuration");
/// let catalog = configuration.catalog(&cx).await?;
/// let wanted = Settings::from([("max_rows".to_owned(), 10.into())]);
/// let settings = check_settings(&catalog, &wanted)?;
/// driver.check_settings(&flavor, &settings)?;
/// configuration.apply(&cx, &settings).await?;
/// # Ok::<_, trove_core::error::Error>(()) }).unwrap();
/// ```
#[async_trait]
pub trait Configuration: Send + Sync {
    /// Returns the digest of the instance's image, which identifies its catalog. Pulls the image if
    /// it is absent.
    async fn digest(&self, cx: &Cx) -> Result<String>;

    /// Reads the parameters, and which of them a running server can change, from a temporary server
    /// of the instance's image. The instance itself is neither needed nor touched.
    async fn catalog(&self, cx: &Cx) -> Result<ParameterCatalog>;

    /// Replaces the settings of the instance. A parameter that is absent returns to its default. A
    /// running server applies at once what it can; [`observe`](super::Datastore::observe) reports
    /// the rest until the server is restarted. A stopped server applies the settings at its next
    /// start.
    ///
    /// If the server rejects a value, the result is [`Invalid`](crate::error::Kind::Invalid) and
    /// the settings stay as they were. If a later start fails with the new settings, they are
    /// rolled back to those of the last successful start, and `observe` reports that.
    async fn apply(&self, cx: &Cx, settings: &Settings) -> Result<()>;
}
