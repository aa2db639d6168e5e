//! The files a server is started with. Pure.

use trove_core::{
    datastore::GuestHost,
    model::{Flavor, Settings},
};

use crate::{
    container::ConfigFile,
    mysql_family::{ADMIN, Shares, main_file, settings_file, size_file},
};

/// What a server takes without any session and beside its cache.
const SERVER_MIB: u64 = 112;

/// How many temporary tables each session is believed to have at once.
const TEMPORARY_TABLES: u64 = 2;

pub(super) const INIT_SQL: &str = "init.sql";

/// How the memory and the volume of this server are shared out.
pub(super) fn shares(host: &GuestHost) -> Shares {
    Shares::new(&host.flavor, host.volume_size, SERVER_MIB)
}

/// What a server of this size takes without any session and beside its cache.
pub(super) fn server_mib(_flavor: &Flavor) -> u64 {
    SERVER_MIB
}

/// All files of a server.
pub(super) fn files(host: &GuestHost, data: &str, settings: &Settings) -> Vec<ConfigFile> {
    let shares = shares(host);
    let temporary = shares.temporary_mib * 1024 / (TEMPORARY_TABLES * u64::from(shares.max_connections));
    let mut size = shares.settings();
    size.extend([
        ("innodb_log_file_size", format!("{}M", shares.redo_mib)),
        ("tmp_table_size", format!("{}K", temporary.clamp(256, 64 << 10))),
        ("max_heap_table_size", format!("{}K", temporary.clamp(256, 64 << 10))),
        ("aria_pagecache_buffer_size", format!("{}M", (shares.buffer_pool_mib / 8).clamp(8, 128))),
        ("key_buffer_size", "1M".to_owned()),
        ("loose_max_binlog_total_size", format!("{}M", shares.binlog_mib * 8)),
    ]);
    vec![
        main_file(host, data, &defaults(), &fixed()),
        size_file(&size),
        settings_file(settings),
        ConfigFile::new(INIT_SQL, init_sql()),
    ]
}

/// What a new data directory is given before it is used for the first time: an administrator who is known by the socket,
/// and nobody else. The set-up makes others, who have no password.
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

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    [("character_set_server", "utf8mb4"), ("binlog_expire_logs_seconds", "86400"), ("sync_binlog", "1")]
        .map(|(name, value)| (name, value.to_owned()))
        .into()
}

pub(super) fn fixed() -> Vec<(&'static str, String)> {
    [
        // Nobody writes before it is known that this is the server to write to.
        ("read_only", "ON"),
        ("gtid_strict_mode", "ON"),
        ("log_slave_updates", "ON"),
        ("unix_socket", "FORCE_PLUS_PERMANENT"),
        ("loose_symbolic_links", "OFF"),
        ("loose_wsrep_on", "OFF"),
        ("loose_feedback", "OFF"),
        ("log_warnings", "1"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use trove_core::model::{gib, mib};

    use super::*;

    #[test]
    fn temporary_tables_fit_into_what_is_left() {
        let mut host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        for (memory, size) in [(mib(256), "1843K"), (gib(4), "2848K"), (gib(64), "15695K")] {
            host.flavor = Flavor::new("f", memory, 1);
            let text = &files(&host, "/data", &Settings::new())[1].content;
            assert!(text.contains(&format!("\ntmp_table_size = {size}\n")), "{memory}: {text}");
        }
    }
}
