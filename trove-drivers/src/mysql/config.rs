//! The files a server is started with. Pure.

use trove_core::{
    datastore::GuestHost,
    model::{Flavor, Settings, gib},
};

use crate::{
    container::ConfigFile,
    mysql_family::{ADMIN, Shares, main_file, settings_file, size_file},
};

/// What a server takes without any session and beside its cache; and with its own statistics.
const SERVER_MIB: u64 = 184;
const SERVER_WITH_STATISTICS_MIB: u64 = 400;

/// What a new data directory is given before it is used for the first time: an administrator who is known by the socket,
/// and nobody else. Plug-ins are not loaded yet, so the account is told how it is known behind their back.
pub(super) const INIT_SQL: &str = "init.sql";

/// How the memory and the volume of this server are shared out.
pub(super) fn shares(host: &GuestHost) -> Shares {
    Shares::new(&host.flavor, host.volume_size, server_mib(&host.flavor))
}

/// What a server of this size takes without any session and beside its cache.
pub(super) fn server_mib(flavor: &Flavor) -> u64 {
    if has_statistics(flavor) { SERVER_WITH_STATISTICS_MIB } else { SERVER_MIB }
}

/// All files of a server.
pub(super) fn files(host: &GuestHost, data: &str, settings: &Settings) -> Vec<ConfigFile> {
    let shares = shares(host);
    let mut size = shares.settings();
    size.extend([
        ("innodb_redo_log_capacity", format!("{}M", shares.redo_mib)),
        ("temptable_max_ram", format!("{}M", shares.temporary_mib)),
        ("tmp_table_size", format!("{}M", (shares.temporary_mib / 4).max(1))),
        ("performance_schema", if has_statistics(&host.flavor) { "ON" } else { "OFF" }.to_owned()),
    ]);
    vec![
        main_file(host, data, &defaults(), &fixed()),
        size_file(&size),
        settings_file(settings),
        ConfigFile::new(INIT_SQL, init_sql()),
    ]
}

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

fn has_statistics(flavor: &Flavor) -> bool {
    flavor.memory >= gib(2)
}

pub(super) fn defaults() -> Vec<(&'static str, String)> {
    [
        ("character_set_server", "utf8mb4"),
        ("binlog_expire_logs_seconds", "86400"),
        // Not every kernel and container lets the server choose where its memory is.
        ("loose_innodb_numa_interleave", "OFF"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

pub(super) fn fixed() -> Vec<(&'static str, String)> {
    [
        // Nobody writes before it is known that this is the server to write to.
        ("super_read_only", "ON"),
        ("gtid_mode", "ON"),
        ("enforce_gtid_consistency", "ON"),
        // What the service sets is all that is set: nothing is kept by the server beside it.
        ("persisted_globals_load", "OFF"),
        // A right on all databases does not have to be one on the server's own.
        ("partial_revokes", "ON"),
        ("plugin_load_add", "auth_socket=auth_socket.so"),
        ("loose_auth_socket", "FORCE_PLUS_PERMANENT"),
        ("secure_file_priv", "NULL"),
        ("loose_mysqlx", "OFF"),
        ("log_raw", "OFF"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use trove_core::model::mib;

    use super::*;

    #[test]
    fn the_smallest_servers_keep_no_statistics() {
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let mut host = GuestHost::new(id, "/v", "/d");
        for (memory, statistics) in [(mib(384), "OFF"), (gib(2), "ON")] {
            host.flavor = Flavor::new("f", memory, 1);
            let size = &files(&host, "/data", &Settings::new())[1].content;
            assert!(size.contains(&format!("performance_schema = {statistics}\n")), "{size}");
        }
    }
}
