//! Renders the configuration of a server. Pure.

use std::fmt;

use trove_core::{datastore::GuestHost, model::Settings};

use super::{ADMIN, PORT, derived_settings::DerivedSettings, version::MajorVersion};
use crate::container::{AGENT, CONFIGURATION, ConfigFile, SOCKETS};

/// Our settings that tenants may change.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    // The memory of a session is computed with this multiplier.
    ("hash_mem_multiplier", "1.0"),
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "200"),
    ("default_text_search_config", "pg_catalog.english"),
    ("timezone", "UTC"),
];

/// Returns all configuration files of a server that sees its data directory at this path.
///
/// The last setting of a name counts: included files can override what is before the include, in
/// order of file name, but not what is after it.
pub(super) fn files(host: &GuestHost, data: &str, major: MajorVersion, settings: &Settings) -> Vec<ConfigFile> {
    let defaults = lines(DEFAULTS.map(|(name, value)| (name, value.to_owned())));
    let fixed = lines(fixed(host, data, major));
    let derived = DerivedSettings::new(&host.flavor, host.volume_size);
    let own = settings.iter().filter(|(name, _)| is_name(name)).map(|(name, value)| (name, value.to_string()));
    vec![
        ConfigFile::new("postgresql.conf", format!("{defaults}include_dir 'conf.d'\n{fixed}")),
        ConfigFile::new("conf.d/10-size.conf", lines(derived.settings())),
        ConfigFile::new("conf.d/20-settings.conf", lines(own)),
        ConfigFile::new("pg_hba.conf", hba()),
        ConfigFile::new("pg_ident.conf", format!("trove {AGENT} {ADMIN}\n")),
    ]
}

/// Our settings that tenants may not change.
pub(super) fn fixed(host: &GuestHost, data: &str, major: MajorVersion) -> Vec<(&'static str, String)> {
    let mut fixed = vec![
        ("data_directory", data.to_owned()),
        ("hba_file", format!("{CONFIGURATION}/pg_hba.conf")),
        ("ident_file", format!("{CONFIGURATION}/pg_ident.conf")),
        ("unix_socket_directories", SOCKETS.to_owned()),
        ("listen_addresses", "*".to_owned()),
        ("port", PORT.to_string()),
        ("cluster_name", host.name.clone()),
    ];
    let same = [
        ("superuser_reserved_connections", "5"),
        // A client that does not authenticate occupies a connection for this long.
        ("authentication_timeout", "10s"),
        ("password_encryption", "scram-sha-256"),
        ("huge_pages", "off"),
        ("restart_after_crash", "on"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] "),
        // Statements may contain passwords. None of these logs one.
        ("log_statement", "none"),
        ("log_min_duration_statement", "-1"),
        ("log_min_error_statement", "panic"),
        ("log_error_verbosity", "terse"),
        ("log_parameter_max_length", "0"),
        ("log_parameter_max_length_on_error", "0"),
    ];
    fixed.extend(same.map(|(name, value)| (name, value.to_owned())));
    if major.can_forbid_alter_system() {
        fixed.push(("allow_alter_system", "off".to_owned()));
    }
    fixed
}

/// Returns the client authentication rules. The administrator is authenticated on the socket, as
/// the agent's user, and nowhere else.
fn hba() -> String {
    format!(
        "local all {ADMIN} peer map=trove\n\
         local all all reject\n\
         host all {ADMIN} all reject\n\
         host all all all scram-sha-256\n"
    )
}

fn lines<N: fmt::Display>(settings: impl IntoIterator<Item = (N, String)>) -> String {
    settings.into_iter().map(|(name, value)| format!("{name} = {}\n", quoted(&value))).collect()
}

/// Only a valid name can precede the `=`. There is no parameter with another one.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    name.bytes().all(letter) && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// Quotes a value for a configuration file; every type can be quoted.
fn quoted(value: &str) -> String {
    let mut quoted = String::from("'");
    for letter in value.chars() {
        match letter {
            '\'' => quoted.push_str("''"),
            '\\' => quoted.push_str("\\\\"),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\{:03o}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('\'');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administrator_is_rejected_over_the_network_and_fixed_settings_come_last() {
        let hba = hba();
        let order: Vec<_> = hba.lines().collect();
        assert!(order.iter().position(|line| line.starts_with("host all trove_admin all reject")) < Some(3));
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let files = files(&GuestHost::new(id, "/v", "/d"), "/data", MajorVersion::of("17"), &Settings::new());
        let (_, fixed) = files[0].content.split_once("include_dir").unwrap();
        assert!(fixed.contains("allow_alter_system = 'off'") && fixed.contains("log_min_error_statement = 'panic'"));
    }

    #[test]
    fn quoted_settings_cannot_be_escaped() {
        for (value, text) in [
            ("a, b", "'a, b'"),
            ("o'brien", "'o''brien'"),
            (r"\", r"'\\'"),
            (r"\'", r"'\\'''"),
            ("a\nport = 1", r"'a\012port = 1'"),
            ("# no comment", "'# no comment'"),
            ("größe", "'größe'"),
        ] {
            assert_eq!(quoted(value), text);
        }
        for name in ["a b", "a\n", "", "1a", "include_dir 'x'", "a=", "größe"] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(is_name("auto_explain.log_nested") && is_name("DateStyle"));
    }
}
