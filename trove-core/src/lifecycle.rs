//! The states of an instance, the operations on it, and which may begin in which. One table, pure, no I/O.
//!
//! # State: what the control plane does with an instance
//!
//! ```text
//!          create                          restart
//!   (none) ------> BUILD --done--> ACTIVE <--------> RESTARTING
//!                    |             |    ^
//!                 failed       stop|    |done
//!                    v             v    |
//!                  ERROR    STOPPING    STARTING
//!                              |            ^
//!                           done`-> STOPPED-'start
//!
//!   ACTIVE --configure--> CONFIGURING --done--> ACTIVE, and so with upgrade, UPGRADING, resize, RESIZING
//!                                                 and rotate, ROTATING
//!
//!   any state --delete--> DELETING --done--> (none)
//!   any operation that can neither go on nor be taken back --> ERROR, until it is resumed or the instance deleted
//! ```
//!
//! | in state | may begin | if it fails |
//! |---|---|---|
//! | `BUILD` | delete | everything made is removed; `ERROR` says why |
//! | `ACTIVE` | restart, stop, configure, upgrade, resize, rotate, delete, changes to accounts | back to `ACTIVE`, with the fault shown |
//! | `STOPPED` | start, delete | back to `STOPPED`, with the fault shown |
//! | `RESTARTING`, `STOPPING`, `STARTING`, `CONFIGURING`, `UPGRADING`, `RESIZING` | delete | |
//! | `ROTATING` | delete, changes to accounts | |
//! | `DELETING` | delete (joins the one under way) | tried again for about ten minutes, then `ERROR` |
//! | `ERROR` | delete | |
//!
//! A deletion ends whatever runs on the instance, where it stands, and then removes all there is. Anything else that may
//! not begin is [`Conflict`](crate::error::Kind::Conflict).
//!
//! # Health: what its server was last seen to be
//!
//! The guest agent looks every two seconds, and at once when the driver says that something changed.
//!
//! | [health](crate::model::Health) | means | the agent |
//! |---|---|---|
//! | `Healthy` | it answered an authenticated query | |
//! | `Impaired` | it answers, and its disk is full, it recovers from a want of memory, or it takes no writes | shows why, and opens it |
//! | `Starting` | it is on its way up | waits |
//! | `Down` | it was killed, paused, removed, has no data directory, ... | starts it again where that loses nothing |
//! | `Stopped` | it was stopped on request | stops it again if something starts it |
//! | `Unknown` | no report for 30 s, or what would tell (the container engine) does not answer | goes on looking |
//!
//! # Status: both in one word
//!
//! | state | health | [status](crate::model::Status) |
//! |---|---|---|
//! | `ACTIVE` | `Healthy` | `ACTIVE` |
//! | `ACTIVE` | `Impaired`, `Down`, `Unknown`, `Starting` | `IMPAIRED`, `DOWN`, `UNKNOWN`, `STARTING`, with the reason |
//! | any other | any | the state |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the control plane is doing, or has done, with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is being created.
    Build,
    /// It should serve.
    Active,
    /// Its server is being restarted.
    Restarting,
    /// Its server is being stopped.
    Stopping,
    /// Its server should be stopped.
    Stopped,
    /// Its server is being started.
    Starting,
    /// Its server is being given other settings.
    Configuring,
    /// It is being given another release.
    Upgrading,
    /// It is being given another flavor.
    Resizing,
    /// Its guest is being given another identity.
    Rotating,
    /// It is being removed.
    Deleting,
    /// It could not be created, or an operation on it is stuck.
    Error,
}

impl State {
    /// All states.
    pub const ALL: [Self; 12] = [
        Self::Build,
        Self::Active,
        Self::Restarting,
        Self::Stopping,
        Self::Stopped,
        Self::Starting,
        Self::Configuring,
        Self::Upgrading,
        Self::Resizing,
        Self::Rotating,
        Self::Deleting,
        Self::Error,
    ];
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Build => "BUILD",
            Self::Active => "ACTIVE",
            Self::Restarting => "RESTARTING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Configuring => "CONFIGURING",
            Self::Upgrading => "UPGRADING",
            Self::Resizing => "RESIZING",
            Self::Rotating => "ROTATING",
            Self::Deleting => "DELETING",
            Self::Error => "ERROR",
        })
    }
}

