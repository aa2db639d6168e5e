//! The engines and versions that tests run on.

use std::{env, sync::Arc};

use trove_core::datastore::Driver;
use trove_drivers::{MariaDb, MySql, PostgreSql};

pub const POSTGRESQL_15: Subject = Subject { version: "15", ..POSTGRESQL_17 };
pub const POSTGRESQL_17: Subject = Subject {
    datastore: "postgresql",
    version: "17",
    memory_mib: 256,
    volume_mib: 128,
    driver: |version, image| Arc::new(PostgreSql::new().image(version, image)),
};
pub const POSTGRESQL_18: Subject = Subject { version: "18", ..POSTGRESQL_17 };

pub const MYSQL_9_7: Subject = Subject {
    datastore: "mysql",
    version: "9.7",
    memory_mib: 384,
    volume_mib: 512,
    driver: |version, image| Arc::new(MySql::new().image(version, image)),
};

pub const MARIADB_10_11: Subject = Subject { version: "10.11", ..MARIADB_11_8 };
pub const MARIADB_11_8: Subject = Subject {
    datastore: "mariadb",
    version: "11.8",
    memory_mib: 256,
    volume_mib: 512,
    driver: |version, image| Arc::new(MariaDb::new().image(version, image)),
};

/// An engine in one version, and how large its servers are.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    pub datastore: &'static str,
    pub version: &'static str,
    pub memory_mib: u64,
    pub volume_mib: u64,
    driver: fn(&str, String) -> Arc<dyn Driver>,
}

impl Subject {
    /// The same with servers of so much memory.
    pub fn memory(self, mib: u64) -> Self {
        Self { memory_mib: mib, ..self }
    }

    /// The image, which the environment may name: `TROVE_IMAGE_MARIADB_10_11`.
    pub fn image(&self) -> String {
        let variable = format!("TROVE_IMAGE_{}_{}", self.datastore, self.version).to_uppercase().replace('.', "_");
        env::var(variable).unwrap_or_else(|_| format!("trove-local/{}:{}", self.datastore, self.version))
    }

    pub fn driver(&self) -> Arc<dyn Driver> {
        (self.driver)(self.version, self.image())
    }
}
