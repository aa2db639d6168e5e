//! What can be said of the code without running it: format, lints, documentation, features.

use std::time::Duration;

use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::{Task, cargo};

const BUILD_LIMIT: Duration = Duration::from_mins(20);

pub(crate) fn format() -> Result<()> {
    component("fmt", "rustfmt")?;
    cargo(["fmt", "--all", "--check"]).run()
}

pub(crate) fn lints() -> Result<()> {
    component("clippy", "clippy")?;
    cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]).limit(BUILD_LIMIT).run()
}

/// Each store alone, and none: a feature may only add.
pub(crate) fn features() -> Result<()> {
    for feature in ["", "sqlite", "postgres", "amqp"] {
        cargo(["check", "--package", "trove-core", "--no-default-features", "--features", feature])
            .limit(BUILD_LIMIT)
            .run()?;
    }
    Ok(())
}

pub(crate) fn documentation() -> Result<()> {
    cargo(["doc", "--workspace", "--no-deps", "--all-features"])
        .env("RUSTDOCFLAGS", "-D warnings")
        .limit(BUILD_LIMIT)
        .run()
}

/// Makes `cargo SUBCOMMAND` available.
fn component(subcommand: &str, name: &str) -> Result<()> {
    let missing = || cargo([subcommand, "--version"]).capture().is_err();
    if missing() && machine::has("rustup") {
        Task::new("rustup").args(["component", "add", name]).limit(Duration::from_mins(5)).run()?;
    }
    if missing() {
        let remedy = "install it with `rustup component add` or from the source that cargo came from";
        return Err(Failure::new(format!("`cargo {subcommand}` needs the component {name}: {remedy}")));
    }
    Ok(())
}
