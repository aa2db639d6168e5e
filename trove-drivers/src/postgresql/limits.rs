//! Checks a tenant's settings against the memory of a server. Pure.

use trove_core::{
    datastore::in_units,
    error::{Error, Result},
    model::{ByteSize, Flavor, Settings, mib},
};

use super::derived_settings::{DerivedSettings, SERVER_MIB, SESSION_MIB};

const KIB: f64 = 1024.0;

/// The minimum memory for each connection.
const CONNECTION_SHARE_MIB: u64 = 8;

/// The minimum number of connections of a useful server, besides those of the administrator.
const LEAST_CONNECTIONS: u64 = 10;

/// The maximum number of processes of each kind.
const WORKERS: u64 = 64;
const SENDERS: u64 = 64;
const VACUUMS: u64 = 32;
const IO_WORKERS: u64 = 32;

/// A generous bound for other processes of a server.
const OTHER_PROCESSES: u64 = 64;

/// The shared memory of one lock.
const LOCK_BYTES: f64 = 300.0;

/// Parameters that take shared memory, with their units.
const SHARED: [(&str, &str); 9] = [
    ("wal_buffers", "8kB"),
    ("commit_timestamp_buffers", "8kB"),
    ("multixact_member_buffers", "8kB"),
    ("multixact_offset_buffers", "8kB"),
    ("notify_buffers", "8kB"),
    ("serializable_buffers", "8kB"),
    ("subtransaction_buffers", "8kB"),
    ("transaction_buffers", "8kB"),
    ("min_dynamic_shared_memory", "MB"),
];

/// The limits of settings for one flavor.
#[derive(Debug)]
pub(super) struct Limits {
    memory: ByteSize,
    derived: DerivedSettings,
    connections: u64,
    workers: u64,
}

impl Limits {
    /// Returns the limits for a server of this size.
    pub(super) fn new(flavor: &Flavor) -> Self {
        // Settings that depend on the volume are not needed here.
        let derived = DerivedSettings::new(flavor, ByteSize::default());
        let connections = (flavor.memory.as_mib() / CONNECTION_SHARE_MIB).clamp(20, 5000);
        let workers = WORKERS.max(u64::from(derived.max_worker_processes));
        Self { memory: flavor.memory, derived, connections, workers }
    }

    /// Returns the maximum number of processes with any allowed settings.
    pub(super) fn processes(&self) -> u32 {
        let processes = self.connections + self.workers + SENDERS + VACUUMS + IO_WORKERS + OTHER_PROCESSES;
        u32::try_from(processes).unwrap_or(u32::MAX)
    }

    /// Returns [`Invalid`](trove_core::error::Kind::Invalid) for settings that exceed the memory.
    pub(super) fn check(&self, settings: &Settings) -> Result<()> {
        for (name, least, most) in [
            ("max_connections", LEAST_CONNECTIONS, self.connections),
            ("max_worker_processes", 0, self.workers),
            ("max_wal_senders", 0, SENDERS),
            ("autovacuum_max_workers", 1, VACUUMS),
            ("autovacuum_worker_slots", 1, VACUUMS),
            ("io_workers", 1, IO_WORKERS),
        ] {
            if let Some(set) = count(settings, name)
                && !(least as f64..=most as f64).contains(&set)
            {
                let memory = self.memory;
                return Err(Error::invalid(format!(
                    "parameter {name} must be from {least} to {most} for a server with {memory} of memory, not {set}"
                )));
            }
        }
        self.check_memory(settings)
    }

    fn check_memory(&self, settings: &Settings) -> Result<()> {
        let derived = &self.derived;
        let memory = self.memory.as_mib() as f64 * KIB;
        let or = |name, unit, derived: f64| kib(settings, name, unit).unwrap_or(derived);
        let connections = count(settings, "max_connections").unwrap_or(f64::from(derived.max_connections));

        let cache = or("shared_buffers", "8kB", derived.shared_buffers_mib as f64 * KIB);
        self.fits("shared_buffers", cache, memory * 0.4)?;
        let others: f64 = SHARED.iter().filter_map(|(name, unit)| kib(settings, name, unit)).sum();
        let locks = ["max_locks_per_transaction", "max_pred_locks_per_transaction"];
        let locks: f64 = locks.iter().filter_map(|name| count(settings, name)).sum();
        let queries = kib(settings, "track_activity_query_size", "B").unwrap_or(1.0) * connections;
        let shared = cache + others + locks * connections * LOCK_BYTES / KIB + queries;
        self.fits("the shared memory that the settings ask for", shared, memory * 0.6)?;

        for (name, derived) in [
            ("maintenance_work_mem", derived.maintenance_work_mem_mib as f64 * KIB),
            ("logical_decoding_work_mem", 0.0),
        ] {
            self.fits(name, or(name, "kB", derived), memory * 0.25)?;
        }
        let vacuums = count(settings, "autovacuum_max_workers").unwrap_or(derived.autovacuum_max_workers as f64);
        let vacuums = vacuums * or("autovacuum_work_mem", "kB", derived.autovacuum_work_mem_mib as f64 * KIB);
        self.fits("autovacuum_max_workers times autovacuum_work_mem", vacuums, memory * 0.5)?;

        // Not every session sorts at the same time; the derived values would allow even that.
        let session = or("work_mem", "kB", derived.work_mem_kib as f64) + or("temp_buffers", "8kB", 0.0);
        let fixed = cache + SERVER_MIB as f64 * KIB;
        self.fits(
            "shared_buffers and work_mem and temp_buffers of every connection",
            fixed + connections * session,
            {
                // The smallest server exceeds its memory even with the derived values.
                memory.max(fixed + connections * derived.work_mem_kib as f64)
            },
        )?;
        let idle = cache + connections * SESSION_MIB as f64 * KIB;
        self.fits("shared_buffers and what max_connections sessions take", idle, memory.max(2.0 * fixed))
    }

