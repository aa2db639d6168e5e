//! What the benchmarks share.
//!
//! Each benchmark makes one claim. It does the same work twice in one run: with the library, and as barely as it can
//! be done, which is the *floor*. The two alternate, so that a busy machine disturbs both alike, and what counts is
//! the median of the ratios of neighbours, not a time.
//!
//! `cargo xtask bench` runs all of them, `cargo xtask bench --bench flow -- --rounds 9` one of them for longer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking to the person who runs them is their job")]

mod engine;
mod floor;
mod marks;
mod options;
mod program;
mod session;
mod site;
mod statistics;
mod table;
mod usage;

pub use engine::Engine;
pub use floor::{Client, Floor, Server};
pub use marks::Marks;
pub use options::Options;
pub use program::{Result, run};
pub use session::Session;
pub use site::Site;
pub use statistics::{Sample, ratios};
pub use table::Table;
pub use usage::{container_memory, container_processor_time, memory_of, processor_time};
