//! The configuration of a MySQL server. Pure.

use trove_core::model::{Flavor, gib};

use crate::mysql_family::{ADMIN, MemoryBudget};

/// The memory that a server uses besides its sessions and its buffer pool, without and with the performance schema.
const SERVER_MIB: u64 = 184;
const SERVER_WITH_PERFORMANCE_SCHEMA_MIB: u64 = 400;

pub(super) const DEFAULTS: [(&str, &str); 3] = [
    ("character_set_server", "utf8mb4"),
    ("binlog_expire_logs_seconds", "86400"),
    // Not every kernel and container lets the server set its NUMA policy.
    ("loose_innodb_numa_interleave", "OFF"),
];

pub(super) const FIXED: [(&str, &str); 10] = [
    // Nobody writes before this server is known to be the one to write to.
    ("super_read_only", "ON"),
    ("gtid_mode", "ON"),
    ("enforce_gtid_consistency", "ON"),
    // Only the service configures the server: `SET PERSIST` has no effect.
    ("persisted_globals_load", "OFF"),
    // A privilege on all databases can exclude the server's own.
    ("partial_revokes", "ON"),
    ("plugin_load_add", "auth_socket=auth_socket.so"),
    ("loose_auth_socket", "FORCE_PLUS_PERMANENT"),
    ("secure_file_priv", "NULL"),
    ("loose_mysqlx", "OFF"),
    ("log_raw", "OFF"),
];

/// Returns the memory in MiB that a server uses besides its sessions and its buffer pool.
pub(super) fn server_mib(flavor: &Flavor) -> u64 {
    if has_performance_schema(flavor) { SERVER_WITH_PERFORMANCE_SCHEMA_MIB } else { SERVER_MIB }
}

/// Returns the settings that depend on the size.
pub(super) fn sized_settings(flavor: &Flavor, budget: &MemoryBudget) -> Vec<(&'static str, String)> {
    vec![
        ("innodb_redo_log_capacity", format!("{}M", budget.redo_mib)),
        ("temptable_max_ram", format!("{}M", budget.temporary_mib)),
        ("tmp_table_size", format!("{}M", (budget.temporary_mib / 4).max(1))),
        ("performance_schema", if has_performance_schema(flavor) { "ON" } else { "OFF" }.to_owned()),
    ]
}

/// Returns the SQL that leaves a new data directory with one account: the administrator, authenticated by the socket.
/// Plug-ins are not loaded during initialization, so the account's plug-in is written to the table.
pub(super) fn init_sql() -> String {
    format!(
        "SET SESSION sql_log_bin = 0;\n\
         CREATE USER {ADMIN} ACCOUNT LOCK;\n\
         GRANT ALL ON *.* TO {ADMIN} WITH GRANT OPTION;\n\
         UPDATE mysql.user SET plugin = 'auth_socket', authentication_string = '', account_locked = 'N' \
         WHERE User = 'trove_admin';\n\
         DROP USER root@localhost;\n"
    )
}

fn has_performance_schema(flavor: &Flavor) -> bool {
    flavor.memory >= gib(2)
}

#[cfg(test)]
mod tests {
    use trove_core::{
        datastore::GuestHost,
        model::{Settings, mib},
    };

    use super::*;
    use crate::{mysql::MySqlVariant, mysql_family::files};

    #[test]
    fn small_servers_run_without_performance_schema() {
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let mut host = GuestHost::new(id, "/v", "/d");
        for (memory, value) in [(mib(384), "OFF"), (gib(2), "ON")] {
            host.flavor = Flavor::new("f", memory, 1);
            let size = &files::<MySqlVariant>(&host, "/data", &Settings::new())[1].content;
            assert!(size.contains(&format!("performance_schema = {value}\n")), "{size}");
        }
    }
}
