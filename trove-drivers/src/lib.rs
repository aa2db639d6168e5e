//! Database engines in Docker containers, and the platform that is one Docker host.
//!
//! - [`PostgreSql`], [`MySql`] and [`MariaDb`] are drivers, to be registered with the service.
//! - [`LocalPlatform`] is where its instances live: containers, directories and ports of this machine.
//! - [`Docker`] is the engine that both use; they find the usual one by themselves.
//! - [`container`] is for the author of another engine: implement [`container::Engine`], wrap it in
//!   [`container::ContainerDatastore`] and return that from a [`Driver`](trove_core::datastore::Driver) of your own.

pub mod container;
mod docker;
mod hash;
mod local;
mod mariadb;
mod mysql;
mod mysql_family;
mod postgresql;
mod rules;

pub use docker::Docker;
pub use local::{LocalPlatform, LocalPlatformBuilder};
pub use mariadb::MariaDb;
pub use mysql::MySql;
pub use postgresql::PostgreSql;
