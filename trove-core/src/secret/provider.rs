use async_trait::async_trait;

use super::MasterKeys;
use crate::error::Result;

/// A source of master keys.
///
/// The library has [`KeyFile`](super::KeyFile) and [`KeyVariable`](super::KeyVariable). Another
/// implementation may fetch the keys from a key management service:
///
/// ```
/// use trove_core::{error::{Error, Result}, secret::{KeyProvider, MasterKey, MasterKeys}};
///
/// struct Kms;
///
/// #[async_trait::async_trait]
/// impl KeyProvider for Kms {
///     async fn keys(&self) -> Result<MasterKeys> {
///         let fetched: Result<String> = Err(Error::unavailable("could not reach the key management service"));
///         Ok(MasterKeys::new(MasterKey::from_base64(&fetched?)?))
///     }
/// }
/// ```
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// Returns the current key and all former keys that sealed values may still need.
    ///
    /// Called once when a service starts, with a deadline of 30 seconds. Errors must not contain
    /// key material.
    async fn keys(&self) -> Result<MasterKeys>;
}

/// Provides a copy of itself.
#[async_trait]
impl KeyProvider for MasterKeys {
    async fn keys(&self) -> Result<MasterKeys> {
        Ok(self.clone())
    }
}
