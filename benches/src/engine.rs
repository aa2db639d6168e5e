use std::{env, fmt};

use crate::{Options, Result};

/// A database engine to measure, at its default version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// PostgreSQL 17.
    PostgreSql,
    /// MySQL 9.7.
    MySql,
    /// MariaDB 11.8.
    MariaDb,
}

impl Engine {
    /// All engines.
    pub const ALL: [Self; 3] = [Self::PostgreSql, Self::MySql, Self::MariaDb];

    /// Command-line options with which engines are excluded: `--mysql 0`.
    pub const OPTIONS: [(&str, u64); 3] = [("postgresql", 1), ("mysql", 1), ("mariadb", 1)];

    /// Returns the name of the datastore.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    /// Returns the version to measure.
    pub fn version(self) -> &'static str {
        match self {
            Self::PostgreSql => "17",
            Self::MySql => "9.7",
            Self::MariaDb => "11.8",
        }
    }

    /// Returns the image that the environment names, or an error that says which variable to set.
    pub fn image(self) -> Result<String> {
        let variable = match self {
            Self::PostgreSql => "TROVE_IMAGE_POSTGRESQL_17",
            Self::MySql => "TROVE_IMAGE_MYSQL_9_7",
            Self::MariaDb => "TROVE_IMAGE_MARIADB_11_8",
        };
        let image = env::var(variable).ok().filter(|image| !image.is_empty());
        image.ok_or_else(|| format!("{variable} is not set; `cargo xtask bench` sets it").into())
    }

    /// Returns whether the driver creates servers from a copy of an initialized data directory.
    pub fn has_template(self) -> bool {
        self != Self::PostgreSql
    }

    /// Returns the engines that the [options](Self::OPTIONS) select and that have an image, and
    /// prints which ones have none. Fails if no selected engine has an image.
    pub fn selected(options: &Options) -> Result<Vec<Self>> {
        let mut selected = Vec::new();
        let mut missing = None;
        for engine in Self::ALL.into_iter().filter(|engine| options.get(engine.name()) > 0) {
            match engine.image() {
                Ok(_) => selected.push(engine),
                Err(error) => {
                    println!("{engine} is skipped: {error}");
                    missing = Some(error);
                }
            }
        }
        match missing {
            Some(error) if selected.is_empty() => Err(error),
            _ => Ok(selected),
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PostgreSql => "PostgreSQL",
            Self::MySql => "MySQL",
            Self::MariaDb => "MariaDB",
        })
    }
}
