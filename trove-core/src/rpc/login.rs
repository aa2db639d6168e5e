use std::fmt;

use super::Address;
use crate::{id::InstanceId, secret::SecretString};

/// A user name and password at the message broker. `Debug` prints only the user name.
#[derive(Clone)]
pub struct BrokerLogin {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: SecretString,
}

impl BrokerLogin {
    /// Creates a login.
    pub fn new(user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        Self { user: user.into(), password: password.into() }
    }

    /// Creates the login of the guest of an instance, with the user name of that number.
    pub fn for_guest(instance: InstanceId, number: u32, password: impl Into<SecretString>) -> Self {
        Self::new(Self::guest_user(instance, number), password)
    }

    /// Returns the user name of a guest. Each number has a user of its own, so that a guest can
    /// change from one login to the next.
    pub fn guest_user(instance: InstanceId, number: u32) -> String {
        format!("{}.{number}", Address::guest(instance))
    }
}

impl fmt::Debug for BrokerLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BrokerLogin").field("user", &self.user).finish_non_exhaustive()
    }
}
