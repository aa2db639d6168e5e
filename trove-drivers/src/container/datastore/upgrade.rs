//! Another release on the same data, and the way back.
//!
//! What is begun is noted until it is concluded or reverted, so that it goes on where it broke off, and no release is
//! started on what another one made of the data:
//!
//! ```text
//! stop ── note ── copy aside ── start new ── migrate ── open ── (the caller commits) ── conclude: forget note, copy
//!                                   └── revert: put the copy back ── forget note ── start old
//! ```
//!
//! Where both releases use the data as it is, nothing is copied.

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
        let note = match self.upgrade_note().await? {
            Some(note) if note.to == to.into() => {
                self.ensure_image(cx, &moved(&self.host(), to)).await?;
                note
            }
            Some(_) => return Err(Error::conflict("another upgrade has to be finished or reverted first")),
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
        match self.on_disk(HostPaths::upgrade_note).await? {
            Some(note) if note.concluded && ReleaseId::from(from) != note.to => {
                return Err(Error::conflict("the upgrade was concluded, so that there is no way back"));
            }
            Some(note) if !note.concluded && note.from != from.into() => {
                return Err(Error::conflict("the upgrade that has begun is one from another release"));
            }
            Some(note) if !note.concluded => {
                if note.changing && self.on_disk(HostPaths::has_copy).await? {
                    // What it has not written yet is thrown away with the rest.
                    self.containers.make_way(&self.name).await?;
                    self.engine.disconnect();
                    cx.waiting("go back", self.on_disk(HostPaths::put_copy_back)).await?;
                }
                cx.waiting("go back", self.on_disk(HostPaths::forget_upgrade)).await?;
            }
            Some(_) | None => {}
        }
        self.change_host(|host| *host = moved(host, from));
        self.serve(cx).await
    }

    async fn conclude(&self, cx: &Cx) -> Result<()> {
        let _turn = self.turn(cx).await?;
        cx.waiting("drop the copy of the data", self.on_disk(HostPaths::conclude_upgrade)).await
    }
}

impl<E: Engine> ContainerDatastore<E> {
    /// The upgrade that has begun and is not concluded, if there is one.
    pub(super) async fn upgrade_note(&self) -> Result<Option<UpgradeState>> {
        Ok(self.on_disk(HostPaths::upgrade_note).await?.filter(|note| !note.concluded))
    }

    /// The way from what the instance runs to this release, from what their images hold.
    async fn path(&self, cx: &Cx, to: &Release) -> Result<UpgradePath> {
        let (present, next) = (self.host(), moved(&self.host(), to));
        self.ensure_image(cx, &next).await?;
        let found = self.image_version(cx, &next).await?;
        if present.image == next.image {
            return self.engine.upgrade_path(&found, &found);
        }
        let from = match self.found_version(cx, &present).await {
            Ok(Some(from)) => from,
            // Its image is gone, or says nothing; what the instance is called is known at least.
            Ok(None) => present.version.clone(),
            Err(error) if error.kind() == Kind::NotFound => present.version.clone(),
            Err(error) => return Err(error),
        };
        self.engine.upgrade_path(&from, &found)
    }

    /// Brings the server to rest and notes the upgrade.
    async fn begin(&self, cx: &Cx, to: &Release) -> Result<UpgradeState> {
        let changing = self.path(cx, to).await? == UpgradePath::Changing;
        self.check_data().await?;
        let stopped = self.on_disk(|paths| Ok(paths.stop_noted().unwrap_or(false))).await?;
        if changing && !stopped && !self.serves(cx).await? {
            // It ended as it should not have. Only the release that wrote the data can bring it in order.
            self.start_server(cx).await?;
        }
        self.on_disk(|paths| paths.note_stop(false)).await?;
        self.bring_to_rest(cx, changing).await?;
        // What a former upgrade left is not to be taken for this one's.
        self.on_disk(HostPaths::forget_upgrade).await?;
        let note = UpgradeState { from: (&*self.host()).into(), to: to.into(), changing, concluded: false };
        let noted = note.clone();
        self.on_disk(move |paths| paths.note_upgrade(&noted)).await?;
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
        self.copying(cx, "copy data", move |going_on| paths.copy_aside(going_on)).await
    }

    async fn refuse_too_full(&self) -> Result<()> {
        let (host, data) = (self.host(), self.paths.data());
        blocking(move || match (free(&host.volume), occupied(&data)) {
            (Some(free), Some(used))
                if free.as_bytes() < used.saturating_add(least_free(host.volume_size).as_bytes()) =>
            {
                let used = ByteSize::bytes(used.next_multiple_of(1 << 20));
                Err(Error::no_space(format!("the volume has no room for a copy of the data, which is {used}")))
            }
            (Some(_), Some(_)) => Ok(()),
            _ => Err(Error::unavailable("it cannot be told whether the volume has room for a copy of the data")),
        })
        .await
    }
}

/// The place with another release.
fn moved(host: &GuestHost, to: &Release) -> GuestHost {
    let mut moved = host.clone();
    (moved.version, moved.image, moved.login) = (to.version.clone(), to.image.clone(), to.login.clone());
    moved
}
