//! The engine versions that tests run on.

use std::{env, sync::Arc};

use trove_core::datastore::Driver;
use trove_drivers::{MariaDb, MySql, PostgreSql};

pub const POSTGRESQL_15: EngineVersion = EngineVersion { version: "15", ..POSTGRESQL_17 };
pub const POSTGRESQL_17: EngineVersion = EngineVersion {
    datastore: "postgresql",
    version: "17",
    memory_mib: 256,
    volume_mib: 128,
    driver: |version, image| Arc::new(PostgreSql::new().image(version, image)),
};
pub const POSTGRESQL_18: EngineVersion = EngineVersion { version: "18", ..POSTGRESQL_17 };

pub const MYSQL_9_7: EngineVersion = EngineVersion {
    datastore: "mysql",
    version: "9.7",
    memory_mib: 384,
    volume_mib: 512,
    driver: |version, image| Arc::new(MySql::new().image(version, image)),
};

pub const MARIADB_10_11: EngineVersion = EngineVersion { version: "10.11", ..MARIADB_11_8 };
pub const MARIADB_11_8: EngineVersion = EngineVersion {
    datastore: "mariadb",
    version: "11.8",
    memory_mib: 256,
    volume_mib: 512,
    driver: |version, image| Arc::new(MariaDb::new().image(version, image)),
};

/// A version of an engine, and the size of its servers.
#[derive(Clone, Copy, Debug)]
pub struct EngineVersion {
    pub datastore: &'static str,
    pub version: &'static str,
    pub memory_mib: u64,
    pub volume_mib: u64,
    driver: fn(&str, String) -> Arc<dyn Driver>,
}

impl EngineVersion {
    /// Sets the memory of the servers.
    pub fn memory(self, mib: u64) -> Self {
        Self { memory_mib: mib, ..self }
    }

    /// Returns the image, which an environment variable such as `TROVE_IMAGE_MARIADB_10_11`
    /// overrides.
    pub fn image(&self) -> String {
        let variable = format!("TROVE_IMAGE_{}_{}", self.datastore, self.version).to_uppercase().replace('.', "_");
        env::var(variable).unwrap_or_else(|_| format!("trove-local/{}:{}", self.datastore, self.version))
    }

    pub fn driver(&self) -> Arc<dyn Driver> {
        (self.driver)(self.version, self.image())
    }
}
