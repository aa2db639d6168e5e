//! The guest agent: manages the server of one instance on behalf of the control plane, and keeps it
//! running.
//!
//! ```text
//!   task manager --job(operation, epoch, arguments)--> Agent --prepare/start/stop/remove--> Datastore (the driver)
//!                                                        |  ^
//!                  conductor <------ notice ------------'  `-- observe, changed: every 2 s and on every event
//! ```
//!
//! - A long-running change is a **job**, identified by its operation: a repeated request joins it or
//!   returns its result.
//! - One job at a time changes the server; observations never wait for it.
//! - Callers with a lower epoch than the highest seen are rejected.
//! - **The agent owns restarts.** A server that should run but does not is restarted if that is
//!   safe: at once, then with exponential back-off of up to a minute. A lost data directory is never
//!   initialized again.

mod agent;
#[cfg(feature = "amqp")]
mod agent_config;
#[cfg(feature = "amqp")]
mod agent_process;
mod agent_state;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod identity;
mod local_agent;
pub(crate) mod message;
mod protocol;
mod queues;
mod request_handler;
mod restart_policy;
mod sanitize;
mod sanitize_reply;
#[cfg(test)]
mod tests;
mod wire;

pub use agent::AgentSettings;
#[cfg(feature = "amqp")]
pub use agent_config::AgentConfig;
#[cfg(feature = "amqp")]
pub use agent_process::serve;

pub(crate) use agent::REPORT_EXPIRES;
#[cfg(feature = "amqp")]
pub(crate) use agent_config::agent_setup;
#[cfg(all(feature = "amqp", feature = "conformance"))]
pub(crate) use agent_config::host_of;
pub(crate) use identity::{GuestIdentity, SealedGuestIdentity};
pub(crate) use local_agent::{LocalAgent, LocalConnection};
pub(crate) use protocol::{AccountsCall, AccountsReply, Job, JobStatus};
pub(crate) use queues::{authorize, revoke};
pub(crate) use sanitize::{sanitize_observed, sanitize_text};
pub(crate) use sanitize_reply::{decode_marker, sanitize_reply};

/// Without the feature `amqp` there are no remote agents.
#[cfg(all(not(feature = "amqp"), feature = "conformance"))]
pub(crate) fn host_of(_text: &str) -> crate::error::Result<crate::datastore::GuestHost> {
    Err(crate::error::Error::unsupported("remote agents require the feature amqp"))
}

#[cfg(not(feature = "amqp"))]
pub(crate) fn agent_setup(
    _instance: &crate::model::Instance,
    _identity: &GuestIdentity,
    _endpoint: &crate::rpc::BrokerEndpoint,
    _login: Option<crate::datastore::RegistryLogin>,
) -> Option<crate::platform::AgentSetup> {
    None
}
