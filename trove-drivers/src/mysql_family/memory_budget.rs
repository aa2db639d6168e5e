//! How the memory and the volume of a server are divided. Pure.

use trove_core::model::{ByteSize, Flavor};

/// The memory of a session without temporary tables, with the buffers of [`MemoryBudget`].
pub(super) const SESSION_MIB: u64 = 2;

/// One session is allowed for each this much memory.
const SESSION_SHARE_MIB: u64 = 16;

/// How the memory and the volume of a server are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryBudget {
    pub(crate) buffer_pool_mib: u64,
    pub(crate) max_connections: u32,
    /// The memory for temporary tables of all sessions.
    pub(crate) temporary_mib: u64,
    pub(crate) redo_mib: u64,
    pub(crate) binlog_mib: u64,
}

impl MemoryBudget {
    /// Returns the budget for this flavor and volume, given the memory that a server uses besides
    /// its sessions and its buffer pool.
    pub(crate) fn new(flavor: &Flavor, volume: ByteSize, server_mib: u64) -> Self {
        let (memory, volume) = (flavor.memory.as_mib().max(128), volume.as_mib());
        // The smallest servers need the memory for themselves and their sessions more than for a
        // cache.
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

    /// Returns the settings that both engines have.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let tables = (u64::from(self.max_connections) * 10).clamp(200, 4000);
        vec![
            ("innodb_buffer_pool_size", format!("{}M", self.buffer_pool_mib)),
            ("innodb_log_buffer_size", format!("{}M", (self.redo_mib / 4).clamp(4, 16))),
            ("max_connections", self.max_connections.to_string()),
            ("table_open_cache", tables.to_string()),
            ("table_definition_cache", tables.max(400).to_string()),
            ("max_binlog_size", format!("{}M", self.binlog_mib)),
            // The buffers that `SESSION_MIB` assumes.
            ("sort_buffer_size", "256K".to_owned()),
            ("join_buffer_size", "256K".to_owned()),
            ("read_buffer_size", "128K".to_owned()),
            ("read_rnd_buffer_size", "256K".to_owned()),
        ]
    }
}

#[cfg(test)]
mod tests {
    use trove_core::model::{gib, mib};

    use super::*;

    #[test]
    fn memory_budget_follows_the_size() {
        let of = |memory, volume, server| MemoryBudget::new(&Flavor::new("f", memory, 1), volume, server);
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
}
