//! Servers in containers for the [suite of drivers](trove_core::conformance::driver): what the author of an engine runs.
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
//! /// Sessions by a client library of the engine.
//! struct Clients;
//!
//! #[async_trait]
//! impl Sessions for Clients {
//!     async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
//!         // Connect, and return what implements `ClientSession` with the connection.
//!         # let to = format!("{} at {}", login.user, endpoint.port);
//!         # Err(trove_core::error::Error::unavailable(to))
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

/// How clients of an engine get sessions.
#[async_trait]
pub trait Sessions: Send + Sync + 'static {
    /// A session with the server at this endpoint. A login that it refuses is an error of any kind. Ends in time,
    /// whatever the server does.
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>>;
}
