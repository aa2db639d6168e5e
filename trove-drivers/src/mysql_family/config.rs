//! Renders option files. Pure.

use trove_core::{
    datastore::GuestHost,
    error::{Error, Result},
    model::{Flavor, Setting, Settings},
};

use super::{DATA_VOLUME, PORT, SOCKET, limits};
use crate::{
    container::{CONFIGURATION, ConfigFile, SOCKETS},
    hash::spread,
};

/// A generous bound for the threads of a server besides its sessions.
const OTHER_THREADS: u32 = 128;

/// The maximum length of a line; servers split longer ones.
const LINE_BYTES: usize = 4000;

/// Returns the maximum number of threads that a server of this size needs, with any allowed
/// settings.
pub(crate) fn max_processes(flavor: &Flavor) -> u32 {
    let threads = limits::most_connections(flavor) + limits::most_threads();
    u32::try_from(threads).unwrap_or(u32::MAX).saturating_add(OTHER_THREADS)
}

/// Returns the main option file. The last setting of a name counts: included files can override
/// what is before the include, but not what is after it.
pub(crate) fn main_file(host: &GuestHost, data: &str, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ConfigFile {
    let common = [
        ("datadir", data.to_owned()),
        ("socket", format!("{SOCKETS}/{SOCKET}")),
        ("pid_file", format!("{SOCKETS}/server.pid")),
        ("tmpdir", DATA_VOLUME.to_owned()),
        ("port", PORT.to_string()),
        ("bind_address", "*".to_owned()),
        ("server_id", server_id(host).to_string()),
        // Host names from DNS neither grant access nor block a host because of others' failures.
        ("skip_name_resolve", "ON".to_owned()),
        ("host_cache_size", "0".to_owned()),
        ("lower_case_table_names", "0".to_owned()),
        // The binary log belongs to the data, because a crash may leave a part of a transaction in
        // it only; so it moves with the data.
        ("log_bin", "binlog".to_owned()),
        ("binlog_format", "ROW".to_owned()),
        // Rows are logged, not statements, so functions and triggers affect only their creators.
        ("log_bin_trust_function_creators", "ON".to_owned()),
        // A client that does not authenticate occupies a connection for this long.
        ("connect_timeout", "10".to_owned()),
        // Errors go to the container's log.
        ("skip_log_error", String::new()),
        ("general_log_file", "general.log".to_owned()),
        ("slow_query_log_file", "slow.log".to_owned()),
    ];
    let text = format!(
        "[mysqld]\n{}!includedir {CONFIGURATION}/conf.d/\n[mysqld]\n{}{}",
        lines(defaults),
        lines(&common),
        lines(fixed)
    );
    ConfigFile::new("my.cnf", text)
}

/// Returns the file of the settings that depend on the size.
pub(crate) fn size_file(settings: &[(&str, String)]) -> ConfigFile {
    ConfigFile::new("conf.d/10-size.cnf", format!("[mysqld]\n{}", lines(settings)))
}

/// Returns the file of the tenant's settings.
pub(crate) fn settings_file(settings: &Settings) -> ConfigFile {
    let rendered = settings.iter().filter_map(|(name, value)| line(name, value));
    ConfigFile::new("conf.d/50-settings.cnf", format!("[mysqld]\n{}", rendered.collect::<String>()))
}

/// Returns [`Invalid`](trove_core::error::Kind::Invalid) for settings that exceed the size of the
/// server or do not fit into an option file.
pub(crate) fn check_settings(flavor: &Flavor, server_mib: u64, settings: &Settings) -> Result<()> {
    limits::check(flavor, server_mib, settings)?;
    match settings.iter().find(|(name, value)| line(name, value).is_none()) {
        Some((name, _)) => Err(Error::invalid(format!("the value of parameter {name} is too long"))),
        None => Ok(()),
    }
}

/// Returns a positive number that is derived from the instance.
fn server_id(host: &GuestHost) -> u32 {
    spread(host.instance.to_string().as_bytes(), u32::MAX - 1) + 1
}

fn lines<V: AsRef<str>>(settings: &[(&str, V)]) -> String {
    let line = |(name, value): &(&str, V)| match value.as_ref() {
        "" => format!("{name}\n"),
        value => format!("{name} = {value}\n"),
    };
    settings.iter().map(line).collect()
}

/// Renders one setting on one line; `None` if that is not possible.
fn line(name: &str, value: &Setting) -> Option<String> {
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let mut quoted = String::from('"');
    for letter in value.to_string().chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_control() => return None,
            letter => quoted.push(letter),
        }
    }
    let line = format!("{name} = {quoted}\"\n");
    (is_name && line.len() <= LINE_BYTES).then_some(line)
}

#[cfg(test)]
mod tests {
    use trove_core::model::gib;

    use super::*;

    #[test]
    fn settings_are_rendered_on_one_line() {
        for (value, rendered) in [
            ("plain", "x = \"plain\"\n"),
            ("", "x = \"\"\n"),
            (" a # b ", "x = \" a # b \"\n"),
            ("a\"b'c", "x = \"a\\\"b'c\"\n"),
            ("a\\", "x = \"a\\\\\"\n"),
            ("\\n", "x = \"\\\\n\"\n"),
        ] {
            assert_eq!(line("x", &value.into()).as_deref(), Some(rendered));
        }
        assert_eq!(line("x", &Setting::from(true)).as_deref(), Some("x = \"on\"\n"));
        for bad in ["a\nskip-grant-tables", "a\rb", "\0"] {
            assert_eq!(line("x", &bad.into()), None);
        }
        assert_eq!(line("x", &"\\".repeat(3000).into()), None);
        assert_eq!(line("x y", &"1".into()), None);
        let long = Settings::from([("x".to_owned(), "y".repeat(4096).into())]);
        assert!(check_settings(&Flavor::new("f", gib(1), 1), 184, &long).unwrap_err().to_string().contains("too long"));
        assert_eq!(settings_file(&long).content, "[mysqld]\n");
    }

    #[test]
    fn fixed_settings_come_last() {
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let host = GuestHost::new(id, "/v", "/d");
        let text = main_file(&host, "/data", &[("a", "1")], &[("read_only", "ON")]).content;
        let (before, after) = text.split_once("!includedir /etc/trove/conf.d/\n[mysqld]\n").unwrap();
        assert_eq!(before, "[mysqld]\na = 1\n");
        assert!(after.contains("\nskip_name_resolve = ON\n") && after.ends_with("read_only = ON\n"));
        assert!(server_id(&host) > 0);
    }
}
