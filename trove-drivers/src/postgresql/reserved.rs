//! The parameters that the service controls, and why. Pure.
//!
//! The server sorts its parameters into categories, which may change in a later version. So a
//! parameter is reserved by its category, its name, or the established meaning of similar names.

use crate::reserved_names::matches_pattern;

/// Categories and names that are reserved for one reason.
struct ReservedCategory {
    reason: &'static str,
    /// The server's names of categories.
    categories: &'static [&'static str],
    /// Name patterns with at most one `*` within, or one at either or both ends.
    names: &'static [&'static str],
}

const RULES: [ReservedCategory; 13] = [
    ReservedCategory {
        reason: "only the service loads code",
        categories: &["Client Connection Defaults / Shared Library Preloading"],
        names: &["*librar*", "*preload*", "jit_provider", "extension_*"],
    },
    ReservedCategory {
        reason: "the service manages backups and replication",
        categories: &[
            "Write-Ahead Log / Archiving",
            "Write-Ahead Log / Archive Recovery",
            "Write-Ahead Log / Recovery Target",
            "Replication / Primary Server",
            "Replication / Standby Servers",
        ],
        names: &["archive_*", "recovery_target*", "primary_*", "*_command", "synchronous_standby_names", "sync*_slots"],
    },
    ReservedCategory {
        reason: "the service manages file locations",
        categories: &["File Locations"],
        names: &["*_file", "*_dir", "*_directory", "*_directories", "stats_temp_*"],
    },
    ReservedCategory {
        reason: "the service manages network access",
        categories: &["Connections and Authentication / SSL"],
        names: &["listen_addresses", "port", "unix_socket_*", "bonjour*", "ssl", "ssl_*"],
    },
    ReservedCategory {
        reason: "the service manages authentication",
        categories: &["Connections and Authentication / Authentication"],
        names: &["authentication_timeout", "password_encryption", "db_user_namespace", "krb_*", "gss_*", "oauth_*"],
    },
    ReservedCategory {
        reason: "some connections are reserved for the service",
        categories: &[],
        names: &["superuser_reserved_connections", "reserved_connections"],
    },
    ReservedCategory {
        reason: "statements may contain passwords, which must not be logged",
        categories: &[],
        names: &[
            "log_statement",
            "log_statement_sample_rate",
            "log_transaction_sample_rate",
            "log_min_duration_*",
            "log_min_error_statement",
            "log_min_messages",
            "log_error_verbosity",
            "log_parameter_*",
            "debug_print_*",
            "debug_pretty_print",
        ],
    },
    ReservedCategory {
        reason: "the service reads the log",
        categories: &["Reporting and Logging / Where to Log"],
        names: &["log_destination", "logging_collector", "log_line_prefix", "log_timezone", "cluster_name", "syslog_*"],
    },
    // Docker or the kernel may kill a server at any time, and so may the service.
    ReservedCategory {
        reason: "without it a crash could lose data",
        categories: &[],
        names: &["fsync", "full_page_writes", "data_sync_retry", "restart_after_crash"],
    },
    ReservedCategory {
        reason: "it depends on the host, which the service manages",
        categories: &[],
        names: &["huge_page*", "dynamic_shared_memory_type", "shared_memory_type"],
    },
    ReservedCategory { reason: "the service administers the server", categories: &[], names: &["allow_*"] },
    ReservedCategory {
        reason: "it is a developer option",
        categories: &["Developer Options"],
        names: &["ignore_*", "zero_damaged_pages", "trace_*", "wal_consistency_checking"],
    },
    ReservedCategory {
        reason: "it belongs to a session or a transaction",
        categories: &[],
        names: &[
            "transaction_deferrable",
            "transaction_isolation",
            "transaction_read_only",
            "role",
            "session_auth*",
            "seed",
        ],
    },
];

/// Parameters that are not reserved although their category is.
const OPEN: [&str; 2] = ["scram_iterations", "md5_password_warnings"];

/// Values that are not offered, because the server would not start or could not be backed up.
const WITHHELD: [(&str, &str); 2] = [("wal_level", "minimal"), ("io_method", "io_uring")];

/// Returns why a parameter cannot be set, if it cannot.
pub(super) fn reserved(name: &str, category: &str) -> Option<&'static str> {
    if OPEN.contains(&name) {
        return None;
    }
    let of = |rule: &&ReservedCategory| {
        rule.categories.contains(&category) || rule.names.iter().any(|pattern| matches_pattern(pattern, name))
    };
    RULES.iter().find(of).map(|rule| rule.reason)
}

/// Returns true if a parameter may have this value.
pub(super) fn offered(name: &str, word: &str) -> bool {
    !WITHHELD.contains(&(name, word))
}

#[cfg(test)]
mod tests {
    use trove_core::{
        datastore::GuestHost,
        model::{Flavor, gib},
    };

    use super::*;
    use crate::postgresql::{config, derived_settings::DerivedSettings, version::MajorVersion};

    #[test]
    fn fixed_settings_are_reserved() {
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        for version in ["15", "16", "17", "18"] {
            for (name, _) in config::fixed(&GuestHost::new(id, "/v", "/d"), "/data", MajorVersion::of(version)) {
                assert!(reserved(name, "").is_some(), "{name}");
            }
        }
        let derived = DerivedSettings::new(&Flavor::new("f", gib(1), 1), gib(10)).settings();
        for name in derived.iter().map(|(name, _)| *name).chain(config::DEFAULTS.map(|(name, _)| name)) {
            assert_eq!(reserved(name, ""), None, "{name} is meant to be changed");
        }
    }

    #[test]
    fn dangerous_parameters_are_reserved_in_any_category() {
        for name in [
            "shared_preload_libraries",
            "session_preload_libraries",
            "local_preload_libraries",
            "dynamic_library_path",
            "jit_provider",
            "output_plugin_libraries",
            "archive_library",
            "oauth_validator_libraries",
            "extension_control_path",
            "archive_command",
            "restore_command",
            "recovery_end_command",
            "archive_cleanup_command",
            "ssl_passphrase_command",
            "primary_conninfo",
            "synchronized_standby_slots",
            "config_file",
            "external_pid_file",
            "krb_server_keyfile",
            "data_directory",
            "log_directory",
            "promote_trigger_file",
            "unix_socket_permissions",
            "ssl_crl_dir",
            "huge_pages",
            "allow_in_place_tablespaces",
            "allow_system_table_mods",
            "zero_damaged_pages",
            "ignore_checksum_failure",
        ] {
            assert!(reserved(name, "").is_some(), "{name}");
        }
        for name in ["search_path", "statement_timeout", "log_lock_waits", "synchronous_commit", "wal_level", "jit"] {
            assert_eq!(reserved(name, "Other"), None, "{name}");
        }
        assert!(reserved("whatever", "File Locations").is_some());
        assert!(!offered("wal_level", "minimal") && offered("wal_level", "logical"));
    }
}
