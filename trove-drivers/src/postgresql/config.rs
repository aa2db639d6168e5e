//! The files a server is started with, and the settings that follow from its memory, processors and volume. Pure.

use trove_core::{
    datastore::GuestHost,
    model::{ByteSize, Flavor},
};

use super::{ADMIN, PORT};
use crate::container::{AGENT, CONFIGURATION, ConfigFile, SOCKETS};

const KIB_PER_MIB: u64 = 1024;

/// A session is allowed for each so much of memory.
const SESSION_SHARE_MIB: u64 = 20;

/// What a server takes without any session and beside its cache.
const SERVER_MIB: u64 = 64;

/// What a session takes before it sorts or hashes anything.
const SESSION_MIB: u64 = 6;

/// How many times at once each session is believed to use the memory for a sort.
const WORK_MEMS: u64 = 4;

/// The processes a server has beside its connections and parallel workers, generously.
const OTHER_PROCESSES: u32 = 64;

/// The settings that follow from the size of an instance, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Derived {
    shared_buffers_mib: u64,
    effective_cache_size_mib: u64,
    work_mem_kib: u64,
    maintenance_work_mem_mib: u64,
    autovacuum_work_mem_mib: u64,
    autovacuum_max_workers: u64,
    max_connections: u32,
    max_wal_size_mib: u64,
    min_wal_size_mib: u64,
    max_worker_processes: u32,
    max_parallel_workers: u32,
    max_parallel_workers_per_gather: u32,
    max_parallel_maintenance_workers: u32,
}

impl Derived {
    /// The settings for this flavor and volume.
    pub(super) fn new(flavor: &Flavor, volume: ByteSize) -> Self {
        let (memory, volume, vcpus) = (flavor.memory.as_mib().max(64), volume.as_mib(), flavor.vcpus.max(1));
        // The smallest servers need the memory for their sessions more than for a cache.
        let shared_buffers = if memory < 512 { memory / 8 } else { memory / 4 };
        let max_connections = (memory / SESSION_SHARE_MIB).clamp(20, 500);
        let autovacuum_max_workers = if memory < 1024 { 2 } else { 3 };
        let autovacuum_work_mem = (memory / 64).clamp(1, 512);
        let spent =
            shared_buffers + SERVER_MIB + autovacuum_max_workers * autovacuum_work_mem + SESSION_MIB * max_connections;
        // A query may sort and hash several times at once.
        let work_mem = memory.saturating_sub(spent) * KIB_PER_MIB / (WORK_MEMS * max_connections);
        let work_mem = work_mem.clamp(256, 512 * KIB_PER_MIB);
        let max_wal = (volume / 10).clamp(64, 8192);
        Self {
            shared_buffers_mib: shared_buffers,
            effective_cache_size_mib: memory * 3 / 4,
            work_mem_kib: work_mem,
            maintenance_work_mem_mib: (memory / 16).clamp(8, 2048),
            autovacuum_work_mem_mib: autovacuum_work_mem,
            autovacuum_max_workers,
            max_connections: u32::try_from(max_connections).unwrap_or(500),
            max_wal_size_mib: max_wal,
            min_wal_size_mib: (max_wal / 4).max(32),
            max_worker_processes: vcpus.max(8),
            max_parallel_workers: vcpus,
            max_parallel_workers_per_gather: (vcpus / 2).min(4),
            max_parallel_maintenance_workers: (vcpus / 2).clamp(1, 4),
        }
    }

    /// The most processes the server may need.
    pub(super) fn processes(&self) -> u32 {
        self.max_connections + self.max_worker_processes + OTHER_PROCESSES
    }

    fn render(&self) -> String {
        let settings = [
            ("shared_buffers", format!("{}MB", self.shared_buffers_mib)),
            ("effective_cache_size", format!("{}MB", self.effective_cache_size_mib)),
            ("work_mem", format!("{}kB", self.work_mem_kib)),
            ("maintenance_work_mem", format!("{}MB", self.maintenance_work_mem_mib)),
            ("autovacuum_work_mem", format!("{}MB", self.autovacuum_work_mem_mib)),
            ("autovacuum_max_workers", self.autovacuum_max_workers.to_string()),
            ("max_connections", self.max_connections.to_string()),
            ("max_wal_size", format!("{}MB", self.max_wal_size_mib)),
            ("min_wal_size", format!("{}MB", self.min_wal_size_mib)),
            ("max_worker_processes", self.max_worker_processes.to_string()),
            ("max_parallel_workers", self.max_parallel_workers.to_string()),
            ("max_parallel_workers_per_gather", self.max_parallel_workers_per_gather.to_string()),
            ("max_parallel_maintenance_workers", self.max_parallel_maintenance_workers.to_string()),
        ];
        lines(&settings)
    }
}

/// All files of a server.
pub(super) fn files(host: &GuestHost, data: &str, derived: &Derived) -> Vec<ConfigFile> {
    vec![
        ConfigFile::new("postgresql.conf", main(host, data)),
        ConfigFile::new("conf.d/10-size.conf", derived.render()),
        ConfigFile::new("pg_hba.conf", hba()),
        ConfigFile::new("pg_ident.conf", format!("trove {AGENT} {ADMIN}\n")),
    ]
}

