use async_trait::async_trait;

use super::Cx;
use crate::{
    error::Result,
    model::{ParameterCatalog, Settings},
};

/// The parameters of a server, and the settings of this one.
///
/// Settings were checked against the [catalog](Self::catalog) already, and against
/// [`Driver::check_settings`](super::Driver::check_settings).
#[async_trait]
pub trait Configuration: Send + Sync {
    /// The digest of the image that the instance runs from, by which its catalog is kept. Fetches the image where it
    /// is absent.
    async fn digest(&self, cx: &Cx) -> Result<String>;

    /// Reads from a throw-away server of the instance's image what can be configured, and which changes it takes while
    /// it runs. The instance itself is neither needed nor touched.
    async fn catalog(&self, cx: &Cx) -> Result<ParameterCatalog>;

    /// Makes these the settings of the instance, in place of those it has: what is absent goes back to its default. What
    /// a running server can take is in force at once; what it cannot is told by
    /// [`observe`](super::Datastore::observe) until the server was restarted. Where the server does not run, all is in
    /// force when it starts.
    ///
    /// A value that the server refuses is [`Invalid`](crate::error::Kind::Invalid), and the settings stay what they were.
    /// One with which it later does not start is given up then, with all that changed since it last did, and
    /// `observe` tells.
    async fn apply(&self, cx: &Cx, settings: &Settings) -> Result<()>;
}
