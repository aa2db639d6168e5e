//! The parts that the benchmarks share.
//!
//! Each benchmark verifies one claim. In one run it does the same work with the library and with
//! the least code that can do it, the *baseline*. The two alternate, so that other load on the
//! machine affects both, and the result is the median of the ratios of neighboring measurements.
//!
//! `cargo xtask bench` runs all benchmarks, `cargo xtask bench --bench flow -- --rounds 9` one of
//! them with more rounds.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark prints its progress and results")]

mod baseline;
mod bench_host;
mod broker;
mod engine;
mod options;
mod program;
mod sql_client;
mod statistics;
mod store_server;
mod table;
mod timeline;
mod usage;

pub use baseline::{Baseline, BaselineServer, DockerClient};
pub use bench_host::BenchHost;
pub use broker::BrokerContainer;
pub use engine::Engine;
pub use options::Options;
pub use program::{Result, run};
pub use sql_client::SqlClient;
pub use statistics::{Sample, ratios};
pub use store_server::StoreServer;
pub use table::Table;
pub use timeline::Timeline;
pub use usage::{container_cpu_time, container_memory, process_cpu_time, process_memory};
