//! Option files, and the settings that follow from a server's memory and volume. Pure.

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

/// The threads a server has beside its sessions, generously.
const OTHER_THREADS: u32 = 128;

/// The longest line of an option file; what is longer, servers take for two.
const LINE_BYTES: usize = 4000;

/// The most threads a server of this size may need, with any settings that are allowed.
pub(crate) fn max_processes(flavor: &Flavor) -> u32 {
    let threads = limits::most_connections(flavor) + limits::most_threads();
    u32::try_from(threads).unwrap_or(u32::MAX).saturating_add(OTHER_THREADS)
}

/// The file that a server is started with. The last setting of a name counts: what stands before the include may be
/// changed by files there, what stands after may not.
pub(crate) fn main_file(host: &GuestHost, data: &str, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> ConfigFile {
    let common = [
        ("datadir", data.to_owned()),
        ("socket", format!("{SOCKETS}/{SOCKET}")),
        ("pid_file", format!("{SOCKETS}/server.pid")),
        ("tmpdir", DATA_VOLUME.to_owned()),
        ("port", PORT.to_string()),
        ("bind_address", "*".to_owned()),
        ("server_id", server_id(host).to_string()),
        // Nobody is let in by a name that a name server made up, or kept out for what others from there did.
        ("skip_name_resolve", "ON".to_owned()),
        ("host_cache_size", "0".to_owned()),
        ("lower_case_table_names", "0".to_owned()),
        // The binary log belongs to the data, of which a crash may leave a part in it only; so it is moved with it.
        ("log_bin", "binlog".to_owned()),
        ("binlog_format", "ROW".to_owned()),
        // Rows are logged, not statements, so that functions and triggers are nobody's risk but their makers'.
        ("log_bin_trust_function_creators", "ON".to_owned()),
        // A client that does not say who it is has one of the connections all that time.
        ("connect_timeout", "10".to_owned()),
        // What it has to say goes where a container's words go.
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

/// A file of settings that follow from the size.
pub(crate) fn size_file(settings: &[(&str, String)]) -> ConfigFile {
    ConfigFile::new("conf.d/10-size.cnf", format!("[mysqld]\n{}", lines(settings)))
}

/// The file of the settings that somebody chose.
pub(crate) fn settings_file(settings: &Settings) -> ConfigFile {
    let rendered = settings.iter().filter_map(|(name, value)| line(name, value));
    ConfigFile::new("conf.d/50-settings.cnf", format!("[mysqld]\n{}", rendered.collect::<String>()))
}

/// [`Invalid`](trove_core::error::Kind::Invalid) for settings that are too much for a server of this size, or that an
/// option file cannot hold.
pub(crate) fn check_settings(flavor: &Flavor, server_mib: u64, settings: &Settings) -> Result<()> {
    limits::check(flavor, server_mib, settings)?;
    match settings.iter().find(|(name, value)| line(name, value).is_none()) {
        Some((name, _)) => Err(Error::invalid(format!("the value of parameter {name} is too long"))),
        None => Ok(()),
    }
}

/// A number from 1 on that belongs to the instance.
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

/// One line that sets one parameter; `None` where it would be something else.
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
    fn a_value_stays_on_its_line() {
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
    fn what_is_fixed_comes_last() {
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let host = GuestHost::new(id, "/v", "/d");
        let text = main_file(&host, "/data", &[("a", "1")], &[("read_only", "ON")]).content;
        let (before, after) = text.split_once("!includedir /etc/trove/conf.d/\n[mysqld]\n").unwrap();
        assert_eq!(before, "[mysqld]\na = 1\n");
        assert!(after.contains("\nskip_name_resolve = ON\n") && after.ends_with("read_only = ON\n"));
        assert!(server_id(&host) > 0);
    }
}
