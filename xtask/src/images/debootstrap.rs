//! Images built from Debian packages with mmdebstrap.

use std::collections::VecDeque;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::Command;
use crate::docker::docker;
use crate::error::{Error, Result, all_ok};
use crate::machine;

/// How many images are built in parallel: one waits for the network or the disk while another uses
/// the processor.
const PARALLEL_BUILDS: usize = 2;

/// The contents of an image.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) suite: Suite,
    /// Separated by commas.
    pub(super) packages: &'static str,
    /// The expected prefix of the server's version. A suite that has moved on has another release.
    pub(super) release: &'static str,
    /// The directory of the server's programs, and the program that prints its version.
    pub(super) programs: &'static str,
    pub(super) server: &'static str,
    /// The database that the package's installation creates, which an image must not contain.
    pub(super) initial_data: &'static str,
}

/// The Debian suite to install packages from.
#[derive(Debug)]
pub(super) struct Suite {
    name: &'static str,
    rolling: bool,
    updates: bool,
}

impl Suite {
    /// A release with its security updates.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, rolling: false, updates: true }
    }

    /// A suite that changes daily. Its package lists expire, and mirrors may lag behind.
    pub(super) const fn rolling(name: &'static str) -> Self {
        Self { name, rolling: true, updates: true }
    }

    /// The release as of its last point release.
    pub(super) const fn without_updates(self) -> Self {
        Self { name: self.name, rolling: self.rolling, updates: false }
    }
}

/// Builds images under these names, continuing after errors.
pub(super) fn build_all(work: VecDeque<(String, &Recipe)>) -> Result<()> {
    if work.is_empty() {
        return Ok(());
    }
    ensure_mmdebstrap()?;
    let work = Mutex::new(work);
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker =
        || -> Vec<Error> { std::iter::from_fn(next).filter_map(|(name, recipe)| build(&name, recipe).err()).collect() };
    let errors: Vec<Error> = thread::scope(|scope| {
        let workers: Vec<_> = (0..PARALLEL_BUILDS).map(|_| scope.spawn(worker)).collect();
        let ended = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|_| vec![Error::new("a build thread panicked")]));
        ended.flatten().collect()
    });
    all_ok(errors)
}

fn ensure_mmdebstrap() -> Result<()> {
    if machine::has_program("mmdebstrap") && (machine::is_root() || machine::has_program("newuidmap")) {
        return Ok(());
    }
    // For an ordinary user, mmdebstrap needs the programs of `uidmap`.
    let packages = if machine::is_root() { "mmdebstrap" } else { "mmdebstrap uidmap" };
    machine::apt_install(packages, "building a database image")
}

/// Builds under a temporary name, so that the final name never refers to an incomplete image.
fn build(name: &str, recipe: &Recipe) -> Result<()> {
    let started = Instant::now();
    let temporary = format!("{name}-unfinished-{}", process::id());
    let outcome = bootstrap(recipe, &temporary)
        .and_then(|()| verify(recipe, &temporary))
        .and_then(|version| docker(["tag", &temporary, name]).run().map(|()| version));
    // After a success this removes only the name: the image has its final name by now.
    let removed =
        if super::is_present(&temporary) { docker(["image", "rm", &temporary]).output().map(drop) } else { Ok(()) };
    let version = outcome.and_then(|version| removed.map(|()| version));
    let version = version.map_err(|error| Error::new(format!("could not build {name}: {error}")))?;
    eprintln!("{name} was built in {:.0} s: {version}", started.elapsed().as_secs_f64());
    Ok(())
}

fn bootstrap(recipe: &Recipe, name: &str) -> Result<()> {
    let mut options = vec![format!("--include={}", recipe.packages)];
    options.extend(["doc", "man", "locale"].map(|extra| format!("--dpkgopt=path-exclude=/usr/share/{extra}/*")));
    options.push("--aptopt=Acquire::Retries \"3\"".to_owned());
    options.extend(recipe.suite.rolling.then(|| "--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned()));
    options.push(format!("--customize-hook=rm -rf \"$1{}\"", recipe.initial_data));
    // The automatic mode may choose one for an ordinary user that fails with the C library of newer
    // suites.
    let mode = if machine::is_root() { "--mode=root" } else { "--mode=unshare" };
    // Without a mirror, mmdebstrap includes the updates of a release.
    let mirror = (!recipe.suite.updates).then_some("http://deb.debian.org/debian");
    let system = Command::new("mmdebstrap")
        .args(["--quiet", mode, "--variant=essential"])
        .args(options)
        .args([recipe.suite.name, "-"])
        .args(mirror)
        .timeout(Duration::from_mins(10));
    let path = format!("ENV PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", recipe.programs);
    system.pipe_into(docker(["import", "--change", &path, "-", name]).timeout(Duration::from_mins(5)))
}

/// Returns the version of the server in the image, if it is of the wanted release.
fn verify(recipe: &Recipe, name: &str) -> Result<String> {
    let version = docker(["run", "--rm", "--network=none", "--entrypoint=", name, recipe.server, "--version"]);
    let version = version.output()?.trim().to_owned();
    if is_of_release(&version, recipe.release) {
        return Ok(version);
    }
    let (suite, release) = (recipe.suite.name, recipe.release);
    Err(Error::new(format!("Debian {suite} no longer has release {release}: {version}")))
}

fn is_of_release(output: &str, release: &str) -> bool {
    let mut numbers = output.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let version = numbers.find(|number| number.contains('.')).and_then(|version| version.strip_prefix(release));
    version.is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_of_release;

    #[test]
    fn other_releases_are_detected() {
        let mysql = "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";
        let mariadb = "mariadbd  Ver 10.11.18-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)";
        let postgresql = "postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)";
        for (output, release) in [(mysql, "9.7"), (mariadb, "10.11"), (postgresql, "17")] {
            assert!(is_of_release(output, release), "{output}");
        }
        for (output, release) in [(mysql, "9.6"), (mysql, "8.4"), (mariadb, "10.1"), (postgresql, "1"), ("", "17")] {
            assert!(!is_of_release(output, release), "{output}, {release}");
        }
    }
}
