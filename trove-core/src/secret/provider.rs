use async_trait::async_trait;

use super::MasterKeys;
use crate::error::Result;

/// Where the master keys come from.
///
/// Two come with the library, a [`KeyFile`](super::KeyFile) and a [`KeyVariable`](super::KeyVariable); another may
/// ask a service that keeps keys.
#[async_trait]
pub trait KeyProvider: Send + Sync + 'static {
    /// The keys as they are now: the current one, and all former ones that something may still be sealed by.
    ///
    /// Asked once when a service starts, which gives up after 30 seconds and drops the call. Nothing of a key is to be
    /// in an error.
    async fn keys(&self) -> Result<MasterKeys>;
}

/// Keys that are known already.
#[async_trait]
impl KeyProvider for MasterKeys {
    async fn keys(&self) -> Result<MasterKeys> {
        Ok(self.clone())
    }
}
