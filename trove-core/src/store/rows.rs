//! Encoding of values in columns: times as microseconds, ids and enums as text, structures as JSON.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::db::{Row, Value};
use crate::{
    error::{Error, Result},
    model::{ByteSize, Instance, Operation, OperationError},
    time::Timestamp,
};

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn timestamp(micros: i64) -> Result<Timestamp> {
    Timestamp::from_microsecond(micros).map_err(unreadable)
}

pub(super) fn to_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn from_int(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

pub(super) fn id<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> Result<T> {
    text.parse().map_err(unreadable)
}

pub(super) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("could not encode a value as JSON").with_source(error))
}

pub(super) fn from_json<T: DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(unreadable)
}

/// Encodes an enum without data as the name of its variant.
pub(super) fn word(value: &impl Serialize) -> Result<String> {
    match serde_json::to_value(value) {
        Ok(Json::String(word)) => Ok(word),
        _ => Err(Error::internal("could not encode a value as text")),
    }
}

pub(super) fn from_word<T: DeserializeOwned>(word: &str) -> Result<T> {
    serde_json::from_value(Json::String(word.to_owned())).map_err(unreadable)
}

/// Returns the parameters time and id behind which a page in order of creation starts.
pub(super) fn page_start(after: Option<(Timestamp, String)>) -> [Value; 2] {
    let (at, id) = after.unzip();
    [at.map_or(i64::MIN, micros).into(), id.unwrap_or_default().into()]
}

pub(super) fn instance(row: &Row) -> Result<Instance> {
    Ok(Instance {
        id: id(&row.text("id")?)?,
        project: row.text("project")?,
        name: row.text("name")?,
        datastore: row.text("datastore")?,
        version: row.text("version")?,
        version_number: row.text("version_number")?,
        image: row.text("image")?,
        flavor: from_json(&row.text("flavor")?)?,
        volume: ByteSize::bytes(from_int(row.int("volume_bytes")?)),
        public: row.int("public")? != 0,
        state: from_word(&row.text("state")?)?,
        health: from_json(&row.text("health")?)?,
        reported_at: row.maybe_int("reported_at")?.map(timestamp).transpose()?,
        server_version: row.maybe_text("server_version")?,
        disk: row.maybe_text("disk")?.as_deref().map(from_json).transpose()?,
        endpoint: row.maybe_text("endpoint")?.as_deref().map(from_json).transpose()?,
        configuration: row.maybe_text("configuration")?.as_deref().map(id).transpose()?,
        assigned_settings: row.maybe_text("given")?.as_deref().map(from_json).transpose()?.unwrap_or_default(),
        settings: row.maybe_text("settings")?.as_deref().map(from_json).transpose()?.unwrap_or_default(),
        fault: row.maybe_text("fault")?.as_deref().map(from_json).transpose()?,
        created_at: timestamp(row.int("created_at")?)?,
        updated_at: timestamp(row.int("updated_at")?)?,
        epoch: from_int(row.int("epoch")?),
    })
}

pub(super) fn operation(row: &Row) -> Result<Operation> {
    Ok(Operation {
        id: id(&row.text("id")?)?,
        instance: id(&row.text("instance")?)?,
        kind: row.text("kind")?,
        status: from_word(&row.text("status")?)?,
        step: row.text("step")?,
        attempt: u32::try_from(row.int("attempt")?).unwrap_or(u32::MAX),
        error: error(row)?,
        created_at: timestamp(row.int("created_at")?)?,
        updated_at: timestamp(row.int("updated_at")?)?,
    })
}

/// Decodes the error of the row of an operation.
pub(super) fn error(row: &Row) -> Result<Option<OperationError>> {
    row.maybe_text("error")?.as_deref().map(from_json).transpose()
}

fn unreadable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::corrupt("could not decode a row of the store").with_source(error)
}
