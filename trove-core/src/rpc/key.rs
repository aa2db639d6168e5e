use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    id::InstanceId,
    secret::{ExposeSecret, MasterKeys, Sealed, SecretString, fill_random},
};

const KEY_BYTES: usize = 32;

/// The 256-bit key that the control plane shares with the guest of one instance.
///
/// The key comes from the random source of the operating system. Its number, counted from 1,
/// distinguishes it from the other keys of the same instance. It is zeroed when dropped, and
/// `Debug` prints only the number.
#[derive(Clone)]
pub struct InstanceKey {
    id: u32,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl InstanceKey {
    /// Generates a random key with this number.
    pub fn generate(id: u32) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut_slice())?;
        Ok(Self { id, bytes })
    }

    /// Returns the number of the key.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Encrypts the key with the master keys, bound to this instance and to the number of the key.
    pub fn wrap(&self, master: &MasterKeys, instance: InstanceId) -> Result<Sealed> {
        master.seal(&binding(instance, self.id), &self.to_text())
    }

    /// Decrypts a key that [`wrap`](Self::wrap) encrypted.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::error::Kind::Corrupt) if it was encrypted with other master keys, for
    /// another instance or with another number.
    pub fn unwrap(id: u32, sealed: &Sealed, master: &MasterKeys, instance: InstanceId) -> Result<Self> {
        Self::from_text(id, &master.open(&binding(instance, id), sealed)?)
    }

    /// Returns the key in base64, the form in which an agent's configuration file contains it.
    pub fn to_text(&self) -> SecretString {
        SecretString::from(BASE64_STANDARD.encode(self.bytes.as_slice()))
    }

    /// Parses a key in base64, the form that [`to_text`](Self::to_text) returns.
    pub fn from_text(id: u32, text: &SecretString) -> Result<Self> {
        let invalid = || Error::invalid("an instance key must be 32 bytes in base64");
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.expose_secret().trim()).map_err(|_| invalid())?);
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| invalid())?;
        Ok(Self { id, bytes: Zeroizing::new(bytes) })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

impl fmt::Debug for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InstanceKey({}, [redacted])", self.id)
    }
}

fn binding(instance: InstanceId, id: u32) -> String {
    format!("rpc key {id} of {instance}")
}
