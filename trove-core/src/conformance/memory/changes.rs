//! What a server in memory takes of settings, images and flavors.

use async_trait::async_trait;

use super::{Inner, Server, datastore::MemoryDatastore};
use crate::{
    datastore::{Configuration, Cx, Release, Resize, Upgrade},
    error::{Error, Result},
    model::{Catalogue, Flavor, Parameter, ParameterKind, Setting, Settings, SettingsState},
};

/// The settings of a server: those it was told, and those it works with.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerSettings {
    pub(super) wanted: Settings,
    running: Settings,
    rejected: Option<String>,
}

impl ServerSettings {
    pub(super) fn in_force(&self, name: &str) -> String {
        self.running.get(name).map(ToString::to_string).unwrap_or_default()
    }

    pub(super) fn state(&self) -> SettingsState {
        let names = self.wanted.keys().chain(self.running.keys());
        let mut waiting: Vec<_> =
            names.filter(|name| self.wanted.get(*name) != self.running.get(*name)).cloned().collect();
        waiting.sort();
        waiting.dedup();
        SettingsState { restart_required: waiting, rejected: self.rejected.clone() }
    }
}

impl Server {
    /// Comes up with the settings it was told or, where it does not, with those it came up with before.
    pub(super) fn start(&mut self) -> Result<()> {
        if self.image.ends_with("broken") {
            return Err(Error::internal("the server does not start"));
        }
        if self.running {
            return Ok(());
        }
        self.running = true;
        self.sessions.clear();
        if self.settings.wanted.get("poison") == Some(&Setting::Boolean(true)) {
            self.settings.wanted = self.settings.running.clone();
            self.settings.rejected = Some("the server does not start with these settings".to_owned());
        } else {
            self.settings.running = self.settings.wanted.clone();
        }
        Ok(())
    }
}

/// A cache must leave room for the server.
pub(super) fn check_settings(flavor: &Flavor, settings: &Settings) -> Result<()> {
    match settings.get("cache_mib") {
        Some(Setting::Integer(mib)) if u64::try_from(*mib).is_ok_and(|mib| mib > flavor.memory.as_mib()) => {
            Err(Error::invalid(format!("a cache of {mib} MiB does not fit into flavor {}", flavor.name)))
        }
        _ => Ok(()),
    }
}

#[async_trait]
impl Configuration for MemoryDatastore {
    async fn digest(&self, _cx: &Cx) -> Result<String> {
        self.world.call(|world| Ok(self.digest_of(world))).await
    }

    async fn catalogue(&self, _cx: &Cx) -> Result<Catalogue> {
        self.world
            .call(|world| {
                let mut rows = Parameter::new("max_rows", ParameterKind::Integer { min: 1, max: 1_000_000 });
                rows.dynamic = true;
                let mut port = Parameter::new("port", ParameterKind::Integer { min: 1, max: 65535 });
                port.reserved = Some("the service chooses it".to_owned());
                let parameters = vec![
                    rows,
                    port,
                    Parameter::new("cache_mib", ParameterKind::Integer { min: 1, max: 1 << 20 }),
                    Parameter::new("poison", ParameterKind::Boolean),
                ];
                Ok(Catalogue::new(self.digest_of(world), self.release.version.clone(), parameters))
            })
            .await
    }

    async fn apply(&self, _cx: &Cx, settings: &Settings) -> Result<()> {
        self.world
            .call(|world| {
                let told = &mut self.server(world)?.settings;
                told.wanted.clone_from(settings);
                told.rejected = None;
                match settings.get("max_rows") {
                    Some(rows) => told.running.insert("max_rows".to_owned(), rows.clone()),
                    None => told.running.remove("max_rows"),
                };
                Ok(())
            })
            .await
    }
}

#[async_trait]
impl Upgrade for MemoryDatastore {
    async fn check(&self, _cx: &Cx, to: &Release) -> Result<()> {
        self.world
            .call(|_| {
                if to.image.ends_with("missing") {
                    return Err(Error::not_found(format!("image {} does not exist", to.image)));
                }
                Ok(())
            })
            .await
    }

    async fn upgrade(&self, _cx: &Cx, to: &Release) -> Result<()> {
        self.world.call(|world| self.server(world)?.run_from(to)).await
    }

    async fn revert(&self, _cx: &Cx, from: &Release) -> Result<()> {
        self.world.call(|world| self.server(world)?.run_from(from)).await
    }

    async fn conclude(&self, _cx: &Cx) -> Result<()> {
        self.world.call(|_| Ok(())).await
    }
}

#[async_trait]
impl Resize for MemoryDatastore {
    async fn resize(&self, _cx: &Cx, flavor: &Flavor) -> Result<()> {
        self.world
            .call(|world| {
                let server = self.server(world)?;
                if server.running && server.memory == flavor.memory {
                    return Ok(());
                }
                server.memory = flavor.memory;
                server.running = false;
                server.start()
            })
            .await
    }
}

impl MemoryDatastore {
    fn digest_of(&self, world: &Inner) -> String {
        let image = world.servers.get(&self.instance).map_or(&self.release.image, |server| &server.image);
        format!("digest of {image}")
    }
}

impl Server {
    fn run_from(&mut self, release: &Release) -> Result<()> {
        self.image.clone_from(&release.image);
        self.running = false;
        self.start()
    }
}
