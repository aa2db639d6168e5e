//! The parameters that the service controls on both engines, and why. Pure.

use crate::reserved_names::ReservedNames;

const RULES: [ReservedNames; 13] = [
    ReservedNames {
        reason: "it has no effect, or the server changes it itself",
        names: &["flush_time", "innodb_thread_sleep_delay"],
    },
    ReservedNames {
        reason: "the service manages file locations",
        names: &[
            "*_dir",
            "*_dirs",
            "*dir",
            "*_directory",
            "*_directories",
            "*_path",
            "*_file",
            "*_filename",
            "basedir",
            "log_error",
            "secure_file_priv",
            "log_bin_index",
            "innodb_data_*",
            "innodb_temp_*",
            "innodb_*_tablespaces",
            "innodb_disable_sort_file_cache",
            "ignore_db_dirs",
            "symbolic_links",
        ],
    },
    ReservedNames {
        reason: "only the service loads code",
        names: &["plugin_*", "allow_suspicious_udfs", "component*", "*secondary_engine*", "external_table_*"],
    },
    ReservedNames {
        reason: "it would run statements of one user as another",
        names: &[
            "init_connect",
            "init_slave",
            "init_replica",
            "init_file",
            "event_scheduler",
            "automatic_sp_privileges",
        ],
    },
    ReservedNames {
        reason: "the service manages network access",
        names: &[
            "bind_address",
            "port",
            "extra_port",
            "extra_max_connections",
            "socket",
            "unix_socket",
            "skip_networking",
            "skip_name_resolve",
            "skip_show_database",
            "admin_*",
            "create_admin_listener_thread",
            "mysqlx*",
            "proxy_protocol_*",
            "protocol_compression_*",
            "redirect_url",
            "require_secure_transport",
            "host_cache_size",
            "connect_timeout",
            "thread_handling",
            "thread_pool_*",
            "ssl_*",
            "tls_*",
        ],
    },
    ReservedNames {
        reason: "the service manages privileges",
        names: &[
            "auth_*",
            "authentication_*",
            "auto_generate_certs",
            "*_proxy_users",
            "caching_sha2_*",
            "sha256_*",
            "skip_grant_tables",
            "partial_revokes",
            "mandatory_roles",
            "activate_*_roles*",
            "old_passwords",
            "secure_auth",
            "strict_password_validation",
            "default_password_lifetime",
            "password_*",
            "generated_random_password_length",
            "disconnect_on_expired_password",
            "max_password_errors",
            "local_infile",
            "table_encryption_privilege_check",
            "print_identified_with_as_hex",
            "log_bin_trust_function_creators",
            "xa_detach_on_prepare",
        ],
    },
    ReservedNames {
        reason: "the service manages replication",
        names: &[
            "server_id*",
            "server_uid",
            "server_uuid",
            "gtid*",
            "enforce_gtid_consistency",
            "log_bin",
            "log_bin_basename",
            "binlog_format",
            "binlog_checksum",
            "binlog_do_db",
            "binlog_ignore_db",
            "binlog_row_image",
            "binlog_encryption",
            "binlog_error_action",
            "binlog_rotate_*",
            "binlog_gtid_*",
            "binlog_legacy_event_pos",
            "binlog_alter_two_phase",
            "binlog_row_value_options",
            "encrypt_binlog",
            "log_replica_updates",
            "log_slave_updates",
            "read_binlog_speed_limit",
            "slave_*",
            "replica_*",
            "source_*",
            "master_*",
            "rpl_*",
            "relay_*",
            "report_*",
            "replicate_*",
            "replication_*",
            "group_replication*",
            "wsrep_*",
            "skip_replica_start",
            "skip_slave_start",
            "max_relay_log_size",
            "sync_master_info",
            "sync_source_info",
            "sync_relay_*",
            "terminology_use_previous",
            "log_statements_unsafe_for_binlog",
            "rbr_exec_mode",
        ],
    },
    ReservedNames {
        reason: "the service manages the read-only state",
        names: &[
            "read_only",
            "super_read_only",
            "transaction_read_only",
            "tx_read_only",
            "offline_mode",
            "innodb_read_only*",
        ],
    },
    ReservedNames {
        reason: "statements may contain passwords, which must not be logged",
        names: &[
            "general_log",
            "log_raw",
            "log_output",
            "slow_query_log",
            "log_slow_query",
            "binlog_rows_query_log_events",
            "sql_log_off",
        ],
    },
    ReservedNames {
        reason: "the service reads the log",
        names: &["log_error_*", "log_timestamps", "log_warnings", "feedback*", "log_tc_size"],
    },
    ReservedNames {
        reason: "without it a crash could lose data or prevent a start",
        names: &[
            "innodb_doublewrite*",
            "innodb_force_*",
            "innodb_fast_shutdown",
            "innodb_checksum*",
            "innodb_log_checksums",
            "innodb_log_compressed_pages",
            "innodb_page_size",
            "innodb_undo_log_*",
            "innodb_undo_tablespaces",
            "innodb_max_undo_log_size",
            "innodb_log_group_home_dir",
            "innodb_log_file_mmap",
            "innodb_log_file_buffering",
            "innodb_log_file_write_through",
            "innodb_log_write_ahead_size",
            "innodb_log_files_in_group",
            "innodb_validate_tablespace_paths",
            "innodb_extend_and_initialize",
            "innodb_fatal_semaphore_wait_threshold",
            "innodb_use_atomic_writes",
            "innodb_dedicated_server",
            "aria_block_size",
            "aria_encrypt_tables",
            "aria_force_*",
            "aria_recover_options",
            "aria_group_commit*",
            "aria_log_*",
            "aria_sync_log_dir",
            "sync_frm",
            "lower_case_table_names",
            "persist*",
            "core_file",
            "ignore_builtin_innodb",
            "disabled_storage_engines",
            "large_pages",
            "old",
            "secure_timestamp",
        ],
    },
    ReservedNames {
        reason: "encryption needs keys that the service does not have",
        names: &["*encrypt*", "keyring*", "*scrub*"],
    },
    ReservedNames {
        reason: "it depends on the host, which the service manages",
        names: &[
            "innodb_use_native_aio",
            "innodb_use_fdatasync",
            "innodb_linux_aio",
            "innodb_flush_method",
            "innodb_numa_interleave",
            "innodb_fsync_threshold",
            "container_aware",
            "server_memory",
            "*_in_core_*",
            "open_files_limit",
            "thread_stack",
            "super_large_pages",
            "innodb_buffer_pool_size_auto_min",
            "innodb_buffer_pool_size_max",
        ],
    },
];