/// What is the same for every size. The last setting of a name counts: what stands before the include may be changed
/// by files there, what stands after may not.
fn main(host: &GuestHost, data: &str) -> String {
    let defaults = [
        // What a hash table may take is what the share of a session was counted with.
        ("hash_mem_multiplier", "1.0".to_owned()),
        ("random_page_cost", "1.1".to_owned()),
        ("effective_io_concurrency", "200".to_owned()),
        ("huge_pages", "off".to_owned()),
        ("default_text_search_config", quoted("pg_catalog.english")),
        ("timezone", quoted("UTC")),
    ];
    let fixed = [
        ("data_directory", quoted(data)),
        ("hba_file", quoted(&format!("{CONFIGURATION}/pg_hba.conf"))),
        ("ident_file", quoted(&format!("{CONFIGURATION}/pg_ident.conf"))),
        ("unix_socket_directories", quoted(SOCKETS)),
        ("listen_addresses", quoted("*")),
        ("port", PORT.to_string()),
        ("cluster_name", quoted(&host.name)),
        ("allow_alter_system", "off".to_owned()),
        ("superuser_reserved_connections", "5".to_owned()),
        // A client that does not say who it is has one of the connections all that time.
        ("authentication_timeout", quoted("10s")),
        ("password_encryption", quoted("scram-sha-256")),
        ("restart_after_crash", "on".to_owned()),
        ("log_destination", quoted("stderr")),
        ("logging_collector", "off".to_owned()),
        ("log_timezone", quoted("UTC")),
        ("log_line_prefix", quoted("%m [%p] ")),
        // Statements may hold passwords. None of these lets one into the log.
        ("log_statement", quoted("none")),
        ("log_min_duration_statement", "-1".to_owned()),
        ("log_min_error_statement", quoted("panic")),
        ("log_error_verbosity", quoted("terse")),
        ("log_parameter_max_length", "0".to_owned()),
        ("log_parameter_max_length_on_error", "0".to_owned()),
    ];
    format!("{}include_dir 'conf.d'\n{}", lines(&defaults), lines(&fixed))
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

fn lines(settings: &[(&str, String)]) -> String {
    settings.iter().map(|(name, value)| format!("{name} = {value}\n")).collect()
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use trove_core::model::{gib, mib};

    use super::*;

    #[test]
    fn settings_follow_the_size() {
        let of = |memory, vcpus, volume| Derived::new(&Flavor::new("f", memory, vcpus), volume);
        // memory, vcpus, volume: shared_buffers, work_mem kB, maintenance, connections, max_wal, min_wal, gather
        for (memory, vcpus, volume, expected) in [
            (mib(128), 1, gib(1), (16, 256, 8, 20, 102, 32, 0)),
            (mib(256), 1, gib(1), (32, 409, 16, 20, 102, 32, 0)),
            (mib(512), 1, gib(5), (128, 1576, 32, 25, 512, 128, 0)),
            (gib(1), 2, gib(10), (256, 1756, 64, 51, 1024, 256, 1)),
            (gib(4), 4, gib(50), (1024, 1997, 256, 204, 5120, 1280, 2)),
            (gib(64), 16, gib(1000), (16384, 22810, 2048, 500, 8192, 2048, 4)),
        ] {
            let found = of(memory, vcpus, volume);
            let found = (
                found.shared_buffers_mib,
                found.work_mem_kib,
                found.maintenance_work_mem_mib,
                found.max_connections,
                found.max_wal_size_mib,
                found.min_wal_size_mib,
                found.max_parallel_workers_per_gather,
            );
            assert_eq!(found, expected, "{memory} {vcpus}");
        }
    }

    #[test]
    fn sessions_at_work_fit_into_the_memory() {
        // The smallest size has no room for as many sessions as the engine itself wants to have.
        for (memory, limit) in [
            (mib(128), mib(240)),
            (mib(256), mib(256)),
            (mib(512), mib(512)),
            (gib(2), gib(2)),
            (gib(8), gib(8)),
            (gib(64), gib(64)),
        ] {
            let found = Derived::new(&Flavor::new("f", memory, 1), gib(10));
            let sessions = u64::from(found.max_connections);
            let kib = found.shared_buffers_mib * 1024
                + 64 * 1024
                + found.autovacuum_max_workers * found.autovacuum_work_mem_mib * 1024
                + sessions * (6 * 1024 + 4 * found.work_mem_kib);
            assert!(kib <= limit.as_mib() * 1024, "{memory}: {kib} KiB");
        }
    }

    #[test]
    fn no_size_is_out_of_the_servers_range() {
        for memory in [0, 1, 64, 128, 1 << 20, 1 << 30] {
            for volume in [0, 1, 1 << 10, 1 << 30] {
                let found = Derived::new(&Flavor::new("f", mib(memory), 0), mib(volume));
                assert!(found.shared_buffers_mib >= 8 && found.max_connections >= 20 && found.min_wal_size_mib >= 32);
                assert!(found.max_wal_size_mib >= found.min_wal_size_mib && found.work_mem_kib >= 256);
                assert!(found.autovacuum_work_mem_mib >= 1);
            }
        }
    }

    #[test]
    fn the_administrator_is_unreachable_by_network_and_last_words_are_fixed() {
        let hba = hba();
        let order: Vec<_> = hba.lines().collect();
        assert!(order.iter().position(|line| line.starts_with("host all trove_admin all reject")) < Some(3));
        let id = "9b2c7e1a-6b1f-4c5e-9d3a-0f4f5f6a7b8c".parse().unwrap();
        let text = main(&GuestHost::new(id, "/v", "/d"), "/data");
        let (_, fixed) = text.split_once("include_dir").unwrap();
        assert!(fixed.contains("allow_alter_system = off") && fixed.contains("log_min_error_statement = 'panic'"));
    }
}
