//! Database engines in Docker containers, and the platform that is one Docker host.
//!
//! - [`PostgreSql`], [`MySql`] and [`MariaDb`] are drivers to register with the service.
//! - [`LocalPlatform`] provides containers, directories and ports of this machine.
//! - [`Docker`] is the engine that both use, by default the usual one of this machine.
//! - [`container`] is for authors of other engines: implement [`container::Engine`], and
//!   [`container::ContainerDriver`] is its driver.
//!
//! With feature `conformance`, `conformance` provides the servers on which the driver suite
//! certifies a driver.
//!
//! # How the engines compare
//!
//! Each server is a container that runs the image's own programs with this library's configuration,
//! as a user of its own, on a read-only root file system; its state is on its volume. It is
//! administered over its socket, authenticated by the kernel's peer credentials, and clients log in
//! by password on its published port.
//!
//! | | PostgreSQL | MySQL | MariaDB |
//! |---|---|---|---|
//! | versions | 15 to 18 | 8.4, 9 | 10.11, 11 |
//! | minimum memory | 128 MiB | 384 MiB | 256 MiB |
//! | users are distinguished by host | no | yes | yes |
//! | the tenant's root creates | databases, and roles from 16 on | databases and users | databases |
//! | objects that a user creates in a database | belong to all of its users | can be used by all of its users | can be used by all of its users |
//! | upgrade | within a major version | within 8.4; within 9, with a copy of the data | within a series; to a later one, with a copy |
//! | later instances on a host start from | `initdb`, like the first | a copy of a fresh data directory | a copy of a fresh data directory |
//! | old binary logs | none | kept for a day, less if the volume is nearly full | the same |
//!
//! Where root cannot create users, the engine has no privilege for that which would not also give
//! control over the administrator: users are created through the service there.

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
