//! What a service asks for its master keys.

use std::time::Duration;

use crate::{
    error::{Effect, Error, Result},
    secret::{KeyFile, KeyProvider, MasterKey, MasterKeys},
    store::Store,
};

/// How long a provider may take.
const LIMIT: Duration = Duration::from_secs(30);

/// What the provider gives in time.
pub(super) async fn ask(provider: &dyn KeyProvider) -> Result<MasterKeys> {
    let late = |_| Err(Error::timeout("the master keys were not given in time").having(Effect::None));
    tokio::time::timeout(LIMIT, provider.keys()).await.unwrap_or_else(late)
}

/// The keys of a store that no provider was named for.
pub(super) async fn own(store: &Store, url: &str) -> Result<MasterKeys> {
    let Some(file) = store.file() else {
        if url.starts_with("sqlite:") {
            return MasterKey::generate().map(MasterKeys::new);
        }
        return Err(Error::invalid("a store on a server needs a provider of master keys"));
    };
    let mut name = file.into_os_string();
    name.push(".key");
    ask(&KeyFile::new(name)).await
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
    async fn a_provider_that_does_not_answer_is_given_up() {
        let error = ask(&Silent).await.unwrap_err();
        assert_eq!((error.kind(), error.is_transient(), error.effect()), (Kind::Timeout, true, Effect::None));
    }
}
