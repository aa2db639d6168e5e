//! Who a guest is.

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::{
    error::Result,
    id::InstanceId,
    rpc::InstanceKey,
    secret::{MasterKeys, SecretString, fill_random},
    store::StoredIdentity,
};

const PASSWORD_BYTES: usize = 32;

/// Who a guest is: to the control plane by a key, to the bus by a password, both of the same number.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What messages are sealed with.
    pub key: InstanceKey,
    /// What it logs in to the bus with.
    pub password: SecretString,
}

impl Identity {
    /// A new one of this number.
    pub fn generate(number: u32) -> Result<Self> {
        let mut password = Zeroizing::new([0; PASSWORD_BYTES]);
        fill_random(password.as_mut_slice())?;
        let password = SecretString::from(BASE64_STANDARD.encode(password.as_slice()));
        Ok(Self { key: InstanceKey::generate(number)?, password })
    }

    /// Which of the instance's identities it is.
    pub fn number(&self) -> u32 {
        self.key.id()
    }

    /// As it is stored before the guest knows it: only the same master keys open it, for the same instance.
    pub fn wrap(&self, master: &MasterKeys, instance: InstanceId) -> Result<StoredIdentity> {
        let key = self.key.wrap(master, instance)?;
        let password = master.seal(&password_owner(instance, self.number()), &self.password)?;
        Ok(StoredIdentity { number: self.number(), key, password, told: false })
    }

    /// What [`wrap`](Self::wrap) made; [`Corrupt`](crate::error::Kind::Corrupt) otherwise.
    pub fn unwrap(stored: &StoredIdentity, master: &MasterKeys, instance: InstanceId) -> Result<Self> {
        let key = InstanceKey::unwrap(stored.number, &stored.key, master, instance)?;
        Ok(Self { key, password: master.open(&password_owner(instance, stored.number), &stored.password)? })
    }
}

fn password_owner(instance: InstanceId, number: u32) -> String {
    format!("bus password {number} of {instance}")
}
