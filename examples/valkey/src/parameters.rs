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

/// The value of a parameter: as it is set, otherwise as usual; `None` for one of the service's own.
fn value(name: &str, setting: Option<&Setting>) -> Option<String> {
    let (_, usual) = SETTABLE.split(", ").filter_map(|line| line.split_once(' ')).find(|(known, _)| *known == name)?;
    Some(match setting {
        None => usual.to_owned(),
        Some(Setting::Boolean(on)) => if *on { "yes" } else { "no" }.to_owned(),
        Some(setting) => setting.to_string(),
    })
}

/// The lines of the configuration, one for each parameter.
pub(crate) fn lines(settings: &Settings) -> String {
    let line = |line: &str| {
        let name = line.split(' ').next()?;
        let value = value(name, settings.get(name))?.replace('\\', "\\\\").replace('"', "\\\"");
        Some(format!("{name} \"{value}\"\n"))
    };
    SETTABLE.split(", ").filter_map(line).collect()
}

#[async_trait]
impl Parameters for ValkeyEngine {
    async fn read(&self, _cx: &Cx) -> Result<Vec<Parameter>> {
        let mut parameters = Vec::new();
        // Some have a second name, written with other lines.
        for pair in
            self.call(&[vec!["CONFIG", "GET", "*"]]).await?.chunks_exact(2).filter(|pair| !pair[0].contains('_'))
        {
            let mut parameter = Parameter::new(&pair[0], ParameterKind::Text);
            parameter.default = Some(pair[1].clone());
            if value(&pair[0], None).is_none() {
                parameter.reserved = Some("the service chooses it".to_owned());
            } else if let Err(error) = self.call(&[vec!["CONFIG", "SET", &pair[0], "?"]]).await {
                // What it says of a value that cannot be tells which can.
                let said = error.to_string();
                parameter.dynamic = !said.contains("immutable");
                if let Some((_, words)) = said.split_once("one of the following: ") {
                    parameter.kind = ParameterKind::Enum { values: words.split(", ").map(str::to_owned).collect() };
                } else if said.contains("'yes' or 'no'") {
                    parameter.kind = ParameterKind::Boolean;
                } else if pair[1].parse::<i64>().is_ok() {
                    parameter.kind = ParameterKind::Integer { min: i64::MIN, max: i64::MAX.cast_unsigned() };
                }
            }
            parameters.push(parameter);
        }
        Ok(parameters)
    }

    async fn set(&self, _host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let mut later = Vec::new();
        for (name, setting) in changes {
            let value = value(name, setting.as_ref()).unwrap_or_default();
            match self.call(&[vec!["CONFIG", "SET", name, &value]]).await {
                Err(error) if error.to_string().contains("immutable") => later.push(name.clone()),
                done => drop(done?),
            }
        }
        Ok(later)
    }
}
