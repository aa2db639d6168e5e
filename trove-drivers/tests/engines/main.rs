//! Tests on real servers in containers: one program, so that they run at the same time.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod change_crashes;
mod common;
mod container_settings;
mod container_upgrades;
mod minimal_engine;
mod mysql_disk_space;
mod network_isolation;
mod parameter_values;
mod postgresql_isolation;
mod postgresql_lifecycle;
mod postgresql_limits;
mod postgresql_settings;
mod private_registry;
mod scripted;
mod service;
mod service_changes;
mod service_crashes;
mod shared_server;
