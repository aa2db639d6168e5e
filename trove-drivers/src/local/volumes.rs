use std::{fs, sync::Arc};

use async_trait::async_trait;
use trove_core::{
    error::{Error, Result},
    id::InstanceId,
    model::ByteSize,
    platform::{Ensured, Volumes},
};

use super::{LocalPlatform, server_identity};
use crate::container::{blocking, failed, free, own};

/// Volumes are directories. Their size is checked against the free space at creation and is not
/// enforced as a limit.
#[async_trait]
impl Volumes for LocalPlatform {
    async fn ensure_volume(&self, instance: InstanceId, size: ByteSize) -> Result<Ensured<()>> {
        let local = Arc::clone(&self.0);
        blocking(move || {
            let (path, server) = (local.volume(instance), server_identity(instance));
            if !path.exists() {
                refuse_too_large(free(&local.root), size)?;
            }
            let made = fs::create_dir_all(&path).and_then(|()| own(&path, Some(server.uid), Some(server.gid), 0o700));
            made.map_err(|error| failed("create the volume", &path, error))?;
            Ok(Ensured::Ready(()))
        })
        .await
    }

    async fn release_volume(&self, instance: InstanceId) -> Result<()> {
        let local = Arc::clone(&self.0);
        blocking(move || local.trash.discard(&local.volume(instance), "volume", instance, || Ok(())).map(drop)).await
    }
}

fn refuse_too_large(free: Option<ByteSize>, size: ByteSize) -> Result<()> {
    match free {
        Some(free) if free < size => {
            let free = ByteSize::bytes(free.as_bytes() >> 20 << 20);
            Err(Error::no_space(format!("a volume of {size} was requested; this machine has {free} left")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use trove_core::{
        error::Kind,
        model::{gib, mib},
    };

    use super::*;

    #[test]
    fn volumes_larger_than_the_free_space_are_refused() {
        let error = refuse_too_large(Some(ByteSize::bytes((300 << 20) + 77)), gib(1)).unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace);
        assert_eq!(error.to_string(), "a volume of 1 GiB was requested; this machine has 300 MiB left");
        refuse_too_large(Some(gib(1)), mib(1024)).unwrap();
        refuse_too_large(None, gib(1)).unwrap();
    }
}
