use std::{env, fmt};

use crate::{Options, Result};

/// A database engine to measure, in its default version.
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
    /// All of them.
    pub const ALL: [Self; 3] = [Self::PostgreSql, Self::MySql, Self::MariaDb];

    /// The options by which engines are left out, to be added to a benchmark's own.
    pub const OPTIONS: [(&str, u64); 3] = [("postgresql", 1), ("mysql", 1), ("mariadb", 1)];

    /// What the datastore is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
        }
    }

    /// The version of it.
    pub fn version(self) -> &'static str {
        match self {
            Self::PostgreSql => "17",
            Self::MySql => "9.7",
            Self::MariaDb => "11.8",
        }
    }

    /// The image that the environment names, or why nothing can be measured without one.
    pub fn image(self) -> Result<String> {
        let variable = match self {
            Self::PostgreSql => "TROVE_IMAGE_POSTGRESQL_17",
            Self::MySql => "TROVE_IMAGE_MYSQL_9_7",
            Self::MariaDb => "TROVE_IMAGE_MARIADB_11_8",
        };
        let named = env::var(variable).ok().filter(|image| !image.is_empty());
        named.ok_or_else(|| {
            format!("{variable} names no image; `cargo xtask bench` sets it, `cargo xtask images` prints it").into()
        })
    }

    /// True where a new server may begin with a copy of data that was initialised before.
    pub fn has_template(self) -> bool {
        self != Self::PostgreSql
    }

    /// The engines that the [options](Self::OPTIONS) leave in and that there are images of; says which there are not.
    pub fn wanted(options: &Options) -> Result<Vec<Self>> {
        let mut wanted = Vec::new();
        let mut missing = None;
        for engine in Self::ALL.into_iter().filter(|engine| options.get(engine.name()) > 0) {
            match engine.image() {
                Ok(_) => wanted.push(engine),
                Err(error) => {
                    println!("{engine} is left out: {error}");
                    missing = Some(error);
                }
            }
        }
        match missing {
            Some(error) if wanted.is_empty() => Err(error),
            _ => Ok(wanted),
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
