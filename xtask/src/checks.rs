//! Static checks: formatting, lints, feature sets, documentation.

use std::time::Duration;

use crate::command::{Command, cargo};
use crate::error::{Error, Result};
use crate::machine;

pub(crate) const BUILD_TIMEOUT: Duration = Duration::from_mins(60);

pub(crate) fn format() -> Result<()> {
    ensure_component("fmt", "rustfmt")?;
    cargo(["fmt", "--all", "--check"]).run()
}

pub(crate) fn lints() -> Result<()> {
    ensure_component("clippy", "clippy")?;
    let clippy = cargo(["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"]);
    clippy.timeout(BUILD_TIMEOUT).run()
}

/// Checks `trove-core` without features and with each one alone, since a feature may only add.
pub(crate) fn feature_sets() -> Result<()> {
    for feature in ["", "sqlite", "postgres", "amqp", "amqp-tls", "amqp-management", "conformance"] {
        cargo(["check", "--package", "trove-core", "--no-default-features", "--features", feature])
            .timeout(BUILD_TIMEOUT)
            .run()?;
    }
    guest_agent_dependencies()
}

/// Checks that the guest agent is built without an SQL or HTTP client.
fn guest_agent_dependencies() -> Result<()> {
    let tree = cargo(["tree", "--package", "trove-guestagent", "--edges", "normal", "--prefix", "none"]).output()?;
    let banned = |line: &&str| ["sqlx", "reqwest"].iter().any(|name| line.starts_with(name));
    match tree.lines().find(banned) {
        Some(found) => Err(Error::new(format!("trove-guestagent depends on {found}"))),
        None => Ok(()),
    }
}

pub(crate) fn documentation() -> Result<()> {
    let doc = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    doc.env("RUSTDOCFLAGS", "-D warnings").timeout(BUILD_TIMEOUT).run()
}

/// Makes `cargo SUBCOMMAND` available.
fn ensure_component(subcommand: &str, component: &str) -> Result<()> {
    let is_missing = || cargo([subcommand, "--version"]).output().is_err();
    if is_missing() && machine::has_program("rustup") {
        Command::new("rustup").args(["component", "add", component]).timeout(Duration::from_mins(10)).run()?;
    }
    if is_missing() {
        let remedy = "install it with `rustup component add` or from the source that cargo came from";
        return Err(Error::new(format!("`cargo {subcommand}` needs the component {component}: {remedy}")));
    }
    Ok(())
}
