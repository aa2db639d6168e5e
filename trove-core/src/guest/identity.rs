//! The identity of a guest: its credentials for the control plane and the message broker.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::wire;
use crate::{
    error::Result,
    id::InstanceId,
    rpc::{BrokerLogin, InstanceKey, KeyRing, Transport},
    secret::{MasterKeys, Sealed, SecretString, fill_random},
};

const PASSWORD_BYTES: usize = 32;

/// The identity of a guest: the key that it shares with the control plane, and its login at the message broker.
///
/// An instance has one identity, or two while it is being rotated. Both parts have the same number,
/// which increases with each rotation. `Debug` prints no secrets.
#[derive(Clone, Debug)]
pub(crate) struct GuestIdentity {
    /// The key that seals messages.
    pub(crate) key: InstanceKey,
    /// The login at the message broker. A transport in this process does not use it.
    pub(crate) login: BrokerLogin,
}

impl GuestIdentity {
    /// Generates an identity with this number, from 1.
    pub(crate) fn generate(instance: InstanceId, number: u32) -> Result<Self> {
        let mut password = Zeroizing::new([0; PASSWORD_BYTES]);
        fill_random(password.as_mut_slice())?;
        let password = SecretString::from(BASE64_STANDARD.encode(password.as_slice()));
        let login = BrokerLogin::for_guest(instance, number, password);
        Ok(Self { key: InstanceKey::generate(number)?, login })
    }

    /// Returns the number of the identity.
    pub(crate) fn number(&self) -> u32 {
        self.key.id()
    }

    /// Encrypts the identity for the store, bound to this instance. It is not
    /// [delivered](SealedGuestIdentity::delivered) yet.
    pub(crate) fn wrap(&self, master: &MasterKeys, instance: InstanceId) -> Result<SealedGuestIdentity> {
        let key = self.key.wrap(master, instance)?;
        let password = master.seal(&password_binding(instance, self.number()), &self.login.password)?;
        Ok(SealedGuestIdentity { number: self.number(), key, password, delivered: false })
    }

    /// Decrypts an identity that [`wrap`](Self::wrap) encrypted.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::Kind::Corrupt) if it was encrypted with other master keys or for
    /// another instance.
    pub(crate) fn unwrap(sealed: &SealedGuestIdentity, master: &MasterKeys, instance: InstanceId) -> Result<Self> {
        let key = InstanceKey::unwrap(sealed.number, &sealed.key, master, instance)?;
        let password = master.open(&password_binding(instance, sealed.number), &sealed.password)?;
        Ok(Self { key, login: BrokerLogin::for_guest(instance, sealed.number, password) })
    }
}

/// A [`GuestIdentity`] as it is stored: its secrets are encrypted with the master keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealedGuestIdentity {
    /// The number of the identity, from 1.
    pub(crate) number: u32,
    /// The key that seals messages.
    pub(crate) key: Sealed,
    /// The password of the login at the message broker.
    pub(crate) password: Sealed,
    /// True once the guest has the identity.
    pub(crate) delivered: bool,
}

/// The identities that a guest has: one, or two during a rotation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct GuestIdentities(
    /// In ascending order of their numbers.
    #[serde(with = "wire::identities")]
    Vec<GuestIdentity>,
);

impl GuestIdentities {
    pub(super) fn new(identity: GuestIdentity) -> Self {
        Self(vec![identity])
    }

    /// Adds the identities of a configuration file that are newer than the persisted ones. Older
    /// ones are obsolete.
    #[cfg(feature = "amqp")]
    pub(super) fn add_newer(&mut self, configured: Self) {
        let newest = self.0.last().map_or(0, GuestIdentity::number);
        self.0.extend(configured.0.into_iter().filter(|identity| identity.number() > newest));
    }

    /// Adds an identity, or replaces the one with the same number.
    pub(super) fn insert(&mut self, identity: GuestIdentity) {
        self.0.retain(|other| other.number() != identity.number());
        self.0.push(identity);
        self.0.sort_by_key(GuestIdentity::number);
    }

    /// Removes the identities with a lower number.
    pub(super) fn remove_before(&mut self, number: u32) {
        self.0.retain(|identity| identity.number() >= number);
    }

    /// Returns the logins, for [`Transport::set_logins`].
    pub(super) fn logins(&self) -> Vec<BrokerLogin> {
        self.0.iter().map(|identity| identity.login.clone()).collect()
    }

    /// Adds the keys to a key ring, and sets the logins of a transport.
    pub(super) fn apply(&self, keys: &KeyRing, transport: &dyn Transport) {
        self.0.iter().for_each(|identity| keys.insert(identity.key.clone()));
        transport.set_logins(self.logins());
    }
}

fn password_binding(instance: InstanceId, number: u32) -> String {
    format!("broker password {number} of {instance}")
}
