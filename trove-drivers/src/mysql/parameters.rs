//! Reads the parameters of a MySQL server. The server does not report which ones are dynamic, so
//! each is set to its current value on a scratch server.

use trove_core::{
    error::Result,
    model::{Parameter, ParameterKind},
};

use super::{MySqlVariant, config};
use crate::{
    mysql_family::{AdminConnector, AdminSession, identifier, literal, reserved},
    reserved_names::ReservedNames,
};

/// Reserved parameters that only this engine has.
const RULES: [ReservedNames; 1] = [ReservedNames {
    reason: "it depends on the memory of the server",
    names: &[
        "performance_schema*",
        "temptable_use_mmap",
        "innodb_buffer_pool_chunk_size",
        "innodb_buffer_pool_instances",
        "innodb_page_cleaners",
    ],
}];

/// Variables that cannot be set in option files.
const NO_OPTIONS: [&str; 26] = [
    "character_set_client",
    "character_set_connection",
    "character_set_database",
    "character_set_results",
    "character_set_system",
    "collation_connection",
    "collation_database",
    "default_collation_for_utf8mb4",
    "foreign_key_checks",
    "keyring_operations",
    "max_insert_delayed_threads",
    "profiling",
    "sql_auto_is_null",
    "sql_big_selects",
    "sql_buffer_result",
    "sql_log_bin",
    "sql_notes",
    "sql_quote_show_create",
    "sql_replica_skip_counter",
    "sql_safe_updates",
    "sql_select_limit",
    "sql_slave_skip_counter",
    "sql_warnings",
    "time_zone",
    "unique_checks",
    "restrict_fk_on_non_standard_key",
];

/// Variables that report facts and that nobody can set.
const FACTS: ReservedNames = ReservedNames {
    reason: "",
    names: &[
        "have_*",
        "version*",
        "*_version",
        "build_id",
        "hostname",
        "license",
        "system_time_zone",
        "large_*",
        "lower_case_file_system",
        "locked_in_memory",
        "protocol_version",
        "skip_external_locking",
    ],
};

/// Variables that a running server applies differently than a starting one: together with another
/// one, or with a value that it then computes. For some the startup value becomes the default.
pub(super) const START_ONLY: [&str; 10] = [
    "character_set_filesystem",
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "innodb_commit_concurrency",
    "innodb_io_capacity_max",
    "lc_messages",
    "lc_time_names",
    "thread_cache_size",
];

/// More words than any variable accepts.
const MAX_WORDS: u32 = 64;

/// Reads all parameters from a scratch server.
pub(super) async fn read(admin: &AdminConnector<MySqlVariant>) -> Result<Vec<Parameter>> {
    let mut session = admin.session().await?;
    let sql = "SELECT m.variable_name, m.data_type, m.min_value, m.max_value, m.documentation, g.variable_value, \
               i.variable_source FROM performance_schema.variables_metadata m \
               JOIN performance_schema.global_variables g ON g.variable_name = m.variable_name \
               LEFT JOIN performance_schema.variables_info i ON i.variable_name = m.variable_name \
               WHERE m.variable_scope <> 'SESSION_ONLY'";
    let mut parameters = Vec::new();
    for row in session.rows(sql).await? {
        let row: [Option<String>; 7] = row.try_into().unwrap_or_default();
        let row = row.map(Option::unwrap_or_default);
        if !NO_OPTIONS.contains(&row[0].as_str()) && !FACTS.matches(&row[0]) {
            parameters.push(parameter(&mut session, row).await?);
        }
    }
    Ok(parameters)
}

async fn parameter(session: &mut AdminSession, row: [String; 7]) -> Result<Parameter> {
    let [name, kind, least, most, description, present, source] = row;
    let reserved = reserved(&name, &RULES);
    let variable = identifier(&name);
    let mut parameter = Parameter::new(name, ParameterKind::Text);
    parameter.dynamic = reserved.is_none()
        && !START_ONLY.contains(&parameter.name.as_str())
        && session.run_ignoring(&[], &format!("SET GLOBAL {variable} = @@GLOBAL.{variable}")).await.is_ok();
    parameter.kind = match kind.as_str() {
        "Boolean" => ParameterKind::Boolean,
        "Integer" => {
            ParameterKind::Integer { min: least.parse().unwrap_or(i64::MIN), max: most.parse().unwrap_or(u64::MAX) }
        }
        "Numeric" => {
            ParameterKind::Float { min: least.parse().unwrap_or(f64::MIN), max: most.parse().unwrap_or(f64::MAX) }
        }
        // Pairs of words, of which one may be set alone.
        "Set" if present.contains('=') => ParameterKind::Text,
        "Set" if parameter.dynamic => {
            ParameterKind::Set { values: words(session, &variable, (0..MAX_WORDS).map(|bit| 1_u64 << bit)).await? }
        }
        "Enumeration" if parameter.dynamic => {
            ParameterKind::Enum { values: words(session, &variable, (0..MAX_WORDS).map(u64::from)).await? }
        }
        _ => ParameterKind::Text,
    };
    let ours = config::DEFAULTS.iter().any(|(ours, _)| *ours == parameter.name);
    parameter.default = match source.as_str() {
        "COMPILED" | "" => Some(present),
        _ if ours => Some(present),
        _ if parameter.dynamic => default(session, &variable).await?,
        _ => None,
    };
    parameter.reserved = reserved.map(str::to_owned);
    parameter.description = description;
    Ok(parameter)
}

/// Returns the words that a variable accepts, found by their numbers.
async fn words(session: &mut AdminSession, variable: &str, numbers: impl Iterator<Item = u64>) -> Result<Vec<String>> {
    let before = value(session, variable).await?.unwrap_or_default();
    let mut words = Vec::new();
    for number in numbers {
        if session.run(&format!("SET GLOBAL {variable} = {number}")).await.is_err() {
            continue;
        }
        let now = value(session, variable).await?.unwrap_or_default();
        for word in now.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            if !words.iter().any(|known| known == word) {
                words.push(word.to_owned());
            }
        }
    }
    session.run(&format!("SET GLOBAL {variable} = {}", literal(&before))).await?;
    Ok(words)
}

/// Returns the default of a variable.
async fn default(session: &mut AdminSession, variable: &str) -> Result<Option<String>> {
    session.run("SET @before = NULL").await?;
    session.run(&format!("SET @before = @@GLOBAL.{variable}")).await?;
    if session.run(&format!("SET GLOBAL {variable} = DEFAULT")).await.is_err() {
        return Ok(None);
    }
    let default = value(session, variable).await?;
    session.run(&format!("SET GLOBAL {variable} = @before")).await?;
    Ok(default)
}

async fn value(session: &mut AdminSession, variable: &str) -> Result<Option<String>> {
    let rows = session.rows(&format!("SELECT @@GLOBAL.{variable}")).await?;
    Ok(rows.into_iter().flatten().next().flatten())
}
