//! Reads the parameters of a server, and changes them while it is running.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::{sleep, timeout};
use tokio_postgres::Row;
use trove_core::{
    datastore::{Cx, GuestHost},
    error::{Error, Result},
    model::{Parameter, ParameterKind, Setting},
};

use super::{
    config,
    connection::{AdminConnector, AdminSession, translate},
    reserved::{offered, reserved},
};
use crate::container::Parameters;

/// How long reading the parameter catalog may take.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// How long a server may take to reload its configuration.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// The server's error for a valid setting that was not applied.
const NOT_APPLIED: &str = "setting could not be applied";

/// The end of the server's error for a removed setting that needs a restart.
const WAITS: &str = "cannot be changed without restarting the server";

/// How often to check for the end of a reload.
const POLL: Duration = Duration::from_millis(20);

/// The parameters of one server.
#[derive(Debug)]
pub(super) struct PostgreSqlParameters {
    admin: Arc<AdminConnector>,
}

impl PostgreSqlParameters {
    pub(super) fn new(admin: Arc<AdminConnector>) -> Self {
        Self { admin }
    }

    async fn take(&self, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let session = self.admin.session("postgres").await?;
        let before = wrong(&session).await?;
        // Such files are not read at all.
        if let Some(unread) = before.iter().find(|wrong| wrong.why != NOT_APPLIED) {
            return Err(unread.refusal(changes));
        }
        let mut fresh = self.reload(session).await?;
        if !before.is_empty() {
            // A value that conflicted with another one's former value was not applied by the first
            // reload.
            fresh = self.reload(fresh).await?;
        }
        if let Some(refused) = wrong(&fresh).await?.first() {
            return Err(refused.refusal(changes));
        }
        let waiting = "SELECT name FROM pg_settings WHERE pending_restart ORDER BY name";
        let waiting = fresh.client.query(waiting, &[]).await.map_err(translate)?;
        let waiting = waiting.iter().map(|row| row.get::<_, String>(0));
        Ok(waiting.filter(|name| changes.iter().any(|(changed, _)| changed == name)).collect())
    }

    /// Reloads the configuration, and returns a session that started with it.
    async fn reload(&self, session: AdminSession) -> Result<AdminSession> {
        let loaded = "SELECT pg_conf_load_time()::text";
        let before: String = session.client.query_one(loaded, &[]).await.map_err(translate)?.get(0);
        session.run("SELECT pg_reload_conf()").await?;
        drop(session);
        loop {
            let fresh = self.admin.session("postgres").await?;
            let now: String = fresh.client.query_one(loaded, &[]).await.map_err(translate)?.get(0);
            if now != before {
                return Ok(fresh);
            }
            drop(fresh);
            sleep(POLL).await;
        }
    }
}

#[async_trait]
impl Parameters for PostgreSqlParameters {
    async fn read(&self, cx: &Cx) -> Result<Vec<Parameter>> {
        let sql = "SELECT name, vartype, unit, min_val, max_val, enumvals, boot_val, reset_val, source, context, category, \
                   short_desc FROM pg_settings WHERE context <> 'internal'";
        let read = async {
            let session = self.admin.session("postgres").await?;
            let rows = session.client.query(sql, &[]).await.map_err(translate)?;
            rows.iter().map(|row| parameter(row).map_err(translate)).collect()
        };
        tokio::select! {
            read = timeout(READ_LIMIT, read) => {
                read.unwrap_or_else(|_| Err(Error::timeout("the database server took too long to report its parameters")))
            }
            () = cx.cancelled() => Err(Error::cancelled("reading the parameters was cancelled")),
        }
    }

    async fn set(&self, _host: &GuestHost, changes: &[(String, Option<Setting>)]) -> Result<Vec<String>> {
        let reloaded = timeout(RELOAD_LIMIT, self.take(changes)).await;
        reloaded.unwrap_or_else(|_| Err(Error::timeout("the database server did not apply its settings in time")))
    }
}

/// An error in the configuration files.
struct FileSettingError {
    name: Option<String>,
    why: String,
}

/// Returns the errors that the server would find in its configuration files.
///
/// It reports settings that need a restart the same as wrong ones, but marks the former as pending.
async fn wrong(session: &AdminSession) -> Result<Vec<FileSettingError>> {
    let sql = "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL ORDER BY seqno";
    let rows = session.client.query(sql, &[]).await.map_err(translate)?;
    let waiting = "SELECT lower(name) FROM pg_settings WHERE pending_restart";
    let waiting = session.client.query(waiting, &[]).await.map_err(translate)?;
    let waiting: Vec<String> = waiting.iter().map(|row| row.get(0)).collect();
    let found = rows.iter().map(|row| FileSettingError { name: row.get(0), why: row.get(1) });
    let waits = |wrong: &FileSettingError| match &wrong.name {
        Some(name) => waiting.contains(&name.to_ascii_lowercase()),
        // A removed setting has no line of its own.
        None => wrong.why.ends_with(WAITS),
    };
    Ok(found.filter(|wrong| !waits(wrong)).collect())
}

impl FileSettingError {
    /// Returns the error for the user.
    fn refusal(&self, changes: &[(String, Option<Setting>)]) -> Error {
        let Some(name) = &self.name else {
            return Error::invalid("the server cannot read its settings").with("why", &self.why);
        };
        let value = changes.iter().find(|(changed, _)| changed.eq_ignore_ascii_case(name));
        let refused = match value.and_then(|(_, value)| value.as_ref()) {
            Some(value) => format!("the server rejected {:?} for parameter {name}", value.to_string()),
            None => format!("the server rejected the value of parameter {name} in combination with others"),
        };
        Error::invalid(refused).with("why", &self.why)
    }
}

fn parameter(row: &Row) -> std::result::Result<Parameter, tokio_postgres::Error> {
    let text = |column: usize| row.try_get::<_, Option<String>>(column).map(Option::unwrap_or_default);
    let (name, least, most) = (text(0)?, text(3)?, text(4)?);
    let kind = match text(1)?.as_str() {
        "bool" => ParameterKind::Boolean,
        "integer" => {
            ParameterKind::Integer { min: least.parse().unwrap_or(i64::MIN), max: most.parse().unwrap_or(u64::MAX) }
        }
        "real" => {
            ParameterKind::Float { min: least.parse().unwrap_or(f64::MIN), max: most.parse().unwrap_or(f64::MAX) }
        }
        "enum" => {
            let words: Vec<String> = row.try_get::<_, Option<_>>(5)?.unwrap_or_default();
            ParameterKind::Enum { values: words.into_iter().filter(|word| offered(&name, word)).collect() }
        }
        _ => ParameterKind::Text,
    };
    let mut parameter = Parameter::new(name, kind);
    parameter.unit = row.try_get(2)?;
    // Values that the server computes at startup are defaults, configured ones are not, except
    // those that the service sets for servers of every size.
    let ours = config::DEFAULTS.iter().any(|(ours, _)| ours.eq_ignore_ascii_case(&parameter.name));
    let unset = ours || text(8)? == "default";
    parameter.default = row.try_get(if unset { 7 } else { 6 })?;
    parameter.dynamic = text(9)? != "postmaster";
    parameter.reserved = reserved(&parameter.name, &text(10)?).map(str::to_owned);
    parameter.description = text(11)?;
    Ok(parameter)
}
