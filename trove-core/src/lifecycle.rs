//! The states of an instance, the actions on it, and which action is allowed in which state. Pure:
//! no I/O.
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
//!   ACTIVE --configure--> CONFIGURING --done--> ACTIVE; likewise upgrade (UPGRADING), resize (RESIZING)
//!                                               and rotate (ROTATING)
//!
//!   any state --delete--> DELETING --done--> (none)
//!   any operation that can be neither completed nor undone --> ERROR, until it is resumed or the
//!                                                              instance is deleted
//! ```
//!
//! | state | allowed actions | on failure |
//! |---|---|---|
//! | `BUILD` | delete | all resources are removed; `ERROR` with the reason |
//! | `ACTIVE` | restart, stop, configure, upgrade, resize, rotate, delete, accounts | back to `ACTIVE` with a fault |
//! | `STOPPED` | start, delete | back to `STOPPED` with a fault |
//! | `RESTARTING`, `STOPPING`, `STARTING`, `CONFIGURING`, `UPGRADING`, `RESIZING` | delete | |
//! | `ROTATING` | delete, accounts | |
//! | `DELETING` | delete (joins the running deletion) | retried for about ten minutes, then `ERROR` |
//! | `ERROR` | delete | |
//!
//! A deletion ends all other operations on the instance at their current step and then removes all
//! resources. Any other action that is not allowed is a [`Conflict`](crate::error::Kind::Conflict).
//!
//! # Health: what the guest agent last observed of the server
//!
//! The agent probes the server every two seconds, and at once when the driver signals a change.
//!
//! | [health](crate::model::Health) | meaning | reaction of the agent |
//! |---|---|---|
//! | `Healthy` | the server answered an authenticated query | |
//! | `Impaired` | the server answers, but its disk is full, it recovers from memory exhaustion, or it is read-only | reports the reason; makes it writable |
//! | `Starting` | the server is starting | waits |
//! | `Down` | the server was killed, paused or removed, has no data directory, ... | restarts it where that loses no data |
//! | `Stopped` | the server was stopped on request | stops it if something else starts it |
//! | `Unknown` | no report for 90 s, or the container engine does not respond | keeps probing |
//!
//! # Status: a summary of both
//!
//! | state | health | [status](crate::model::Status) |
//! |---|---|---|
//! | `ACTIVE` | `Healthy` | `ACTIVE` |
//! | `ACTIVE` | `Impaired` | `IMPAIRED`, with the reason |
//! | `ACTIVE` | `Down`, `Stopped` | `DOWN`, with the reason |
//! | `ACTIVE` | `Unknown` | `UNKNOWN`, with the reason |
//! | `ACTIVE` | `Starting` | `STARTING` |
//! | any other | any | the state |

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The state of an instance: what the control plane is doing, or has done, with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The instance is being created.
    Build,
    /// The server should be running.
    Active,
    /// The server is being restarted.
    Restarting,
    /// The server is being stopped.
    Stopping,
    /// The server should be stopped.
    Stopped,
    /// The server is being started.
    Starting,
    /// A change of the settings is being applied.
    Configuring,
    /// The instance is being upgraded.
    Upgrading,
    /// The instance is being resized.
    Resizing,
    /// The identity of the guest is being rotated.
    Rotating,
    /// The instance is being deleted.
    Deleting,
    /// The creation failed, or an operation is stuck.
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

/// An action on an existing instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Restart the server.
    Restart,
    /// Stop the server.
    Stop,
    /// Start the server.
    Start,
    /// Change the settings.
    Configure,
    /// Upgrade to another version or image.
    Upgrade,
    /// Resize to another flavor.
    Resize,
    /// Rotate the identity of the guest.
    Rotate,
    /// Delete the instance; allowed in every state.
    Delete,
    /// Read or change databases and users.
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
            Self::Rotate => "have its identity rotated",
            Self::Delete => "be deleted",
            Self::Accounts => "have its accounts read or changed",
        })
    }
}

/// Returns the state of an instance while `action` runs; [`Conflict`](crate::error::Kind::Conflict)
/// if the action is not allowed in this state.
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

/// Returns whether the server of an instance in this state should run, so that its agent may start
/// it.
pub fn should_serve(state: State) -> bool {
    match state {
        State::Active | State::Restarting | State::Starting | State::Configuring | State::Rotating => true,
        // During an upgrade or a resize, only the operation knows which server to start.
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

    fn allowed(state: State) -> Vec<Action> {
        Action::ALL.into_iter().filter(|action| admit(state, *action).is_ok()).collect()
    }

    #[test]
    fn every_instance_can_be_deleted() {
        for state in State::ALL {
            assert_eq!(admit(state, Action::Delete).unwrap(), State::Deleting, "{state}");
        }
    }

    #[test]
    fn actions_that_change_the_state_of_the_instance_exclude_each_other() {
        for action in Action::ALL {
            for from in State::ALL {
                let Ok(to) = admit(from, action) else { continue };
                let expected: &[Action] =
                    if to == State::Rotating { &[Action::Delete, Action::Accounts] } else { &[Action::Delete] };
                assert!(to == from || allowed(to) == expected, "{action:?} in {from}: {:?}", allowed(to));
            }
        }
    }

    #[test]
    fn disallowed_actions_are_conflicts_that_name_state_and_action() {
        let error = admit(State::Stopped, Action::Resize).unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict);
        assert_eq!(error.to_string(), "an instance in state STOPPED cannot be resized");
    }
}
