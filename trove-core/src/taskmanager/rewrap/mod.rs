//! Rewraps all secrets that are sealed by a former master key when the service starts.
//!
//! Nothing else uses the store at that time. Each page is one compare-and-swap transaction, so a
//! process that is killed leaves complete pages, and the next start continues with the rest.

#[cfg(all(test, feature = "sqlite"))]
mod tests;

use super::{ControlPlane, login_owner};
use crate::{
    error::{Error, Kind, Result},
    flow::FlowRegistry,
    guest::GuestIdentity,
    secret::{MasterKeys, Sealed},
    store::{Rewrapped, Store, StoredVersion},
};

const PAGE: u32 = 100;

/// Rewraps all secrets in the store. Afterwards only corrupt secrets, which are logged, still need
/// a former key.
///
/// [`Invalid`](Kind::Invalid) if a secret is sealed by a key that is missing; pages before it stay
/// rewrapped.
pub(crate) async fn rewrap(store: &Store, keys: &MasterKeys, flows: &FlowRegistry<ControlPlane>) -> Result<()> {
    let counts = [identities(store, keys).await?, states(store, keys, flows).await?, logins(store, keys).await?];
    let rewrapped: usize = counts.iter().sum();
    if rewrapped > 0 {
        tracing::info!(rewrapped, key = %keys.current().id(), "rewrapped secrets with the current master key");
    }
    Ok(())
}

async fn identities(store: &Store, keys: &MasterKeys) -> Result<usize> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = store.identities_not_sealed_by(keys.current().id(), last, PAGE).await?;
        let Some((instance, identity)) = page.last() else { return Ok(count) };
        last = Some((*instance, identity.number));
        let mut rewrapped = Vec::new();
        for (instance, before) in page {
            match GuestIdentity::unwrap(&before, keys, instance) {
                Ok(identity) => {
                    let after = identity.wrap(keys, instance)?;
                    rewrapped.push(Rewrapped::Identity { instance, before, after });
                }
                Err(error) => skip_corrupt(error, &format!("identity {} of instance {instance}", before.number))?,
            }
        }
        store.rewrap(&rewrapped).await?;
        count += rewrapped.len();
    }
}

async fn states(store: &Store, keys: &MasterKeys, flows: &FlowRegistry<ControlPlane>) -> Result<usize> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = store.operation_states(last, PAGE).await?;
        let Some(state) = page.last() else { return Ok(count) };
        last = Some(state.operation);
        let mut rewrapped = Vec::new();
        for before in page {
            match flows.rewrap(&before.kind, &before.state, before.instance, keys) {
                Ok(None) => {}
                Ok(Some(after)) => rewrapped.push(Rewrapped::State { before, after }),
                Err(error) => skip_corrupt(error, &format!("operation {}", before.operation))?,
            }
        }
        store.rewrap(&rewrapped).await?;
        count += rewrapped.len();
    }
}

async fn logins(store: &Store, keys: &MasterKeys) -> Result<usize> {
    let mut rewrapped = Vec::new();
    for StoredVersion { version, password, .. } in store.versions(None).await? {
        let Some(before) = password.filter(|password| password.key() != Some(keys.current().id())) else { continue };
        let mut images = store.images_in_use(&version.datastore).await?;
        images.insert(0, version.image.clone());
        let after = login(keys, &images, &before)?;
        if after.is_none() {
            let (datastore, version) = (&version.datastore, &version.name);
            tracing::warn!(datastore, version, "dropped a registry login that belongs to no known image");
        }
        rewrapped.push(Rewrapped::RegistryPassword {
            datastore: version.datastore,
            version: version.name,
            before,
            after,
        });
    }
    store.rewrap(&rewrapped).await?;
    Ok(rewrapped.len())
}

/// Rewraps a login. It is bound to the registry of the image that it was set for; the version may
/// have another image since.
fn login(keys: &MasterKeys, images: &[String], sealed: &Sealed) -> Result<Option<Sealed>> {
    for image in images {
        let mut login = sealed.clone();
        match keys.rewrap(&login_owner(image), &mut login) {
            Ok(_) => return Ok(Some(login)),
            Err(error) if error.kind() == Kind::Corrupt => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Logs a secret that cannot be read, so that it does not keep the service from starting.
fn skip_corrupt(error: Error, what: &str) -> Result<()> {
    match error.kind() {
        Kind::Corrupt | Kind::Unsupported => {
            tracing::error!(what, error = error.report(), "failed to rewrap a secret");
            Ok(())
        }
        _ => Err(error.with("what", what)),
    }
}
