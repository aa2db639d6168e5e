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
mod clear;
mod desk;
mod heal;
mod hub;
mod identity;
mod local;
mod message;
mod protocol;
mod remote;
mod telling;
#[cfg(test)]
mod tests;

pub use agent::Settings;
pub use hub::{Call, Guests, JobEnd};
pub use identity::Identity;
pub use protocol::{AccountsCall, AccountsReply, Work};
pub use telling::Telling;
