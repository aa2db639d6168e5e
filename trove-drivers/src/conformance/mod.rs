//! Servers in containers for the [driver suite](trove_core::conformance::driver), which the author
//! of an engine runs.
//!
//! ```no_run
//! use async_trait::async_trait;
//! use trove_core::{
//!     conformance::driver::{self, ClientLogin, ClientSession},
//!     error::Result,
//!     model::Endpoint,
//! };
//! use trove_drivers::{
//!     PostgreSql,
//!     conformance::{DockerTestbed, Sessions},
//! };
//!
//! /// Opens sessions with a client library of the engine.
//! struct Clients;
//!
//! #[async_trait]
//! impl Sessions for Clients {
//!     async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
//!         // Connect, and return a `ClientSession` that uses the connection.
//!         # let message = format!("{} at {}", login.user, endpoint.port);
//!         # Err(trove_core::error::Error::unavailable(message))
//!     }
//! }
//!
//! # async fn certify() -> Result<()> {
//! let testbed = DockerTestbed::new(PostgreSql::new())?.sessions(Clients);
//! let report = driver::certify(testbed).await;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

mod artifacts;
mod faults;
mod file_systems;
mod local;
mod testbed;

use async_trait::async_trait;
use trove_core::{
    conformance::driver::{ClientLogin, ClientSession},
    error::Result,
    model::Endpoint,
};

pub use local::LocalTestbed;
pub use testbed::DockerTestbed;

/// Opens client sessions with servers of an engine.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// Opens a session with the server at this endpoint. If the server rejects the login, the error
    /// may have any kind.
    ///
    /// Must have a deadline, because the suite also calls it while a server hangs.
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>>;
}
