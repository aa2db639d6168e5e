use std::env::{self, VarError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{KeyProvider, MasterKeys};
use crate::error::{Error, Result};

/// Reads master keys from an environment variable: in base64, separated by commas, the current key
/// first.
#[derive(Clone, Debug)]
pub struct KeyVariable {
    name: String,
}

impl KeyVariable {
    /// Creates a provider for the variable of this name, which is read when a service starts.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// Fails with [`Invalid`](crate::error::Kind::Invalid) if the variable is not set or malformed. The
/// error does not show its value.
#[async_trait]
impl KeyProvider for KeyVariable {
    async fn keys(&self) -> Result<MasterKeys> {
        let place = format!("the environment variable {}", self.name);
        match env::var(&self.name).map(Zeroizing::new) {
            Ok(text) => MasterKeys::read(&place, text.split(',').map(str::trim).filter(|text| !text.is_empty())),
            Err(VarError::NotPresent) => {
                Err(Error::invalid(format!("{place} is not set; it must contain the master key")))
            }
            // The source would reveal the value.
            Err(VarError::NotUnicode(_)) => Err(Error::invalid(format!("{place} is not valid Unicode"))),
        }
    }
}
