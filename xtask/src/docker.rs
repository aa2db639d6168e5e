//! The Docker engine: checked, and installed and started if this machine has none that answers.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{self, Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::error::{Error, Result};
use crate::machine;

const START_TIMEOUT: Duration = Duration::from_mins(3);

/// Returns `docker` with these arguments.
pub(crate) fn docker<const N: usize>(args: [&str; N]) -> Command {
    Command::new("docker").args(args)
}

/// Returns once an engine answers. The error says how to get one if it cannot be installed or
/// started here.
pub(crate) fn ensure() -> Result<()> {
    if !machine::has_program("docker") {
        install()?;
    }
    let Err(error) = ping() else { return Ok(()) };
    if let Some(host) = env::var_os("DOCKER_HOST") {
        let host = host.to_string_lossy();
        return Err(Error::new(format!("the Docker engine at DOCKER_HOST={host} does not answer: {error}")));
    }
    if !machine::is_root() {
        return Err(Error::new(instructions(&error.to_string())));
    }
    if !machine::has_program("dockerd") {
        install()?;
    }
    start()
}

fn ping() -> Result<()> {
    docker(["version", "--format", "{{.Server.Version}}"]).timeout(Duration::from_secs(60)).output().map(drop)
}

/// Says what an ordinary user can do about an engine that does not answer.
fn instructions(error: &str) -> String {
    let remedy = if error.contains("permission denied") {
        "let this user reach it: run `usermod -aG docker USER` as root, then log in again"
    } else if machine::has_program("dockerd") {
        "start it: run `systemctl start docker` (or `service docker start`) as root"
    } else {
        "install it: run `apt-get update && apt-get install -y docker.io` as root"
    };
    format!("no Docker engine answers ({error}); {remedy}")
}

fn install() -> Result<()> {
    machine::apt_install("docker.io", "running databases in containers")?;
    // Newer Debian releases have a separate package for the client.
    if machine::has_program("docker") {
        Ok(())
    } else {
        machine::apt_install("docker-cli", "talking to the Docker engine")
    }
}

/// Tries the service manager first, then the daemon itself: containers and chroots often have no
/// working service manager.
fn start() -> Result<()> {
    let managed = if Path::new("/run/systemd/system").is_dir() {
        Command::new("systemctl").args(["start", "docker"]).run()
    } else if machine::has_program("service") {
        Command::new("service").args(["docker", "start"]).run()
    } else {
        Err(Error::new("this machine has no service manager"))
    };
    let started = Instant::now();
    if managed.is_ok() && answers_within(START_TIMEOUT / 3) {
        return Ok(());
    }
    let log = machine::target_dir().join("dockerd.log");
    eprintln!("starting dockerd without a service manager; its log is {}", log.display());
    let mut daemon = spawn_detached(&log)?;
    while started.elapsed() < START_TIMEOUT && daemon.try_wait()?.is_none() {
        if answers_within(Duration::from_secs(1)) {
            return Ok(());
        }
    }
    Err(Error::new(format!("the Docker engine did not start; see {}", log.display())))
}

/// Starts the daemon in its own session, so that it outlives this terminal.
fn spawn_detached(log: &Path) -> Result<Child> {
    if let Some(directory) = log.parent() {
        fs::create_dir_all(directory)?;
    }
    let out = File::create(log)?;
    let mut daemon = process::Command::new("setsid");
    daemon.arg("dockerd").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    daemon.spawn().map_err(|error| Error::new(format!("could not start `dockerd`: {error}")))
}

fn answers_within(timeout: Duration) -> bool {
    let started = Instant::now();
    loop {
        if ping().is_ok() {
            return true;
        }
        if started.elapsed() > timeout {
            return false;
        }
        thread::sleep(Duration::from_millis(250));
    }
}
