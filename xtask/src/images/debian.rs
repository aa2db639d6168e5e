//! Images made of Debian's packages.

use std::collections::VecDeque;
use std::process;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::engine::docker;
use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::Task;

/// How many are made at a time: one waits for the network or the disk while the other computes.
const AT_ONCE: usize = 2;

/// What an image is made of.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) suite: Suite,
    /// Separated by commas.
    pub(super) packages: &'static str,
    /// What the server's version begins with. A suite that has moved on has another.
    pub(super) release: &'static str,
    /// Where the packages put the server's programs, and the one that tells its version.
    pub(super) programs: &'static str,
    pub(super) server: &'static str,
    /// The database that the packages' own set-up makes. An image must not carry one.
    pub(super) made_by_packages: &'static str,
}

/// A Debian suite to take packages from.
#[derive(Debug)]
pub(super) struct Suite {
    name: &'static str,
    moving: bool,
    updates: bool,
}

impl Suite {
    /// A release, with its security updates.
    pub(super) const fn new(name: &'static str) -> Self {
        Self { name, moving: false, updates: true }
    }

    /// One that changes daily. Its lists name a day until which they hold, and mirrors may lag behind it.
    pub(super) const fn moving(name: &'static str) -> Self {
        Self { name, moving: true, updates: true }
    }

    /// The release as it was last published as a whole.
    pub(super) const fn without_updates(self) -> Self {
        Self { name: self.name, moving: self.moving, updates: false }
    }
}

/// Makes images of these names. All are tried, whatever becomes of the others.
pub(super) fn build_all(work: VecDeque<(String, &Recipe)>) -> Result<()> {
    if work.is_empty() {
        return Ok(());
    }
    prepare()?;
    let work = Mutex::new(work);
    let next = || work.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let one_by_one = || -> Vec<Failure> {
        std::iter::from_fn(next).filter_map(|(name, recipe)| build(&name, recipe).err()).collect()
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(one_by_one)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| vec![Failure::new("a bug")]));
        ended.flatten().map(|failure| failure.to_string()).collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(Failure::new(failures.join("; "))) }
}

fn prepare() -> Result<()> {
    if machine::has("mmdebstrap") && (machine::is_root() || machine::has("newuidmap")) {
        return Ok(());
    }
    // An ordinary user's mmdebstrap needs the programs of `uidmap`.
    let packages = if machine::is_root() { "mmdebstrap" } else { "mmdebstrap uidmap" };
    machine::apt_install(packages, "building a database image")
}

/// Builds under a passing name, so that the real one never stands for half an image.
fn build(name: &str, recipe: &Recipe) -> Result<()> {
    let started = Instant::now();
    let passing = format!("{name}-unfinished-{}", process::id());
    let outcome = assemble(recipe, &passing)
        .and_then(|()| verify(recipe, &passing))
        .and_then(|version| docker(["tag", &passing, name]).run().map(|()| version));
    // After a success this takes away the name only: the image has its real one by now.
    let cleared = if super::present(&passing) { docker(["image", "rm", &passing]).capture().map(drop) } else { Ok(()) };
    let version = outcome.and_then(|version| cleared.map(|()| version));
    let version = version.map_err(|failure| Failure::new(format!("cannot build {name}: {failure}")))?;
    eprintln!("{name} is built after {:.0} s: {version}", started.elapsed().as_secs_f64());
    Ok(())
}

fn assemble(recipe: &Recipe, name: &str) -> Result<()> {
    let mut options = vec![format!("--include={}", recipe.packages)];
    options.extend(["doc", "man", "locale"].map(|extra| format!("--dpkgopt=path-exclude=/usr/share/{extra}/*")));
    options.push("--aptopt=Acquire::Retries \"3\"".to_owned());
    options.extend(recipe.suite.moving.then(|| "--aptopt=Acquire::Check-Valid-Until \"false\"".to_owned()));
    options.push(format!("--customize-hook=rm -rf \"$1{}\"", recipe.made_by_packages));
    // Left to choose, it would fall back for an ordinary user to a way that breaks on a newer suite's C library.
    let mode = if machine::is_root() { "--mode=root" } else { "--mode=unshare" };
    // Told no mirror, it takes the updates of a release along.
    let mirror = (!recipe.suite.updates).then_some("http://deb.debian.org/debian");
    let system = Task::new("mmdebstrap")
        .args(["--quiet", mode, "--variant=essential"])
        .args(options)
        .args([recipe.suite.name, "-"])
        .args(mirror)
        .limit(Duration::from_mins(10));
    let path = format!("ENV PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", recipe.programs);
    system.pipe_into(docker(["import", "--change", &path, "-", name]).limit(Duration::from_mins(5)))
}

/// Asks the server in the image for its version, which is the one wanted.
fn verify(recipe: &Recipe, name: &str) -> Result<String> {
    let answer = docker(["run", "--rm", "--network=none", "--entrypoint=", name, recipe.server, "--version"]);
    let answer = answer.capture()?.trim().to_owned();
    if is_of_release(&answer, recipe.release) {
        return Ok(answer);
    }
    let (suite, release) = (recipe.suite.name, recipe.release);
    Err(Failure::new(format!("Debian {suite} has another release than {release} by now: {answer}")))
}

fn is_of_release(answer: &str, release: &str) -> bool {
    let mut numbers = answer.split(|letter: char| !letter.is_ascii_digit() && letter != '.');
    let version = numbers.find(|number| number.contains('.')).and_then(|version| version.strip_prefix(release));
    version.is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::is_of_release;

    #[test]
    fn a_suite_that_has_moved_on_is_noticed() {
        let mysql = "/usr/sbin/mysqld  Ver 9.7.4-2 for Linux on x86_64 ((Debian))";
        let mariadb = "mariadbd  Ver 10.11.18-MariaDB-0+deb12u1 for debian-linux-gnu on x86_64 (Debian 12)";
        let postgresql = "postgres (PostgreSQL) 17.12 (Debian 17.12-0+deb13u1)";
        for (answer, release) in [(mysql, "9.7"), (mariadb, "10.11"), (postgresql, "17")] {
            assert!(is_of_release(answer, release), "{answer}");
        }
        for (answer, release) in [(mysql, "9.6"), (mysql, "8.4"), (mariadb, "10.1"), (postgresql, "1"), ("", "17")] {
            assert!(!is_of_release(answer, release), "{answer}, {release}");
        }
    }
}
