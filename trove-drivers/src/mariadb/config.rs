//! The configuration of a MariaDB server. Pure.

use crate::mysql_family::{ADMIN, MemoryBudget};

/// The memory that a server uses besides its sessions and its buffer pool.
pub(super) const SERVER_MIB: u64 = 112;

/// The number of temporary tables that each session is assumed to use at once.
const TEMPORARY_TABLES: u64 = 2;

pub(super) const DEFAULTS: [(&str, &str); 3] =
    [("character_set_server", "utf8mb4"), ("binlog_expire_logs_seconds", "86400"), ("sync_binlog", "1")];

pub(super) const FIXED: [(&str, &str); 8] = [
    // Nobody writes before this server is known to be the one to write to.
    ("read_only", "ON"),
    ("gtid_strict_mode", "ON"),
    ("log_slave_updates", "ON"),
    ("unix_socket", "FORCE_PLUS_PERMANENT"),
    ("loose_symbolic_links", "OFF"),
    ("loose_wsrep_on", "OFF"),
    ("loose_feedback", "OFF"),
    ("log_warnings", "1"),
];

/// Returns the settings that depend on the size.
pub(super) fn sized_settings(budget: &MemoryBudget) -> Vec<(&'static str, String)> {
    let temporary = budget.temporary_mib * 1024 / (TEMPORARY_TABLES * u64::from(budget.max_connections));
    vec![
        ("innodb_log_file_size", format!("{}M", budget.redo_mib)),
        ("tmp_table_size", format!("{}K", temporary.clamp(256, 64 << 10))),
        ("max_heap_table_size", format!("{}K", temporary.clamp(256, 64 << 10))),
        ("aria_pagecache_buffer_size", format!("{}M", (budget.buffer_pool_mib / 8).clamp(8, 128))),
        ("key_buffer_size", "1M".to_owned()),
        ("loose_max_binlog_total_size", format!("{}M", budget.binlog_mib * 8)),
    ]
}

/// Returns the SQL that leaves a new data directory with one account: the administrator, authenticated by the socket.
/// `mariadb-install-db` creates others that have no password.
pub(super) fn init_sql() -> String {
    format!(
        "FLUSH PRIVILEGES;\n\
         DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';\n\
         DELETE FROM mysql.proxies_priv;\n\
         DELETE FROM mysql.db;\n\
         FLUSH PRIVILEGES;\n\
         CREATE USER {ADMIN} IDENTIFIED VIA unix_socket;\n\
         GRANT ALL ON *.* TO {ADMIN} WITH GRANT OPTION;\n"
    )
}

#[cfg(test)]
mod tests {
    use trove_core::{
        datastore::GuestHost,
        model::{Flavor, Settings, gib, mib},
    };

    use crate::{mariadb::MariaDbVariant, mysql_family::files};

    #[test]
    fn temporary_tables_fit_into_the_remaining_memory() {
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        for (memory, size) in [(mib(256), "1843K"), (gib(4), "2848K"), (gib(64), "15695K")] {
            host.flavor = Flavor::new("f", memory, 1);
            let text = &files::<MariaDbVariant>(&host, "/data", &Settings::new())[1].content;
            assert!(text.contains(&format!("\ntmp_table_size = {size}\n")), "{memory}: {text}");
        }
    }
}
