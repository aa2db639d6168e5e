//! Docker's engine: asked, and where this machine has none that answers, installed and started.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::Task;

const START_LIMIT: Duration = Duration::from_secs(60);

/// `docker` with these arguments.
pub(crate) fn docker<const N: usize>(args: [&str; N]) -> Task {
    Task::new("docker").args(args)
}

/// Returns once an engine answers; says what to do where none can be brought to.
pub(crate) fn ensure() -> Result<()> {
    if !machine::has("docker") {
        install()?;
    }
    let Err(silence) = ask() else { return Ok(()) };
    if let Some(host) = env::var_os("DOCKER_HOST") {
        let host = host.to_string_lossy();
        return Err(Failure::new(format!("the Docker engine at DOCKER_HOST={host} does not answer: {silence}")));
    }
    if !machine::is_root() {
        return Err(Failure::new(advice(&silence.to_string())));
    }
    if !machine::has("dockerd") {
        install()?;
    }
    start()
}

fn ask() -> Result<()> {
    docker(["version", "--format", "{{.Server.Version}}"]).limit(Duration::from_secs(10)).capture().map(drop)
}

/// What an ordinary user can do about an engine that does not answer.
fn advice(silence: &str) -> String {
    let remedy = if silence.contains("permission denied") {
        "let this user reach it: run `usermod -aG docker USER` as root, then log in again"
    } else if machine::has("dockerd") {
        "start it: run `systemctl start docker` (or `service docker start`) as root"
    } else {
        "install it: run `apt-get update && apt-get install -y docker.io` as root"
    };
    format!("no Docker engine answers ({silence}); {remedy}")
}

fn install() -> Result<()> {
    machine::apt_install("docker.io", "running databases in containers")?;
    // Newer Debian releases keep the client in a package of its own.
    if machine::has("docker") { Ok(()) } else { machine::apt_install("docker-cli", "reaching the Docker engine") }
}

/// Tries the service manager first, then the plain daemon: many containers and chroots have no manager that works.
fn start() -> Result<()> {
    let managed = if Path::new("/run/systemd/system").is_dir() {
        Task::new("systemctl").args(["start", "docker"]).run()
    } else if machine::has("service") {
        Task::new("service").args(["docker", "start"]).run()
    } else {
        Err(Failure::new("there is no service manager"))
    };
    let started = Instant::now();
    if managed.is_ok() && answers_within(START_LIMIT / 3) {
        return Ok(());
    }
    let log = machine::target_dir().join("dockerd.log");
    eprintln!("starting the Docker engine by hand; its log is {}", log.display());
    let mut daemon = detach(&log)?;
    while started.elapsed() < START_LIMIT && daemon.try_wait()?.is_none() {
        if answers_within(Duration::from_secs(1)) {
            return Ok(());
        }
    }
    Err(Failure::new(format!("the Docker engine did not start; see {}", log.display())))
}

/// In a session of its own, so that it outlives this terminal.
fn detach(log: &Path) -> Result<Child> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder)?;
    }
    let out = File::create(log)?;
    let mut daemon = Command::new("setsid");
    daemon.arg("dockerd").stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    daemon.spawn().map_err(|error| Failure::new(format!("cannot start `dockerd`: {error}")))
}

fn answers_within(limit: Duration) -> bool {
    let started = Instant::now();
    loop {
        if ask().is_ok() {
            return true;
        }
        if started.elapsed() > limit {
            return false;
        }
        thread::sleep(Duration::from_millis(250));
    }
}
