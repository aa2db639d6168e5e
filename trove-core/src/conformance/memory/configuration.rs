//! The parameters of an in-memory server.
//!
//! | parameter | takes effect | purpose |
//! |---|---|---|
//! | `max_rows` | immediately | a dynamic parameter |
//! | `locale` | immediately | a running server rejects values that it does not know |
//! | `cache_mib` | after a restart | a static parameter |
//! | `poison` | after a restart | a value that prevents the server from starting |
//! | `port` | never | a reserved parameter |

use async_trait::async_trait;

use super::{Inner, datastore::MemoryDatastore};
use crate::{
    datastore::{Configuration, Cx},
    error::{Error, Result},
    model::{Flavor, Parameter, ParameterCatalog, ParameterKind, Setting, Settings, SettingsState},
};

const LOCALES: [&str; 3] = ["C", "de", "ja"];

/// The settings of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerSettings {
    /// The settings for the next start.
    pub(super) configured: Settings,
    /// The settings in effect, or at the last successful start; `None` before the first one.
    pub(super) effective: Option<Settings>,
    rejected: Option<String>,
}

impl ServerSettings {
    /// Applies dynamic parameters to a running server, and the others at its next start.
    pub(super) fn apply(&mut self, settings: &Settings, running: bool) -> Result<()> {
        if running {
            check_locale(settings)?;
            let effective = self.effective.get_or_insert_default();
            for parameter in parameters().into_iter().filter(|parameter| parameter.dynamic) {
                match settings.get(&parameter.name) {
                    Some(value) => effective.insert(parameter.name, value.clone()),
                    None => effective.remove(&parameter.name),
                };
            }
        }
        (self.configured, self.rejected) = (settings.clone(), None);
        Ok(())
    }

    /// Makes the configured settings effective, or rolls back to the previous ones if the server
    /// cannot start with them.
    pub(super) fn start(&mut self) -> Result<()> {
        let poisoned = self.configured.get("poison") == Some(&Setting::Boolean(true));
        let checked = if poisoned { Err(Error::invalid("poison is on")) } else { check_locale(&self.configured) };
        match (checked, &self.effective) {
            (Ok(()), _) => self.effective = Some(self.configured.clone()),
            (Err(error), None) => {
                return Err(Error::invalid(format!("the server does not start with these settings: {error}")));
            }
            (Err(error), Some(effective)) => {
                self.configured.clone_from(effective);
                self.rejected = Some(format!("the server does not start with these settings: {error}"));
            }
        }
        Ok(())
    }

    /// Returns the effective value of a parameter, as the server displays it.
    pub(super) fn effective_value(&self, name: &str) -> String {
        let set = self.effective.as_ref().and_then(|settings| settings.get(name)).map(ToString::to_string);
        let default = || parameters().into_iter().find(|parameter| parameter.name == name)?.default;
        set.or_else(default).unwrap_or_default()
    }

    pub(super) fn state(&self, running: bool) -> SettingsState {
        let effective = self.effective.as_ref().filter(|_| running);
        let pending = |effective: &Settings| {
            let names = self.configured.keys().chain(effective.keys());
            let mut pending: Vec<_> =
                names.filter(|name| self.configured.get(*name) != effective.get(*name)).cloned().collect();
            pending.sort();
            pending.dedup();
            pending
        };
        SettingsState { restart_required: effective.map(pending).unwrap_or_default(), rejected: self.rejected.clone() }
    }
}

fn check_locale(settings: &Settings) -> Result<()> {
    match settings.get("locale").map(ToString::to_string) {
        Some(locale) if !LOCALES.contains(&&*locale) => Err(Error::invalid(format!("unknown locale {locale:?}"))),
        _ => Ok(()),
    }
}

/// Returns an error if the cache is larger than the memory of the flavor.
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
                if server.running && !server.accepts_connections() {
                    return Err(Error::unavailable("the server does not answer"));
                }
                let running = server.running;
                server.settings.apply(settings, running)
            })
            .await
    }
}

impl MemoryDatastore {
    /// Returns the version and image of the server, or of its host if there is no server.
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
