use std::env::{self, VarError};

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{KeyProvider, MasterKeys};
use crate::error::{Error, Result};

/// Master keys in a variable of the environment: in base64, separated by commas, the current first.
#[derive(Clone, Debug)]
pub struct KeyVariable {
    name: String,
}

impl KeyVariable {
    /// The variable of this name. It is read when a service starts.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into() }
    }
}

/// [`Invalid`](crate::error::Kind::Invalid) where the variable is not set or holds anything else; none of it is shown.
#[async_trait]
impl KeyProvider for KeyVariable {
    async fn keys(&self) -> Result<MasterKeys> {
        let place = format!("the environment variable {}", self.name);
        match env::var(&self.name).map(Zeroizing::new) {
            Ok(text) => MasterKeys::read(&place, text.split(',').map(str::trim).filter(|text| !text.is_empty())),
            Err(VarError::NotPresent) => {
                Err(Error::invalid(format!("{place} is not set; it should hold the master key")))
            }
            // The source would show what it holds.
            Err(VarError::NotUnicode(_)) => Err(Error::invalid(format!("{place} holds no text"))),
        }
    }
}
