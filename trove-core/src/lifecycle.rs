//! The states of an instance, the operations on it, and which may begin in which. One table, pure, no I/O.
//!
//! ```text
//!             create                restart
//!   (none) ---------> BUILD      ACTIVE <-----> RESTARTING
//!                      |  \        ^  |
//!                  fails   `-------'  | stop
//!                      v    succeeds  v          start
//!                    ERROR          STOPPING -> STOPPED -> STARTING -> ACTIVE
//!
//!   every state --delete--> DELETING --> (none)          DELETING --stuck--> ERROR
//! ```
//!
//! A failed stop, start or restart goes back to the state it began in; whether the server serves is a question of
//! [health](crate::model::Health), not of state. Together they make the [status](crate::model::Status) that is shown.

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
    /// It is being removed.
    Deleting,
    /// It could not be created, or an operation on it is stuck.
    Error,
}

impl State {
    /// All states.
    pub const ALL: [Self; 8] = [
        Self::Build,
        Self::Active,
        Self::Restarting,
        Self::Stopping,
        Self::Stopped,
        Self::Starting,
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
    /// Remove it, whatever it is doing.
    Delete,
    /// Look at or change its databases and users.
    Accounts,
}

impl Action {
    /// All actions.
    pub const ALL: [Self; 5] = [Self::Restart, Self::Stop, Self::Start, Self::Delete, Self::Accounts];
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Restart => "be restarted",
            Self::Stop => "be stopped",
            Self::Start => "be started",
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
        (Action::Accounts, State::Active) => Ok(State::Active),
        (
            Action::Delete,
            State::Build
            | State::Active
            | State::Restarting
            | State::Stopping
            | State::Stopped
            | State::Starting
            | State::Deleting
            | State::Error,
        ) => Ok(State::Deleting),
        (
            Action::Restart | Action::Stop | Action::Accounts,
            State::Build
            | State::Restarting
            | State::Stopping
            | State::Stopped
            | State::Starting
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
            | State::Deleting
            | State::Error,
        ) => Err(Error::conflict(format!("an instance in state {state} cannot {action}"))),
    }
}

/// True where the server of an instance in this state should run.
pub fn should_serve(state: State) -> bool {
    match state {
        State::Active | State::Restarting | State::Starting => true,
        State::Build | State::Stopping | State::Stopped | State::Deleting | State::Error => false,
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
                    Action::Accounts if state == State::Active => Some(State::Active),
                    Action::Start if state == State::Stopped => Some(State::Starting),
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
