//! The images of databases and of the message broker: the official ones, or equivalent ones built
//! from Debian packages if no registry answers.
//!
//! To add an image, add a row to [`IMAGES`].

use std::env;
use std::fmt;

use crate::docker::docker;
use crate::error::Result;
use debootstrap::{Recipe, Suite};
use registry::Registry;

mod debootstrap;
mod registry;

/// The image of one version of a product.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) product: &'static str,
    pub(crate) version: &'static str,
    official: &'static str,
    /// How to build it if it cannot be pulled; none if Debian has no such package, and then tests
    /// do without.
    recipe: Option<Recipe>,
}

/// All images; the first row of a product is its default version.
pub(crate) const IMAGES: &[Image] = &[
    Image {
        product: "postgresql",
        version: "17",
        official: "postgres:17",
        recipe: Some(Recipe {
            suite: Suite::new("trixie"),
            packages: "postgresql-17",
            release: "17",
            programs: "/usr/lib/postgresql/17/bin",
            server: "postgres",
            initial_data: "/var/lib/postgresql/17",
        }),
    },
    Image {
        product: "postgresql",
        version: "18",
        official: "postgres:18",
        recipe: Some(Recipe {
            suite: Suite::rolling("forky"),
            packages: "postgresql-18",
            release: "18",
            programs: "/usr/lib/postgresql/18/bin",
            server: "postgres",
            initial_data: "/var/lib/postgresql/18",
        }),
    },
    Image {
        product: "postgresql",
        version: "15",
        official: "postgres:15",
        recipe: Some(Recipe {
            suite: Suite::new("bookworm"),
            packages: "postgresql-15",
            release: "15",
            programs: "/usr/lib/postgresql/15/bin",
            server: "postgres",
            initial_data: "/var/lib/postgresql/15",
        }),
    },
    Image {
        product: "mysql",
        version: "9.7",
        official: "mysql:9.7",
        recipe: Some(Recipe {
            suite: Suite::rolling("sid"),
            packages: "mysql-server-core",
            release: "9.7",
            programs: "/usr/sbin",
            server: "mysqld",
            initial_data: "/var/lib/mysql",
        }),
    },
    Image { product: "mysql", version: "8.4", official: "mysql:8.4", recipe: None },
    Image {
        product: "mariadb",
        version: "11.8",
        official: "mariadb:11.8",
        recipe: Some(mariadb(Suite::new("trixie"), "11.8")),
    },
    Image {
        product: "mariadb",
        version: "10.11",
        official: "mariadb:10.11",
        recipe: Some(mariadb(Suite::new("bookworm"), "10.11")),
    },
    // An earlier patch release, for tests of upgrades.
    Image {
        product: "mariadb",
        version: "10.11-older",
        official: "mariadb:10.11.8",
        recipe: Some(mariadb(Suite::new("bookworm").without_updates(), "10.11")),
    },
    Image {
        product: "valkey",
        version: "8.1",
        official: "valkey/valkey:8.1",
        recipe: Some(valkey(Suite::new("trixie"), "8.1")),
    },
    Image {
        product: "valkey",
        version: "9.1",
        official: "valkey/valkey:9.1",
        recipe: Some(valkey(Suite::rolling("sid"), "9.1")),
    },
    Image {
        product: "rabbitmq",
        version: "4.0",
        official: "rabbitmq:4.0-management",
        recipe: Some(Recipe {
            suite: Suite::new("trixie"),
            packages: "rabbitmq-server",
            release: "4.0",
            programs: "/usr/lib/rabbitmq/bin",
            server: "rabbitmqctl",
            initial_data: "/var/lib/rabbitmq/mnesia",
        }),
    },
];

const fn mariadb(suite: Suite, release: &'static str) -> Recipe {
    Recipe {
        suite,
        packages: "mariadb-server,mariadb-backup",
        release,
        programs: "/usr/sbin",
        server: "mariadbd",
        initial_data: "/var/lib/mysql",
    }
}

const fn valkey(suite: Suite, release: &'static str) -> Recipe {
    Recipe {
        suite,
        packages: "valkey-server",
        release,
        programs: "/usr/bin",
        server: "valkey-server",
        initial_data: "/var/lib/valkey",
    }
}

