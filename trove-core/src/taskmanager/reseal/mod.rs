//! At the start of the service: seals with the current master key what is sealed by a former one.
//!
//! Nothing else uses the store yet. Each page is one transaction that puts what is sealed anew in the place of what it
//! was, so that a process that dies meanwhile leaves whole pages behind, and the next start goes on with the rest.

#[cfg(all(test, feature = "sqlite"))]
mod tests;

use super::{ControlPlane, login_owner};
use crate::{
    error::{Error, Kind, Result},
    flow::Registry,
    guest::GuestIdentity,
    secret::{MasterKeys, Sealed},
    store::{Rewrapped, Store, StoredVersion},
};

const PAGE: u32 = 100;

/// Seals anew all there is. Afterwards only what is damaged needs a former key, and of that is told.
///
/// [`Invalid`](Kind::Invalid) where something is sealed by a key that is not given; what was done by then stays done.
pub(crate) async fn reseal(store: &Store, keys: &MasterKeys, flows: &Registry<ControlPlane>) -> Result<()> {
    let counts = [identities(store, keys).await?, states(store, keys, flows).await?, logins(store, keys).await?];
    let resealed: usize = counts.iter().sum();
    if resealed > 0 {
        tracing::info!(resealed, key = %keys.current().id(), "secrets were sealed with the current master key");
    }
    Ok(())
}

async fn identities(store: &Store, keys: &MasterKeys) -> Result<usize> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = store.identities_not_sealed_by(keys.current().id(), last, PAGE).await?;
        let Some((instance, identity)) = page.last() else { return Ok(count) };
        last = Some((*instance, identity.number));
        let mut resealed = Vec::new();
        for (instance, before) in page {
            match GuestIdentity::unwrap(&before, keys, instance) {
                Ok(identity) => {
                    let after = identity.wrap(keys, instance)?;
                    resealed.push(Rewrapped::Identity { instance, before, after });
                }
                Err(error) => pass_over(error, &format!("identity {} of instance {instance}", before.number))?,
            }
        }
        store.rewrap(&resealed).await?;
        count += resealed.len();
    }
}

async fn states(store: &Store, keys: &MasterKeys, flows: &Registry<ControlPlane>) -> Result<usize> {
    let (mut count, mut last) = (0, None);
    loop {
        let page = store.operation_states(last, PAGE).await?;
        let Some(state) = page.last() else { return Ok(count) };
        last = Some(state.operation);
        let mut resealed = Vec::new();
        for before in page {
            match flows.rewrap(&before.kind, &before.state, before.instance, keys) {
                Ok(None) => {}
                Ok(Some(after)) => resealed.push(Rewrapped::State { before, after }),
                Err(error) => pass_over(error, &format!("operation {}", before.operation))?,
            }
        }
        store.rewrap(&resealed).await?;
        count += resealed.len();
    }
}

async fn logins(store: &Store, keys: &MasterKeys) -> Result<usize> {
    let mut resealed = Vec::new();
    for StoredVersion { version, password, .. } in store.versions(None).await? {
        let Some(before) = password.filter(|password| password.key() != Some(keys.current().id())) else { continue };
        let mut images = store.images_in_use(&version.datastore).await?;
        images.insert(0, version.image.clone());
        let after = login(keys, &images, &before)?;
        if after.is_none() {
            let (datastore, version) = (&version.datastore, &version.name);
            tracing::warn!(datastore, version, "a login that is for no image that there is was dropped");
        }
        resealed.push(Rewrapped::RegistryPassword {
            datastore: version.datastore,
            version: version.name,
            before,
            after,
        });
    }
    store.rewrap(&resealed).await?;
    Ok(resealed.len())
}

/// A login is bound to the registry of the image that it was given for, which its version may have left since.
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

/// Lets what cannot be read keep nothing else from being served.
fn pass_over(error: Error, what: &str) -> Result<()> {
    match error.kind() {
        Kind::Corrupt | Kind::Unsupported => {
            tracing::error!(what, error = error.report(), "a secret could not be sealed with the current master key");
            Ok(())
        }
        _ => Err(error.with("what", what)),
    }
}
