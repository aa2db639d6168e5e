use std::collections::BTreeMap;

use async_trait::async_trait;
use redis::{ServerError, ServerErrorKind};
use trove_core::datastore::{Cx, GuestHost};
use trove_core::error::Result;
use trove_core::model::{Parameter, ParameterKind, Setting, Settings};
use trove_drivers::container::Parameters;

use crate::{ValkeyEngine, rejected};

/// The parameters that a tenant may set, with their defaults. All others are reserved for the
/// service.
const SETTABLE: &str = "active-expire-effort 1, appendfsync always, auto-aof-rewrite-percentage 100, \
    busy-reply-threshold 5000, databases 16, hash-max-listpack-entries 512, hash-max-listpack-value 64, hz 10, \
    latency-monitor-threshold 0, lazyfree-lazy-user-del yes, lfu-decay-time 1, lfu-log-factor 10, \
    list-max-listpack-size -2, maxclients 10000, maxmemory-clients 20%, maxmemory-policy noeviction, maxmemory-samples 5, \
    no-appendfsync-on-rewrite no, notify-keyspace-events , proto-max-bulk-len 536870912, set-max-intset-entries 512, \
    set-max-listpack-entries 128, slowlog-log-slower-than 10000, slowlog-max-len 128, stream-node-max-entries 100, \
    tcp-backlog 511, tcp-keepalive 300, timeout 0, tracking-table-max-keys 1000000, zset-max-listpack-entries 128";

fn settable() -> impl Iterator<Item = (&'static str, &'static str)> {
    SETTABLE.split(", ").filter_map(|line| line.split_once(' '))
}

/// Returns the value of a setting as Valkey writes it, or the default.
fn value(setting: Option<&Setting>, default: &str) -> String {
    match setting {
        None => default.to_owned(),
        Some(Setting::Boolean(on)) => if *on { "yes" } else { "no" }.to_owned(),
        Some(setting) => setting.to_string(),
    }
}

/// Returns the lines of the configuration file, one for each parameter.
pub(crate) fn lines(settings: &Settings) -> String {
    settable().map(|(name, default)| format!("{name} {:?}\n", value(settings.get(name), default))).collect()
}

#[async_trait]
impl Parameters for ValkeyEngine {
    async fn read(&self, _cx: &Cx) -> Result<Vec<Parameter>> {
        let values: BTreeMap<String, String> = self.call("CONFIG", &["GET", "*"]).await?;
        let mut parameters = Vec::new();
        // Names with underscores are aliases.
        for (name, default) in values.into_iter().filter(|(name, _)| !name.contains('_')) {
            let mut parameter = Parameter::new(&name, ParameterKind::Text);
            if settable().all(|(known, _)| known != name) {
                parameter.reserved = Some("the service manages it".to_owned());
            } else if let Err(error) = self.set_live(&name, "?").await? {
                parameter.dynamic = !is_immutable(&error);
                // The server describes the valid values in its reply to an invalid one.
                let reply = error.details().unwrap_or_default();
                parameter.kind = match reply.split_once("one of the following: ") {
                    Some((_, words)) => ParameterKind::Enum { values: words.split(", ").map(str::to_owned).collect() },
                    None if reply.contains("'yes' or 'no'") => ParameterKind::Boolean,
                    None if default.parse::<i64>().is_ok() => ParameterKind::Integer { min: i64::MIN, max: u64::MAX },
                    None => ParameterKind::Text,
                };
            }
            parameter.default = Some(default);
            parameters.push(parameter);
        }
        Ok(parameters)
    }

    async fn set(&self, _host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let mut later = Vec::new();
        for (name, setting) in changes {
            let default = settable().find(|(known, _)| known == name).map_or("", |(_, default)| default);
            match self.set_live(name, &value(setting.as_ref(), default)).await? {
                Err(error) if is_immutable(&error) => later.push(name.clone()),
                result => result.map_err(rejected)?,
            }
        }
        Ok(later)
    }
}

impl ValkeyEngine {
    async fn set_live(&self, name: &str, value: &str) -> Result<Result<(), ServerError>> {
        self.run(redis::pipe().cmd("CONFIG").arg(&["SET", name, value]).ignore()).await
    }
}

/// Returns true if a parameter changes only at a start. Valkey reports that with the generic code
/// `ERR`.
fn is_immutable(error: &ServerError) -> bool {
    let message = error.details().unwrap_or_default();
    error.kind() == Some(ServerErrorKind::ResponseError) && message.ends_with("can't set immutable config")
}
