//! The database images: the official ones, and where no registry answers, equal ones from Debian's packages.
//!
//! A further database is a row in [`IMAGES`].

use std::env;
use std::fmt;
use std::process;
use std::time::Duration;

use crate::engine::docker;
use crate::failure::{Failure, Result};
use crate::machine;
use crate::process::Task;

/// The image of one datastore version.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) datastore: &'static str,
    pub(crate) version: &'static str,
    official: &'static str,
    local: &'static str,
    /// The Debian suite and the package in it that the local image is made of.
    suite: &'static str,
    package: &'static str,
    /// Options for apt while it is made.
    apt_options: &'static [&'static str],
    /// Where the package puts the server's programs, and the server among them.
    programs: &'static str,
    server: &'static str,
    /// The database that the package's own set-up makes. An image must not carry one.
    made_by_package: &'static str,
}

/// Every image there is; a datastore's first row is its default version.
pub(crate) const IMAGES: &[Image] = &[Image {
    datastore: "postgresql",
    version: "17",
    official: "postgres:17",
    local: "trove-local/postgresql:17",
    suite: "trixie",
    package: "postgresql-17",
    apt_options: &[],
    programs: "/usr/lib/postgresql/17/bin",
    server: "postgres",
    made_by_package: "/var/lib/postgresql/17",
}];

/// An image that the engine has.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) image: &'static Image,
    pub(crate) name: String,
    how: &'static str,
}

/// Makes every image available.
pub(crate) fn ensure_all() -> Result<Vec<Chosen>> {
    IMAGES.iter().map(ensure).collect()
}

/// Makes one image available: present, else pulled, else built.
pub(crate) fn ensure(image: &'static Image) -> Result<Chosen> {
    if let Some(name) = env::var(image.variable()).ok().filter(|name| !name.is_empty()) {
        if !present(&name) {
            pull(&name)?;
        }
        return Ok(Chosen { image, name, how: "named by the environment" });
    }
    for (name, how) in [(image.official, "official, present"), (image.local, "built from Debian packages, present")] {
        if present(name) {
            return Ok(Chosen { image, name: name.to_owned(), how });
        }
    }
    let Err(refusal) = pull(image.official) else {
        return Ok(Chosen { image, name: image.official.to_owned(), how: "official, pulled now" });
    };
    eprintln!("{} cannot be pulled ({refusal}); building {} from Debian packages", image.official, image.local);
    build(image)?;
    Ok(Chosen { image, name: image.local.to_owned(), how: "built from Debian packages now" })
}

impl Image {
    /// The environment variable by which tests are told the image, such as `TROVE_IMAGE_POSTGRESQL_17`.
    pub(crate) fn variable(&self) -> String {
        let version = self.version.replace('.', "_");
        format!("TROVE_IMAGE_{}_{version}", self.datastore.to_uppercase())
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({})", self.image.datastore, self.image.version, self.name, self.how)
    }
}

fn present(name: &str) -> bool {
    docker(["image", "inspect", "--format", "{{.Id}}", name]).capture().is_ok()
}

/// A registry that cannot be reached is given up soon, one that answers has time to deliver.
fn pull(name: &str) -> Result<()> {
    let task = docker(["pull", name]).first_word(Duration::from_secs(20)).limit(Duration::from_mins(10));
    task.watch(|line| eprint!("{line}"))
}

/// Builds under a passing name, so that the real one never stands for half an image.
fn build(image: &Image) -> Result<()> {
    if !machine::has("mmdebstrap") || !(machine::is_root() || machine::has("newuidmap")) {
        // An ordinary user's mmdebstrap needs the programs of `uidmap`.
        let packages = if machine::is_root() { "mmdebstrap" } else { "mmdebstrap uidmap" };
        machine::apt_install(packages, "building a database image")?;
    }
    let passing = format!("{}-unfinished-{}", image.local, process::id());
    let outcome = assemble(image, &passing)
        .and_then(|()| verify(image, &passing))
        .and_then(|()| docker(["tag", &passing, image.local]).run());
    // After a success this takes away the name only: the image has its real one by now.
    let cleared = if present(&passing) { docker(["image", "rm", &passing]).capture().map(drop) } else { Ok(()) };
    outcome.and(cleared).map_err(|failure| Failure::new(format!("cannot build {}: {failure}", image.local)))
}

fn assemble(image: &Image, name: &str) -> Result<()> {
    let mut options = vec![format!("--include={}", image.package)];
    options.extend(["doc", "man", "locale"].map(|extra| format!("--dpkgopt=path-exclude=/usr/share/{extra}/*")));
    options.extend(image.apt_options.iter().map(|option| format!("--aptopt={option}")));
    options.push(format!("--customize-hook=rm -rf \"$1{}\"", image.made_by_package));
    // Left to choose, it would fall back for an ordinary user to a way that breaks on a newer suite's C library.
    let mode = if machine::is_root() { "--mode=root" } else { "--mode=unshare" };
    let system = Task::new("mmdebstrap")
        .args(["--quiet", mode, "--variant=essential"])
        .args(options)
        .args([image.suite, "-"])
        .limit(Duration::from_mins(10));
    let path = format!("ENV PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", image.programs);
    system.pipe_into(docker(["import", "--change", &path, "-", name]).limit(Duration::from_mins(5)))
}

fn verify(image: &Image, name: &str) -> Result<()> {
    let answer =
        docker(["run", "--rm", "--network=none", "--entrypoint=", name, image.server, "--version"]).capture()?;
    eprintln!("the image runs: {}", answer.trim());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::IMAGES;

    #[test]
    fn tests_are_told_the_image_by_a_variable_of_its_datastore_and_version() {
        let variables: Vec<_> = IMAGES.iter().map(super::Image::variable).collect();
        assert!(variables.contains(&"TROVE_IMAGE_POSTGRESQL_17".to_owned()));
    }

    #[test]
    fn no_two_rows_share_a_name_or_a_variable() {
        assert_eq!(IMAGES.iter().map(super::Image::variable).collect::<BTreeSet<_>>().len(), IMAGES.len());
        assert_eq!(IMAGES.iter().map(|image| image.local).collect::<BTreeSet<_>>().len(), IMAGES.len());
    }
}
