use trove_core::{
    datastore::{GuestHost, Manifest},
    error::{Error, Result},
};

/// Runs servers of a version from another image. A version that is not on offer is ignored.
pub(crate) fn use_image(manifest: &mut Manifest, version: &str, image: String) {
    if let Some(found) = manifest.versions.iter_mut().find(|found| found.name == version) {
        found.image = image;
    }
}

/// [`Invalid`](trove_core::error::Kind::Invalid) for a place that a server cannot live in; users know the engine as
/// `title`.
pub(crate) fn check_host(manifest: &Manifest, host: &GuestHost, title: &str) -> Result<()> {
    manifest.check_version(&host.version)?;
    let least = manifest.min_memory;
    if host.flavor.memory < least {
        return Err(Error::invalid(format!("a {title} server needs {least} of memory or more")));
    }
    Ok(())
}
