//! Fetches the master keys of a service.

use std::time::Duration;

use crate::{
    error::{Effect, Error, Result},
    secret::{KeyFile, KeyProvider, MasterKey, MasterKeys},
    store::Store,
};

/// The deadline for a key provider.
const DEADLINE: Duration = Duration::from_secs(30);

/// Fetches the keys from a provider.
pub(super) async fn fetch(provider: &dyn KeyProvider) -> Result<MasterKeys> {
    let late = |_| Err(Error::timeout("the provider of master keys did not respond in time").with_effect(Effect::None));
    tokio::time::timeout(DEADLINE, provider.keys()).await.unwrap_or_else(late)
}

/// Returns the keys of a store without a configured provider.
pub(super) async fn default_for(store: &Store, url: &str) -> Result<MasterKeys> {
    let Some(file) = store.file() else {
        if url.starts_with("sqlite:") {
            return MasterKey::generate().map(MasterKeys::new);
        }
        return Err(Error::invalid("a PostgreSQL store requires a provider of master keys"));
    };
    let mut name = file.into_os_string();
    name.push(".key");
    fetch(&KeyFile::new(name)).await
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::error::Kind;

    struct Silent;

    #[async_trait]
    impl KeyProvider for Silent {
        async fn keys(&self) -> Result<MasterKeys> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_provider_that_hangs_times_out() {
        let error = fetch(&Silent).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient(), error.effect()), (Kind::Timeout, true, Effect::None));
    }
}
