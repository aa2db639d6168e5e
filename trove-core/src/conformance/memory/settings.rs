//! What a server in memory takes of settings.
//!
//! | parameter | takes effect | is there to |
//! |---|---|---|
//! | `max_rows` | at once | be changed in a server that runs |
//! | `locale` | at once | be refused by it: only some are known |
//! | `cache_mib` | after a restart | wait for one |
//! | `poison` | after a restart | keep the server from starting |
//! | `port` | never | be the service's own |

use async_trait::async_trait;

use super::{Inner, instance::MemoryDatastore};
use crate::{
    datastore::{Configuration, Cx},
    error::{Error, Result},
    model::{Flavor, Parameter, ParameterCatalog, ParameterKind, Setting, Settings, SettingsState},
};

const LOCALES: [&str; 3] = ["C", "de", "ja"];

/// The settings of a server: those it was told, and those it works with.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerSettings {
    pub(super) wanted: Settings,
    /// `None` before it ever came up.
    pub(super) running: Option<Settings>,
    rejected: Option<String>,
}

impl ServerSettings {
    /// Takes what a server that runs can take, and keeps the rest for when it starts.
    pub(super) fn apply(&mut self, settings: &Settings, runs: bool) -> Result<()> {
        if runs {
            refuse_locale(settings)?;
            let running = self.running.get_or_insert_default();
            for parameter in parameters().into_iter().filter(|parameter| parameter.dynamic) {
                match settings.get(&parameter.name) {
                    Some(value) => running.insert(parameter.name, value.clone()),
                    None => running.remove(&parameter.name),
                };
            }
        }
        (self.wanted, self.rejected) = (settings.clone(), None);
        Ok(())
    }

    /// Works with what was told or, where nothing can, with what it worked with before.
    pub(super) fn start(&mut self) -> Result<()> {
        let poisoned = self.wanted.get("poison") == Some(&Setting::Boolean(true));
        let fit = if poisoned { Err(Error::invalid("it finds poison")) } else { refuse_locale(&self.wanted) };
        match (fit, &self.running) {
            (Ok(()), _) => self.running = Some(self.wanted.clone()),
            (Err(why), None) => {
                return Err(Error::invalid(format!("the server does not start with these settings: {why}")));
            }
            (Err(why), Some(running)) => {
                self.wanted.clone_from(running);
                self.rejected = Some(format!("the server does not start with these settings: {why}"));
            }
        }
        Ok(())
    }

    /// The value that is in force, as the server shows it.
    pub(super) fn effective_value(&self, name: &str) -> String {
        let set = self.running.as_ref().and_then(|running| running.get(name)).map(ToString::to_string);
        let default = || parameters().into_iter().find(|parameter| parameter.name == name)?.default;
        set.or_else(default).unwrap_or_default()
    }

    pub(super) fn state(&self, runs: bool) -> SettingsState {
        let running = self.running.as_ref().filter(|_| runs);
        let names = |running: &Settings| {
            let names = self.wanted.keys().chain(running.keys());
            let mut waiting: Vec<_> =
                names.filter(|name| self.wanted.get(*name) != running.get(*name)).cloned().collect();
            waiting.sort();
            waiting.dedup();
            waiting
        };
        SettingsState { restart_required: running.map(names).unwrap_or_default(), rejected: self.rejected.clone() }
    }
}

fn refuse_locale(settings: &Settings) -> Result<()> {
    match settings.get("locale").map(ToString::to_string) {
        Some(locale) if !LOCALES.contains(&&*locale) => Err(Error::invalid(format!("it has no locale {locale:?}"))),
        _ => Ok(()),
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

fn parameters() -> Vec<Parameter> {
    let parameter = |name, kind, default: &str, dynamic| {
        let mut parameter = Parameter::new(name, kind);
        (parameter.default, parameter.dynamic) = (Some(default.to_owned()), dynamic);
        parameter
    };
    let mut port = parameter("port", ParameterKind::Integer { min: 1, max: 65535 }, "1", false);
    port.reserved = Some("the service chooses it".to_owned());
    vec![
        parameter("max_rows", ParameterKind::Integer { min: 1, max: 1_000_000 }, "1000", true),
        parameter("locale", ParameterKind::Text, "C", true),
        parameter("cache_mib", ParameterKind::Integer { min: 1, max: 1 << 20 }, "16", false),
        parameter("poison", ParameterKind::Boolean, "off", false),
        port,
    ]
}

#[async_trait]
impl Configuration for MemoryDatastore {
    async fn digest(&self, _cx: &Cx) -> Result<String> {
        self.world.call(|world| Ok(digest_of(&self.release_of(world).1))).await
    }

    async fn catalog(&self, _cx: &Cx) -> Result<ParameterCatalog> {
        self.world
            .call(|world| {
                let (version, image) = self.release_of(world);
                Ok(ParameterCatalog::new(digest_of(&image), version, parameters()))
            })
            .await
    }

    async fn apply(&self, _cx: &Cx, settings: &Settings) -> Result<()> {
        self.world
            .call(|world| {
                let server = self.server(world)?;
                if server.running && !server.answers() {
                    return Err(Error::unavailable("the server does not answer"));
                }
                let runs = server.running;
                server.settings.apply(settings, runs)
            })
            .await
    }
}

impl MemoryDatastore {
    /// Version and image of the server or, where there is none, of its place.
    fn release_of(&self, world: &Inner) -> (String, String) {
        match world.servers.get(&self.instance) {
            Some(server) => (server.version.clone(), server.image.clone()),
            None => (self.release.version.clone(), self.release.image.clone()),
        }
    }
}

fn digest_of(image: &str) -> String {
    format!("digest of {image}")
}
