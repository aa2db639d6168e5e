//! Option files, and the settings that follow from a server's memory and volume. Pure.

use trove_core::{
    datastore::GuestHost,
    error::{Error, Result},
    model::{ByteSize, Flavor, Setting, Settings},
};

use super::{PORT, SOCKET, VOLUME, limits};
use crate::{
    container::{CONFIGURATION, ConfigFile, SOCKETS},
    hash::spread,
};

/// What a session takes without temporary tables, with the buffers that [`Shares`] gives it.
pub(super) const SESSION_MIB: u64 = 2;

/// A session is allowed for each so much of memory.
const SESSION_SHARE_MIB: u64 = 16;

/// The threads a server has beside its sessions, generously.
const OTHER_THREADS: u32 = 128;

/// The longest line of an option file; what is longer, servers take for two.
const LINE_BYTES: usize = 4000;

/// How the memory and the volume of a server are shared out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) buffer_pool_mib: u64,
    pub(crate) max_connections: u32,
    /// What is left for temporary tables, of all sessions.
    pub(crate) temporary_mib: u64,
    pub(crate) redo_mib: u64,
    pub(crate) binlog_mib: u64,
}

impl Shares {
    /// The shares of this flavor and volume, where the server takes so much without any session and beside its cache.
    pub(crate) fn new(flavor: &Flavor, volume: ByteSize, server_mib: u64) -> Self {
        let (memory, volume) = (flavor.memory.as_mib().max(128), volume.as_mib());
        // The smallest servers need the memory for themselves and their sessions more than for a cache.
        let buffer_pool = match memory {
            ..512 => memory / 8,
            512..2048 => memory / 4,
            _ => memory / 2,
        };
        let connections = (memory / SESSION_SHARE_MIB).clamp(20, 1000);
        let spent = server_mib + buffer_pool + SESSION_MIB * connections;
        Self {
            buffer_pool_mib: buffer_pool,
            max_connections: u32::try_from(connections).unwrap_or(1000),
            temporary_mib: memory.saturating_sub(spent).max(8),
            redo_mib: (volume / 16).clamp(16, 4096),
            binlog_mib: (volume / 32).clamp(8, 256),
        }
    }

    /// The settings that both engines have, as lines.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let tables = (u64::from(self.max_connections) * 10).clamp(200, 4000);
        vec![
            ("innodb_buffer_pool_size", format!("{}M", self.buffer_pool_mib)),
            ("innodb_log_buffer_size", format!("{}M", (self.redo_mib / 4).clamp(4, 16))),
            ("max_connections", self.max_connections.to_string()),
            ("table_open_cache", tables.to_string()),
            ("table_definition_cache", tables.max(400).to_string()),
            ("max_binlog_size", format!("{}M", self.binlog_mib)),
            // What a session was counted with.
            ("sort_buffer_size", "256K".to_owned()),
            ("join_buffer_size", "256K".to_owned()),
            ("read_buffer_size", "128K".to_owned()),
            ("read_rnd_buffer_size", "256K".to_owned()),
        ]
    }
}

/// The most threads a server of this size may need, with any settings that are allowed.
pub(crate) fn processes(flavor: &Flavor) -> u32 {
    let threads = limits::most_connections(flavor) + limits::most_threads();
    u32::try_from(threads).unwrap_or(u32::MAX).saturating_add(OTHER_THREADS)
}

/// The file that a server is started with. The last setting of a name counts: what stands before the include may be
/// changed by files there, what stands after may not.
pub(crate) fn main_file(
    host: &GuestHost,
    data: &str,
    defaults: &[(&str, String)],
    fixed: &[(&str, String)],
) -> ConfigFile {
    let common = [
        ("datadir", data.to_owned()),
        ("socket", format!("{SOCKETS}/{SOCKET}")),
        ("pid_file", format!("{SOCKETS}/server.pid")),
        ("tmpdir", VOLUME.to_owned()),
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

fn lines(settings: &[(&str, String)]) -> String {
    let line = |(name, value): &(&str, String)| match value.is_empty() {
        true => format!("{name}\n"),
        false => format!("{name} = {value}\n"),
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
    use trove_core::model::{gib, mib};

    use super::*;

    #[test]
    fn shares_follow_the_size() {
        let of = |memory, volume, server| Shares::new(&Flavor::new("f", memory, 1), volume, server);
        // memory, volume, server: pool, connections, temporary, redo, binlog
        for (memory, volume, server, expected) in [
            (mib(256), mib(512), 112, (32, 20, 72, 32, 16)),
            (mib(384), gib(1), 184, (48, 24, 104, 64, 32)),
            (mib(512), gib(5), 184, (128, 32, 136, 320, 160)),
            (gib(1), gib(10), 184, (256, 64, 456, 640, 256)),
            (gib(4), gib(50), 400, (2048, 256, 1136, 3200, 256)),
            (gib(64), gib(1000), 400, (32768, 1000, 30368, 4096, 256)),
        ] {
            let found = of(memory, volume, server);
            let found = (
                found.buffer_pool_mib,
                u64::from(found.max_connections),
                found.temporary_mib,
                found.redo_mib,
                found.binlog_mib,
            );
            assert_eq!(found, expected, "{memory}");
            assert!(server + found.0 + 2 * found.1 + found.2 <= memory.as_mib(), "{memory}");
        }
        for (memory, volume) in [(0, 0), (1 << 30, 1 << 30)] {
            let found = of(mib(memory), mib(volume), 400);
            assert!(found.buffer_pool_mib >= 16 && found.redo_mib >= 16 && found.temporary_mib >= 8);
        }
    }

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
        let text = main_file(&host, "/data", &[("a", "1".to_owned())], &[("read_only", "ON".to_owned())]).content;
        let (before, after) = text.split_once("!includedir /etc/trove/conf.d/\n[mysqld]\n").unwrap();
        assert_eq!(before, "[mysqld]\na = 1\n");
        assert!(after.contains("\nskip_name_resolve = ON\n") && after.ends_with("read_only = ON\n"));
        assert!(server_id(&host) > 0);
    }
}