/// An image that the Docker engine has.
#[derive(Debug)]
pub(crate) struct AvailableImage {
    pub(crate) image: &'static Image,
    pub(crate) name: String,
    origin: &'static str,
}

/// Makes all images available, except those that can only be pulled if no registry has them.
pub(crate) fn ensure_all() -> Result<Vec<AvailableImage>> {
    ensure(IMAGES.iter())
}

/// Makes images available: present, else pulled, else built. Omits those that can only be pulled if
/// no registry has them.
pub(crate) fn ensure(images: impl Iterator<Item = &'static Image>) -> Result<Vec<AvailableImage>> {
    let mut registry = Registry::default();
    let mut available = Vec::new();
    let mut missing = Vec::new();
    for image in images {
        match find(image, &mut registry)? {
            Some(found) => available.push(found),
            None => missing.extend(image.recipe.as_ref().map(|recipe| (image, recipe))),
        }
    }
    let work = missing.iter().map(|(image, recipe)| (image.local_name(), *recipe)).collect();
    debootstrap::build_all(work)?;
    let built = missing.into_iter().map(|(image, _)| (image, image.local_name(), "built from Debian packages now"));
    available.extend(built.map(|(image, name, origin)| AvailableImage { image, name, origin }));
    available.sort_by_key(|found| IMAGES.iter().position(|image| image.variable() == found.image.variable()));
    Ok(available)
}

/// Returns the image if the engine has it or a registry delivers it.
fn find(image: &'static Image, registry: &mut Registry) -> Result<Option<AvailableImage>> {
    if let Some(name) = env::var(image.variable()).ok().filter(|name| !name.is_empty()) {
        if !is_present(&name) {
            registry.pull(&name)?;
        }
        return Ok(Some(AvailableImage { image, name, origin: "named by the environment" }));
    }
    let local = image.local_name();
    for (name, origin) in [(image.official, "official, present"), (&local, "built from Debian packages, present")] {
        if is_present(name) {
            return Ok(Some(AvailableImage { image, name: name.to_owned(), origin }));
        }
    }
    let Err(error) = registry.pull(image.official) else {
        return Ok(Some(AvailableImage { image, name: image.official.to_owned(), origin: "official, pulled now" }));
    };
    let fallback = if image.recipe.is_some() { "building it from Debian packages" } else { "continuing without it" };
    eprintln!("{} could not be pulled ({error}); {fallback}", image.official);
    Ok(None)
}

impl Image {
    /// Returns the environment variable that names the image for tests, such as
    /// `TROVE_IMAGE_POSTGRESQL_17`.
    pub(crate) fn variable(&self) -> String {
        format!("TROVE_IMAGE_{}_{}", self.product, self.version).replace(['.', '-'], "_").to_uppercase()
    }

    /// Returns the name of the image that is built here.
    fn local_name(&self) -> String {
        format!("trove-local/{}:{}", self.product, self.version)
    }
}

impl fmt::Display for AvailableImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({})", self.image.product, self.image.version, self.name, self.origin)
    }
}

fn is_present(name: &str) -> bool {
    docker(["image", "inspect", "--format", "{{.Id}}", name]).output().is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{IMAGES, Image};

    #[test]
    fn variables_are_named_after_product_and_version() {
        let variables: Vec<_> = IMAGES.iter().map(Image::variable).collect();
        for variable in ["TROVE_IMAGE_POSTGRESQL_17", "TROVE_IMAGE_MYSQL_9_7", "TROVE_IMAGE_MARIADB_10_11_OLDER"] {
            assert!(variables.contains(&variable.to_owned()), "{variable}");
        }
    }

    #[test]
    fn names_and_variables_are_unique() {
        assert_eq!(IMAGES.iter().map(Image::variable).collect::<BTreeSet<_>>().len(), IMAGES.len());
        assert_eq!(IMAGES.iter().map(Image::local_name).collect::<BTreeSet<_>>().len(), IMAGES.len());
        assert_eq!(IMAGES.iter().map(|image| image.official).collect::<BTreeSet<_>>().len(), IMAGES.len());
    }

    #[test]
    fn default_versions_are_available_without_a_registry() {
        let mut seen = BTreeSet::new();
        for image in IMAGES.iter().filter(|image| seen.insert(image.product)) {
            assert!(image.recipe.is_some(), "{} {}", image.product, image.version);
        }
        assert_eq!(seen.len(), 5);
    }
}
