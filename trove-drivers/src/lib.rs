//! Database engines in Docker containers, and the platform that is one Docker host.
//!
//! - [`PostgreSql`], [`MySql`] and [`MariaDb`] are drivers, to be registered with the service.
//! - [`LocalPlatform`] is where its instances live: containers, directories and ports of this machine.
//! - [`Docker`] is the engine that both use; they find the usual one by themselves.
//! - [`container`] is for the author of another engine: implement [`container::Engine`], and
//!   [`container::ContainerDriver`] is its driver.
//!
//! With feature `conformance`, `conformance` has the servers on which the suite of drivers certifies one.
//!
//! # What the engines have in common, and what not
//!
//! Each server is a container of the image's own programs with this library's configuration, run by a user of its own on
//! a read-only root file system; what it keeps is on its volume. It is administered over its socket by whoever the kernel
//! says is there, and lets clients in by password over its published port.
//!
//! | | PostgreSQL | MySQL | MariaDB |
//! |---|---|---|---|
//! | versions | 15 to 18 | 8.4, 9 | 10.11, 11 |
//! | least memory | 128 MiB | 384 MiB | 256 MiB |
//! | users are told apart by their host | no | yes | yes |
//! | the tenant's root makes | databases, and roles from 16 on | databases and users | databases |
//! | what one user of a database makes | belongs to all of its users | all of its users may use | all of its users may use |
//! | upgrade | within a major version | within 8.4; within 9, with a copy of the data | within a series; to a later one, with a copy |
//! | later instances on a host begin with | `initdb`, as the first | a copy of a fresh data directory | a copy of a fresh data directory |
//! | old binary logs | has none | kept a day, less where the volume is nearly full | the same |
//!
//! Where root cannot make users, the engine has no right that would let it do so and not rule the administrator: users
//! are made through the service there.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod container;
mod docker;
mod hash;
mod local;
mod mariadb;
mod mysql;
mod mysql_family;
mod postgresql;
mod reserved_names;

pub use docker::Docker;
pub use local::{LocalPlatform, LocalPlatformBuilder};
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use postgresql::PostgreSql;
