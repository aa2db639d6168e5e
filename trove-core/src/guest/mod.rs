//! The guest agent: hosts the engine of one instance, does what the task manager asks, and keeps the server running.
//!
//! ```text
//!   task manager --job(key, epoch, work)--> Agent --prepare/start/stop/remove--> Datastore (the driver)
//!                                             |  ^
//!                  conductor <--Report--------'  `-- observe, changed: every 2 s and on every event
//! ```
//!
//! - Long work is a **job**, keyed by the operation it is for: asked again it is joined, or its result returned.
//! - One thing changes the server at a time; looking at it never waits for that.
//! - A caller with a lower epoch than the highest seen is refused.
//! - **The agent owns restarts.** A server that should run and does not is started again where that is safe: at once,
//!   then with growing pauses of up to a minute. A lost data directory is never initialised anew.

mod agent;
#[cfg(feature = "amqp")]
mod apart;
#[cfg(feature = "amqp")]
mod configuration;
mod desk;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod heal;
mod hub;
mod identity;
mod lifeline;
mod local;
mod message;
mod notes;
mod protocol;
mod remote;
mod telling;
#[cfg(test)]
mod tests;
mod wire;

pub use agent::Settings;
#[cfg(feature = "amqp")]
pub use apart::serve;
#[cfg(feature = "amqp")]
pub use configuration::Configuration;
pub use hub::{Call, Guests};
pub use identity::{GuestIdentity, SealedGuestIdentity};
pub use protocol::{AccountsCall, AccountsReply, JobEnd, Work};
pub use telling::Telling;

#[cfg(all(feature = "amqp", feature = "conformance"))]
pub(crate) use configuration::host_in;
#[cfg(feature = "amqp")]
pub(crate) use configuration::setup;
#[cfg(feature = "conformance")]
pub(crate) use hub::{admit, dismiss};

/// Without a way to them there are no agents elsewhere.
#[cfg(all(not(feature = "amqp"), feature = "conformance"))]
pub(crate) fn host_in(_text: &str) -> crate::error::Result<crate::datastore::GuestHost> {
    Err(crate::error::Error::unsupported("agents elsewhere need the feature amqp"))
}

#[cfg(not(feature = "amqp"))]
pub(crate) fn setup(
    _instance: &crate::model::Instance,
    _identity: &GuestIdentity,
    _endpoint: &crate::rpc::BrokerEndpoint,
    _login: Option<crate::datastore::RegistryLogin>,
) -> Option<crate::platform::AgentSetup> {
    None
}