    fn fits(&self, what: &str, kib: f64, limit: f64) -> Result<()> {
        if kib <= limit {
            return Ok(());
        }
        let (asked, limit, memory) = (mib((kib / KIB) as u64), mib((limit / KIB) as u64), self.memory);
        Err(Error::invalid(format!("{what} would be {asked}; a server with {memory} of memory allows at most {limit}")))
    }
}

fn count(settings: &Settings, name: &str) -> Option<f64> {
    settings.get(name).and_then(|setting| in_units(setting, ""))
}

/// Returns the value of a setting in KiB. A negative value lets the server choose.
fn kib(settings: &Settings, name: &str, unit: &str) -> Option<f64> {
    let number = settings.get(name).and_then(|setting| in_units(setting, unit))?;
    let size = match unit {
        "8kB" => 8.0,
        "MB" => KIB,
        "B" => 1.0 / KIB,
        _ => 1.0,
    };
    (number >= 0.0).then_some(number * size)
}

#[cfg(test)]
mod tests {
    use trove_core::model::{Setting, gib};

    use super::*;

    fn check(memory: ByteSize, settings: &[(&str, Setting)]) -> Result<()> {
        let settings = settings.iter().map(|(name, setting)| ((*name).to_owned(), setting.clone())).collect();
        Limits::new(&Flavor::new("f", memory, 2)).check(&settings)
    }

    #[test]
    fn derived_settings_are_allowed_for_every_size() {
        for memory in [mib(128), mib(256), mib(512), gib(1), gib(4), gib(64), gib(1024)] {
            check(memory, &[]).unwrap();
            let derived = DerivedSettings::new(&Flavor::new("f", memory, 2), gib(10)).settings();
            let derived: Settings =
                derived.into_iter().map(|(name, value)| (name.to_owned(), Setting::from(value))).collect();
            Limits::new(&Flavor::new("f", memory, 2)).check(&derived).unwrap();
        }
    }

    #[test]
    fn settings_beyond_the_memory_are_refused_with_the_limit() {
        let (memory, text) = (gib(1), |text: &str| Setting::from(text));
        for fine in [
            vec![("shared_buffers", text("400MB"))],
            vec![("shared_buffers", 51_200.into())],
            vec![("max_connections", 128.into()), ("work_mem", text("4MB"))],
            vec![("max_connections", 10.into()), ("work_mem", text("64MB"))],
            vec![("maintenance_work_mem", text("0.2GB"))],
            vec![("wal_buffers", text("-1"))],
            vec![("autovacuum_work_mem", (-1).into())],
        ] {
            check(memory, &fine).unwrap_or_else(|error| panic!("{fine:?}: {error}"));
        }
        for (beyond, says) in [
            (vec![("shared_buffers", text("500MB"))], "shared_buffers would be 500 MiB"),
            (vec![("shared_buffers", 64_000.into())], "shared_buffers would be 500 MiB"),
            (vec![("max_connections", 129.into())], "from 10 to 128"),
            (vec![("max_connections", text("4"))], "from 10 to 128"),
            (vec![("work_mem", text("20MB"))], "work_mem"),
            (vec![("temp_buffers", text("20MB"))], "temp_buffers"),
            (vec![("maintenance_work_mem", text("1GB"))], "maintenance_work_mem would be 1 GiB"),
            (vec![("autovacuum_max_workers", 10.into()), ("autovacuum_work_mem", text("60MB"))], "autovacuum"),
            (vec![("wal_buffers", text("1GB"))], "shared memory"),
            (vec![("min_dynamic_shared_memory", 800.into())], "shared memory"),
            (vec![("max_locks_per_transaction", 1_000_000.into())], "shared memory"),
            (vec![("max_worker_processes", 1000.into())], "from 0 to 64"),
            (vec![("io_workers", 33.into())], "from 1 to 32"),
        ] {
            let error = check(memory, &beyond).unwrap_err().to_string();
            assert!(error.contains(says), "{beyond:?}: {error}");
        }
    }

    #[test]
    fn allowed_settings_stay_below_the_process_limit() {
        for memory in [mib(128), gib(1), gib(1024)] {
            let limits = Limits::new(&Flavor::new("f", memory, 200));
            assert!(u64::from(limits.processes()) > limits.connections + limits.workers + SENDERS + VACUUMS);
        }
    }
}
