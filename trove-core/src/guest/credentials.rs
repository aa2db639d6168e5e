//! What a guest has to be somebody: to the control plane and at the bus.

use serde::{Deserialize, Serialize};

use super::clear;
use crate::rpc::{Access, BusLogin, Entrance, InstanceKey, Keys};

/// What a guest is somebody with: a key, and where the bus asks for it a login, both of the same number.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Credentials {
    #[serde(with = "clear::key")]
    key: InstanceKey,
    #[serde(with = "clear::bus_login")]
    login: Option<BusLogin>,
}

impl Credentials {
    /// This key, and the login in this access.
    pub fn new(key: InstanceKey, access: &Access) -> Self {
        Self { key, login: access.login() }
    }

    pub(super) fn number(&self) -> u32 {
        self.key.id()
    }
}

/// The credentials that a guest has: one, or two from when it is told of others until the control plane uses those.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Wallet(
    /// The newest at the end.
    Vec<Credentials>,
);

impl Wallet {
    pub(super) fn of(credentials: Credentials) -> Self {
        Self(vec![credentials])
    }

    /// Those of a file may be newer than what was noted, and where they are older they are over.
    #[cfg(feature = "amqp")]
    pub(super) fn take_newer(&mut self, of: Self) {
        let newest = self.0.last().map_or(0, Credentials::number);
        self.0.extend(of.0.into_iter().filter(|credentials| credentials.number() > newest));
    }

    /// Takes these too, in place of those of the same number.
    pub(super) fn add(&mut self, credentials: Credentials) {
        self.0.retain(|other| other.number() != credentials.number());
        self.0.push(credentials);
        self.0.sort_by_key(Credentials::number);
    }

    /// Drops those below this number.
    pub(super) fn drop_before(&mut self, number: u32) {
        self.0.retain(|credentials| credentials.number() >= number);
    }
}

/// Who a guest is while it lives: what it answers to, and how it logs in.
#[derive(Clone)]
pub(super) struct Standing {
    pub(super) keys: Keys,
    pub(super) entrance: Entrance,
}

impl Standing {
    /// Somebody who enters by this access, with these credentials.
    pub(super) fn new(access: &Access, wallet: &Wallet) -> Self {
        let standing = Self { keys: Keys::default(), entrance: access.enter() };
        standing.apply(wallet);
        standing
    }

    /// Answers to these keys too, and logs in with these logins only, from the next connection on.
    pub(super) fn apply(&self, wallet: &Wallet) {
        wallet.0.iter().for_each(|credentials| self.keys.learn(credentials.key.clone()));
        self.entrance.log_in_as(wallet.0.iter().filter_map(|credentials| credentials.login.clone()).collect());
    }
}
