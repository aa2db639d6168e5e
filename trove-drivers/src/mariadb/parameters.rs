//! Reads the parameters of a MariaDB server.

use trove_core::{
    error::Result,
    model::{Parameter, ParameterKind},
};

use super::{MariaDbVariant, config};
use crate::{
    mysql_family::{AdminConnector, reserved},
    reserved_names::ReservedNames,
};

/// Reserved parameters that only this engine has.
const RULES: [ReservedNames; 3] = [
    ReservedNames {
        reason: "it depends on the memory of the server",
        names: &["performance_schema*", "innodb_buffer_pool_chunk_size"],
    },
    ReservedNames {
        reason: "it has no effect",
        names: &["date_format", "datetime_format", "time_format", "tcp_nodelay", "alter_algorithm"],
    },
    ReservedNames {
        reason: "it is an alias for a part of another parameter",
        names: &[
            "expire_logs_days",
            "log_queries_not_using_indexes",
            "log_slow_admin_statements",
            "log_slow_slave_statements",
        ],
    },
];

/// Variables that can be set in option files although the server does not report it.
const OPTIONS: [&str; 11] = [
    "autocommit",
    "character_set_collations",
    "character_set_filesystem",
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "enforce_storage_engine",
    "lc_messages",
    "lc_time_names",
    "transaction_isolation",
];

/// Variables that a running server applies differently than a starting one: together with another
/// one, or with a value that it then computes. For some the startup value becomes the default.
pub(super) const START_ONLY: [&str; 13] = [
    "character_set_collations",
    "character_set_filesystem",
    "character_set_server",
    "collation_server",
    "default_storage_engine",
    "default_tmp_storage_engine",
    "enforce_storage_engine",
    "innodb_adaptive_hash_index_cells",
    "innodb_io_capacity_max",
    "lc_messages",
    "lc_time_names",
    "max_user_connections",
    "thread_cache_size",
];

/// Reads all parameters from a scratch server.
pub(super) async fn read(admin: &AdminConnector<MariaDbVariant>) -> Result<Vec<Parameter>> {
    let sql = "SELECT lower(variable_name), variable_type, numeric_min_value, numeric_max_value, enum_value_list, \
               read_only, default_value, global_value, variable_comment, \
               command_line_argument IS NOT NULL FROM information_schema.system_variables \
               WHERE variable_scope <> 'SESSION ONLY'";
    let rows = admin.session().await?.rows(sql).await?;
    let rows = rows.into_iter().map(|row| row.try_into().unwrap_or_default());
    Ok(rows.filter_map(parameter).collect())
}

fn parameter(row: [Option<String>; 10]) -> Option<Parameter> {
    let ours = |name: &str| config::DEFAULTS.iter().any(|(ours, _)| *ours == name);
    let [name, kind, least, most, words, read_only, default, present, description, option] = row;
    let name = name?;
    if option.as_deref() != Some("1") && !OPTIONS.contains(&name.as_str()) {
        return None;
    }
    let (least, most) = (least.unwrap_or_default(), most.unwrap_or_default());
    let list = words.map(|words| words.split(',').map(str::to_owned).collect::<Vec<_>>());
    let kind = match (kind.unwrap_or_default().as_str(), list) {
        ("BOOLEAN", _) => ParameterKind::Boolean,
        ("DOUBLE", _) => {
            ParameterKind::Float { min: least.parse().unwrap_or(f64::MIN), max: most.parse().unwrap_or(f64::MAX) }
        }
        (kind, _) if kind.contains("INT") => {
            ParameterKind::Integer { min: least.parse().unwrap_or(i64::MIN), max: most.parse().unwrap_or(u64::MAX) }
        }
        ("ENUM", Some(values)) => ParameterKind::Enum { values },
        ("SET", Some(values)) => ParameterKind::Set { values },
        _ => ParameterKind::Text,
    };
    let mut parameter = Parameter::new(name, kind);
    parameter.dynamic = read_only.as_deref() == Some("NO") && !START_ONLY.contains(&parameter.name.as_str());
    parameter.default = if ours(&parameter.name) { present } else { default };
    parameter.reserved = reserved(&parameter.name, &RULES).map(str::to_owned);
    parameter.description = description.unwrap_or_default();
    Some(parameter)
}
