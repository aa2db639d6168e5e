use std::fmt;

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    id::InstanceId,
    secret::{ExposeSecret, MasterKeys, Sealed, SecretString, fill_random},
};

const KEY_BYTES: usize = 32;

/// The 256-bit key that an instance's guest and the control plane share, and nobody else. It comes from the operating
/// system's random source and is told from those before and after it by its number.
#[derive(Clone)]
pub struct InstanceKey {
    id: u32,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl InstanceKey {
    /// A new key of this number.
    pub fn generate(id: u32) -> Result<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        fill_random(bytes.as_mut_slice())?;
        Ok(Self { id, bytes })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The key as it is stored by the control plane: only the same master keys open it, for the same instance and number.
    pub fn wrap(&self, master: &MasterKeys, instance: InstanceId) -> Result<Sealed> {
        master.seal(&owner(instance, self.id), &self.to_text())
    }

    /// The key in what [`wrap`](Self::wrap) made; [`Corrupt`](crate::error::Kind::Corrupt) otherwise.
    pub fn unwrap(id: u32, sealed: &Sealed, master: &MasterKeys, instance: InstanceId) -> Result<Self> {
        Self::from_text(id, &master.open(&owner(instance, id), sealed)?)
    }

    /// The key in base64, as its guest's configuration has it.
    pub fn to_text(&self) -> SecretString {
        SecretString::from(BASE64_STANDARD.encode(self.bytes.as_slice()))
    }

    /// The key in what [`to_text`](Self::to_text) made.
    pub fn from_text(id: u32, text: &SecretString) -> Result<Self> {
        let wrong = || Error::invalid("an instance's key is 32 bytes in base64");
        let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.expose_secret().trim()).map_err(|_| wrong())?);
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| wrong())?;
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

fn owner(instance: InstanceId, id: u32) -> String {
    format!("rpc key {id} of {instance}")
}
