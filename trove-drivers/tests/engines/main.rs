//! Tests on real servers in containers, in one program so that they share the time.

#![allow(unreachable_pub, clippy::expect_used, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod accounts;
mod another_engine;
mod common;
mod engine_releases;
mod engine_settings;
mod killed;
mod killed_change;
mod mysql_accounts;
mod mysql_life;
mod mysql_root;
mod parameters;
mod postgresql_accounts;
mod postgresql_life;
mod postgresql_limits;
mod postgresql_parameters;
mod postgresql_text;
mod private_registry;
mod scripted;
mod service;
mod service_changes;
