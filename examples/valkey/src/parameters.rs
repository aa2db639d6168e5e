use std::collections::BTreeMap;

use async_trait::async_trait;
use trove_core::datastore::{Cx, GuestHost};
use trove_core::error::Result;
use trove_core::model::{Parameter, ParameterKind, Setting, Settings};
use trove_drivers::container::Parameters;

use crate::ValkeyEngine;

/// What a tenant may set, and what it is otherwise. All else is the service's own.
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

/// The value of a parameter: as it is set, otherwise as usual.
fn value(setting: Option<&Setting>, usual: &str) -> String {
    match setting {
        None => usual.to_owned(),
        Some(Setting::Boolean(on)) => if *on { "yes" } else { "no" }.to_owned(),
        Some(setting) => setting.to_string(),
    }
}

/// The lines of the configuration, one for each parameter.
pub(crate) fn lines(settings: &Settings) -> String {
    settable().map(|(name, usual)| format!("{name} {:?}\n", value(settings.get(name), usual))).collect()
}

#[async_trait]
impl Parameters for ValkeyEngine {
    async fn read(&self, _cx: &Cx) -> Result<Vec<Parameter>> {
        let told: BTreeMap<String, String> = self.call("CONFIG", &["GET", "*"]).await?;
        let mut parameters = Vec::new();
        // Some have a second name, written with other lines.
        for (name, usual) in told.into_iter().filter(|(name, _)| !name.contains('_')) {
            let mut parameter = Parameter::new(&name, ParameterKind::Text);
            if settable().all(|(known, _)| known != name) {
                parameter.reserved = Some("the service chooses it".to_owned());
            } else if let Err(error) = self.call::<()>("CONFIG", &["SET", &name, "?"]).await {
                // What it says of a value that cannot be tells which can.
                let said = error.to_string();
                parameter.dynamic = !said.contains("immutable");
                parameter.kind = match said.split_once("one of the following: ") {
                    Some((_, words)) => ParameterKind::Enum { values: words.split(", ").map(str::to_owned).collect() },
                    None if said.contains("'yes' or 'no'") => ParameterKind::Boolean,
                    None if usual.parse::<i64>().is_ok() => ParameterKind::Integer { min: i64::MIN, max: u64::MAX },
                    None => ParameterKind::Text,
                };
            }
            parameter.default = Some(usual);
            parameters.push(parameter);
        }
        Ok(parameters)
    }

    async fn set(&self, _host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let mut later = Vec::new();
        for (name, setting) in changes {
            let usual = settable().find(|(known, _)| known == name).map_or("", |(_, usual)| usual);
            match self.call("CONFIG", &["SET", name, &value(setting.as_ref(), usual)]).await {
                Err(error) if error.to_string().contains("immutable") => later.push(name.clone()),
                done => done?,
            }
        }
        Ok(later)
    }
}