/// Variables that trigger an action and have no lasting value.
const ACTIONS: ReservedNames = ReservedNames {
    reason: "it triggers an action",
    names: &[
        "*_now",
        "*_abort",
        "innodb_monitor_*",
        "innodb_ft_aux_table",
        "innodb_max_purge_lag_wait",
        "debug*",
        "innodb_api_*",
    ],
};

/// Returns why a parameter cannot be set, if it cannot.
pub(crate) fn reserved(name: &str, own: &[ReservedNames]) -> Option<&'static str> {
    own.iter().chain(&RULES).chain([&ACTIONS]).find(|rule| rule.matches(name)).map(|rule| rule.reason)
}

#[cfg(test)]
mod tests {
    use trove_core::{datastore::GuestHost, model::Settings};

    use super::*;
    use crate::{mariadb::MariaDbVariant, mysql::MySqlVariant, mysql_family::files};

    #[test]
    fn fixed_settings_are_reserved() {
        let host = GuestHost::new("9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap(), "/v", "/d");
        for files in [
            files::<MySqlVariant>(&host, "/data", &Settings::new()),
            files::<MariaDbVariant>(&host, "/data", &Settings::new()),
        ] {
            let (defaults, fixed) = files[0].content.split_once("!includedir").unwrap();
            let names = |text: &str| -> Vec<String> {
                let names = text.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name);
                names.map(|name| name.trim_start_matches("loose_").to_owned()).collect()
            };
            assert!(names(fixed).len() > 20);
            for name in names(fixed) {
                assert!(reserved(&name, &[]).is_some(), "{name}");
            }
            for name in names(&files[1].content).iter().chain(&names(defaults)) {
                let ours = ["innodb_numa_interleave", "performance_schema"].contains(&name.as_str());
                assert_eq!(reserved(name, &[]).is_some(), ours && name.starts_with("innodb"), "{name}");
            }
        }
    }

    #[test]
    fn dangerous_parameters_are_reserved() {
        for name in [
            "secure_file_priv",
            "plugin_dir",
            "plugin_load_add",
            "init_file",
            "init_connect",
            "init_replica",
            "local_infile",
            "general_log",
            "general_log_file",
            "slow_query_log_file",
            "log_slow_query_file",
            "tmpdir",
            "innodb_tmpdir",
            "innodb_directories",
            "innodb_data_home_dir",
            "innodb_undo_directory",
            "innodb_redo_log_archive_dirs",
            "innodb_buffer_pool_filename",
            "lc_messages_dir",
            "character_sets_dir",
            "ft_stopword_file",
            "ssl_key",
            "admin_port",
            "mysqlx_port",
            "skip_grant_tables",
            "persisted_globals_load",
            "authentication_policy",
            "wsrep_provider",
            "wsrep_notify_cmd",
            "server_id",
            "gtid_mode",
            "super_read_only",
            "innodb_read_only",
            "innodb_force_recovery",
            "innodb_doublewrite",
            "lower_case_table_names",
            "innodb_encrypt_tables",
            "relay_log",
            "replica_load_tmpdir",
            "mandatory_roles",
        ] {
            assert!(reserved(name, &[]).is_some(), "{name}");
        }
        for name in
            ["max_connections", "sql_mode", "innodb_buffer_pool_size", "wait_timeout", "sync_binlog", "long_query_time"]
        {
            assert_eq!(reserved(name, &[]), None, "{name}");
        }
    }
}
