//! The files a server is started with. Pure.

use std::fmt;

use trove_core::{datastore::GuestHost, model::Settings};

use super::{ADMIN, PORT, derived_settings::DerivedSettings, version::MajorVersion};
use crate::container::{AGENT, CONFIGURATION, ConfigFile, SOCKETS};

/// The settings that are ours and may be changed.
pub(super) const DEFAULTS: [(&str, &str); 5] = [
    // What a hash table may take is what the share of a session was counted with.
    ("hash_mem_multiplier", "1.0"),
    ("random_page_cost", "1.1"),
    ("effective_io_concurrency", "200"),
    ("default_text_search_config", "pg_catalog.english"),
    ("timezone", "UTC"),
];

/// All files of a server whose data directory it sees at this path.
///
/// The last setting of a name counts: what stands before the include may be changed by files there, of which the later
/// in order of name counts, and what stands after may not.
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

/// The settings that are ours and stay as they are.
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
        // A client that does not say who it is has one of the connections all that time.
        ("authentication_timeout", "10s"),
        ("password_encryption", "scram-sha-256"),
        ("huge_pages", "off"),
        ("restart_after_crash", "on"),
        ("log_destination", "stderr"),
        ("logging_collector", "off"),
        ("log_timezone", "UTC"),
        ("log_line_prefix", "%m [%p] "),
        // Statements may hold passwords. None of these lets one into the log.
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

/// Who may connect from where. The administrator comes from the socket, as the agent's user, and from nowhere else.
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

/// Only what is a name can stand before the `=`. There is no parameter of another.
fn is_name(name: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_.$".contains(&byte);
    name.bytes().all(letter) && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
}

/// A value as the server reads it from a file: in quotes, which every type takes.
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
    fn the_administrator_is_unreachable_by_network_and_last_words_are_fixed() {
        let hba = hba();
        let order: Vec<_> = hba.lines().collect();
        assert!(order.iter().position(|line| line.starts_with("host all trove_admin all reject")) < Some(3));
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let files = files(&GuestHost::new(id, "/v", "/d"), "/data", MajorVersion::of("17"), &Settings::new());
        let (_, fixed) = files[0].content.split_once("include_dir").unwrap();
        assert!(fixed.contains("allow_alter_system = 'off'") && fixed.contains("log_min_error_statement = 'panic'"));
    }

    #[test]
    fn nothing_in_a_setting_ends_its_line_or_its_quotes() {
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
