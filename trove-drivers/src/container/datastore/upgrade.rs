//! Upgrades to another release on the same data, and rolls back.
//!
//! The state of an upgrade is persisted until it is committed or reverted, so that it resumes after
//! an interruption, and no release is started on data that another one changed:
//!
//! ```text
//! stop ── record ── copy data ── start new ── migrate ── allow writes ── commit: remove the copy
//!                                   └── revert: restore the copy ── clear the record ── start old
//! ```
//!
//! If both releases use the data as it is, nothing is copied.

use async_trait::async_trait;
use trove_core::{
    datastore::{Cx, GuestHost, Release, Upgrade},
    error::{Error, Kind, Result},
    model::ByteSize,
};

use super::{ContainerDatastore, helper_container::HelperContainer};
use crate::container::{
    Engine, UpgradePath,
    assess::least_free,
    host_paths::HostPaths,
    monitors::{blocking, free},
    safe_fs::occupied,
    upgrade_state::{ReleaseId, UpgradeState},
};

#[async_trait]
impl<E: Engine> Upgrade for ContainerDatastore<E> {
    async fn check(&self, cx: &Cx, to: &Release) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        if self.path(cx, to).await? == UpgradePath::Changing {
            self.refuse_too_full().await?;
        }
        Ok(())
    }

    async fn upgrade(&self, cx: &Cx, to: &Release) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        let note = match self.upgrade_state().await? {
            Some(note) if note.to == to.into() => {
                self.ensure_image(cx, &moved(&self.host(), to)).await?;
                note
            }
            Some(_) => return Err(Error::conflict("another upgrade must be finished or reverted first")),
            None if ReleaseId::from(&*self.host()) == to.into() => return self.serve(cx).await,
            None => self.begin(cx, to).await?,
        };
        if note.changing && !self.on_disk(HostPaths::has_copy).await? {
            self.bring_to_rest(cx, true).await?;
            self.copy_aside(cx).await?;
        }
        self.change_host(|host| *host = moved(host, to));
        if !self.serves(cx).await? {
            self.start_server(cx).await?;
        }
        cx.waiting("migrate data", self.engine.migrate(cx, &HelperContainer(self))).await?;
        self.allow_writes(cx).await
    }

    async fn revert(&self, cx: &Cx, from: &Release) -> Result<()> {
        let _turn = self.turn(cx).await?;
        self.adopt().await?;
        cx.phase("go back");
        match self.on_disk(HostPaths::upgrade_state).await? {
            Some(note) if note.committed && ReleaseId::from(from) != note.to => {
                return Err(Error::conflict("the upgrade was committed and cannot be reverted"));
            }
            Some(note) if !note.committed && note.from != from.into() => {
                return Err(Error::conflict("the upgrade in progress started from another release"));
            }
            Some(note) if !note.committed => {
                if note.changing && self.on_disk(HostPaths::has_copy).await? {
                    // Unwritten data is discarded with the rest.
                    self.containers.remove_existing(&self.name).await?;
                    self.engine.disconnect();
                    cx.waiting("go back", self.on_disk(HostPaths::put_copy_back)).await?;
                }
                cx.waiting("go back", self.on_disk(HostPaths::clear_upgrade)).await?;
            }
            Some(_) | None => {}
        }
        self.change_host(|host| *host = moved(host, from));
        self.serve(cx).await
    }

    async fn commit(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        cx.waiting("drop the copy of the data", self.on_disk(HostPaths::commit_upgrade)).await
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// Returns the upgrade that has begun and is not committed, if there is one.
    pub(super) async fn upgrade_state(&self) -> Result<Option<UpgradeState>> {
        Ok(self.on_disk(HostPaths::upgrade_state).await?.filter(|note| !note.committed))
    }

    /// Returns the upgrade path from the running release to this one, according to their images.
    async fn path(&self, cx: &Cx, to: &Release) -> Result<UpgradePath> {
        let (present, next) = (self.host(), moved(&self.host(), to));
        self.ensure_image(cx, &next).await?;
        let found = self.image_version(cx, &next).await?;
        if present.image == next.image {
            return self.engine.upgrade_path(&found, &found);
        }
        let from = match self.found_version(cx, &present).await {
            Ok(Some(from)) => from,
            // The image is gone or prints no version; the version of the instance is known at
            // least.
            Ok(None) => present.version.clone(),
            Err(error) if error.kind() == Kind::NotFound => present.version.clone(),
            Err(error) => return Err(error),
        };
        self.engine.upgrade_path(&from, &found)
    }

    /// Stops the server and records the upgrade.
    async fn begin(&self, cx: &Cx, to: &Release) -> Result<UpgradeState> {
        let changing = self.path(cx, to).await? == UpgradePath::Changing;
        self.check_data().await?;
        let stopped = self.on_disk(|paths| Ok(paths.stop_requested().unwrap_or(false))).await?;
        if changing && !stopped && !self.serves(cx).await? {
            // The server was not shut down cleanly. Only the release that wrote the data can
            // recover it.
            self.start_server(cx).await?;
        }
        self.on_disk(|paths| paths.record_stop(false)).await?;
        self.bring_to_rest(cx, changing).await?;
        // The copy of an earlier upgrade must not be taken for this one's.
        self.on_disk(HostPaths::clear_upgrade).await?;
        let note = UpgradeState { from: (&*self.host()).into(), to: to.into(), changing, committed: false };
        let noted = note.clone();
        self.on_disk(move |paths| paths.record_upgrade(&noted)).await?;
        Ok(note)
    }

    async fn bring_to_rest(&self, cx: &Cx, in_order: bool) -> Result<()> {
        match self.take_down(cx, self.engine.stop_limit()).await? {
            Some(code) if in_order && code != 0 => Err(Error::conflict(format!(
                "the server did not stop in order, so that its data cannot be upgraded (exit code {code})"
            ))),
            _ => Ok(()),
        }
    }

    async fn copy_aside(&self, cx: &Cx) -> Result<()> {
        self.refuse_too_full().await?;
        let paths = self.paths.clone();
        self.copying(cx, "copy data", move |progress| paths.copy_aside(progress)).await
    }

    async fn refuse_too_full(&self) -> Result<()> {
        let (host, data) = (self.host(), self.paths.data());
        blocking(move || match (free(&host.volume), occupied(&data)) {
            (Some(free), Some(used))
                if free.as_bytes() < used.saturating_add(least_free(host.volume_size).as_bytes()) =>
            {
                let used = ByteSize::bytes(used.next_multiple_of(1 << 20));
                Err(Error::no_space(format!("the volume has too little space for a copy of the data ({used})")))
            }
            (Some(_), Some(_)) => Ok(()),
            _ => Err(Error::unavailable("could not determine whether the volume has space for a copy of the data")),
        })
        .await
    }
}

/// Returns the properties of the instance with another release.
fn moved(host: &GuestHost, to: &Release) -> GuestHost {
    let mut moved = host.clone();
    (moved.version, moved.image, moved.login) = (to.version.clone(), to.image.clone(), to.login.clone());
    moved
}