/// What can be asked of an existing instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Restart its server.
    Restart,
    /// Stop its server.
    Stop,
    /// Start its server.
    Start,
    /// Give its server other settings.
    Configure,
    /// Give it another release.
    Upgrade,
    /// Give it another flavor.
    Resize,
    /// Give its guest another identity.
    Rotate,
    /// Remove it, whatever it is doing.
    Delete,
    /// Look at or change its databases and users.
    Accounts,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 9] = [
        Self::Restart,
        Self::Stop,
        Self::Start,
        Self::Configure,
        Self::Upgrade,
        Self::Resize,
        Self::Rotate,
        Self::Delete,
        Self::Accounts,
    ];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Restart => "be restarted",
            Self::Stop => "be stopped",
            Self::Start => "be started",
            Self::Configure => "be configured",
            Self::Upgrade => "be upgraded",
            Self::Resize => "be resized",
            Self::Rotate => "be given another identity",
            Self::Delete => "be deleted",
            Self::Accounts => "have its accounts read or changed",
        })
    }
}

/// The state an instance is in while `action` runs; a [`Conflict`](crate::error::Kind::Conflict) where it may not begin.
pub fn admit(state: State, action: Action) -> Result<State> {
    match (action, state) {
        (Action::Restart, State::Active) => Ok(State::Restarting),
        (Action::Stop, State::Active) => Ok(State::Stopping),
        (Action::Start, State::Stopped) => Ok(State::Starting),
        (Action::Configure, State::Active) => Ok(State::Configuring),
        (Action::Upgrade, State::Active) => Ok(State::Upgrading),
        (Action::Resize, State::Active) => Ok(State::Resizing),
        (Action::Rotate, State::Active) => Ok(State::Rotating),
        (Action::Accounts, State::Active | State::Rotating) => Ok(state),
        (
            Action::Delete,
            State::Build
            | State::Active
            | State::Restarting
            | State::Stopping
            | State::Stopped
            | State::Starting
            | State::Configuring
            | State::Upgrading
            | State::Resizing
            | State::Rotating
            | State::Deleting
            | State::Error,
        ) => Ok(State::Deleting),
        (
            Action::Restart
            | Action::Stop
            | Action::Configure
            | Action::Upgrade
            | Action::Resize
            | Action::Rotate
            | Action::Accounts,
            State::Build
            | State::Restarting
            | State::Stopping
            | State::Stopped
            | State::Starting
            | State::Configuring
            | State::Upgrading
            | State::Resizing
            | State::Rotating
            | State::Deleting
            | State::Error,
        )
        | (
            Action::Start,
            State::Build
            | State::Active
            | State::Restarting
            | State::Stopping
            | State::Starting
            | State::Configuring
            | State::Upgrading
            | State::Resizing
            | State::Rotating
            | State::Deleting
            | State::Error,
        ) => Err(Error::conflict(format!("an instance in state {state} cannot {action}"))),
    }
}

/// True where the server of an instance in this state should run, and its agent may start it by itself.
pub fn should_serve(state: State) -> bool {
    match state {
        State::Active | State::Restarting | State::Starting | State::Configuring | State::Rotating => true,
        // While an instance is upgraded or resized only the operation knows what is to be started.
        State::Upgrading
        | State::Resizing
        | State::Build
        | State::Stopping
        | State::Stopped
        | State::Deleting
        | State::Error => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn the_table_of_actions_and_states() {
        for state in State::ALL {
            for action in Action::ALL {
                let expected = match action {
                    Action::Delete => Some(State::Deleting),
                    Action::Restart if state == State::Active => Some(State::Restarting),
                    Action::Stop if state == State::Active => Some(State::Stopping),
                    Action::Accounts if [State::Active, State::Rotating].contains(&state) => Some(state),
                    Action::Start if state == State::Stopped => Some(State::Starting),
                    Action::Configure if state == State::Active => Some(State::Configuring),
                    Action::Upgrade if state == State::Active => Some(State::Upgrading),
                    Action::Resize if state == State::Active => Some(State::Resizing),
                    Action::Rotate if state == State::Active => Some(State::Rotating),
                    _ => None,
                };
                match (admit(state, action), expected) {
                    (Ok(next), Some(expected)) => assert_eq!(next, expected, "{action:?} in {state}"),
                    (Err(error), None) => assert_eq!(error.kind(), Kind::Conflict, "{action:?} in {state}"),
                    (got, expected) => panic!("{action:?} in {state}: got {got:?}, expected {expected:?}"),
                }
            }
        }
    }
}
