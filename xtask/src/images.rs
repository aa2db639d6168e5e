//! The images of databases and of the message broker: the official ones, and where no registry answers, equal ones from
//! Debian's packages.
//!
//! A further one is a row in [`IMAGES`].

use std::env;
use std::fmt;

use crate::engine::docker;
use crate::failure::Result;
use debian::{Recipe, Suite};
use registry::Registry;

mod debian;
mod registry;

/// The image of one version of a product.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) product: &'static str,
    pub(crate) version: &'static str,
    official: &'static str,
    /// How it is made where it cannot be pulled. None where Debian has no packages of it: then it is gone without.
    recipe: Option<Recipe>,
}

/// Every image there is; a product's first row is its default version.
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
            made_by_packages: "/var/lib/postgresql/17",
        }),
    },
    Image {
        product: "postgresql",
        version: "18",
        official: "postgres:18",
        recipe: Some(Recipe {
            suite: Suite::moving("forky"),
            packages: "postgresql-18",
            release: "18",
            programs: "/usr/lib/postgresql/18/bin",
            server: "postgres",
            made_by_packages: "/var/lib/postgresql/18",
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
            made_by_packages: "/var/lib/postgresql/15",
        }),
    },
    Image {
        product: "mysql",
        version: "9.7",
        official: "mysql:9.7",
        recipe: Some(Recipe {
            suite: Suite::moving("sid"),
            packages: "mysql-server-core",
            release: "9.7",
            programs: "/usr/sbin",
            server: "mysqld",
            made_by_packages: "/var/lib/mysql",
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
    // An earlier patch, for tests of an upgrade.
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
        recipe: Some(valkey(Suite::moving("sid"), "9.1")),
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
            made_by_packages: "/var/lib/rabbitmq/mnesia",
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
        made_by_packages: "/var/lib/mysql",
    }
}

const fn valkey(suite: Suite, release: &'static str) -> Recipe {
    Recipe {
        suite,
        packages: "valkey-server",
        release,
        programs: "/usr/bin",
        server: "valkey-server",
        made_by_packages: "/var/lib/valkey",
    }
}

/// An image that the engine has.
#[derive(Debug)]
pub(crate) struct Chosen {
    pub(crate) image: &'static Image,
    pub(crate) name: String,
    how: &'static str,
}

/// Makes every image available that can be had, and says which cannot.
pub(crate) fn ensure_all() -> Result<Vec<Chosen>> {
    ensure(IMAGES.iter())
}

/// Makes these available, each one present, else pulled, else built.
///
/// One that can only be pulled is left out with a word where no registry has it.
pub(crate) fn ensure(images: impl Iterator<Item = &'static Image>) -> Result<Vec<Chosen>> {
    let mut registry = Registry::default();
    let mut chosen = Vec::new();
    let mut missing = Vec::new();
    for image in images {
        match found(image, &mut registry)? {
            Some(found) => chosen.push(found),
            None => missing.extend(image.recipe.as_ref().map(|recipe| (image, recipe))),
        }
    }
    let work = missing.iter().map(|(image, recipe)| (image.local(), *recipe)).collect();
    debian::build_all(work)?;
    let built = missing.into_iter().map(|(image, _)| (image, image.local(), "built from Debian packages now"));
    chosen.extend(built.map(|(image, name, how)| Chosen { image, name, how }));
    chosen.sort_by_key(|chosen| IMAGES.iter().position(|image| image.variable() == chosen.image.variable()));
    Ok(chosen)
}

/// The image where it is there or a registry has it.
fn found(image: &'static Image, registry: &mut Registry) -> Result<Option<Chosen>> {
    if let Some(name) = env::var(image.variable()).ok().filter(|name| !name.is_empty()) {
        if !present(&name) {
            registry.pull(&name)?;
        }
        return Ok(Some(Chosen { image, name, how: "named by the environment" }));
    }
    let local = image.local();
    for (name, how) in [(image.official, "official, present"), (&local, "built from Debian packages, present")] {
        if present(name) {
            return Ok(Some(Chosen { image, name: name.to_owned(), how }));
        }
    }
    let Err(refusal) = registry.pull(image.official) else {
        return Ok(Some(Chosen { image, name: image.official.to_owned(), how: "official, pulled now" }));
    };
    let otherwise = if image.recipe.is_some() { "building it from Debian packages" } else { "going on without it" };
    eprintln!("{} cannot be pulled ({refusal}); {otherwise}", image.official);
    Ok(None)
}

impl Image {
    /// The environment variable by which tests are told the image, such as `TROVE_IMAGE_POSTGRESQL_17`.
    pub(crate) fn variable(&self) -> String {
        format!("TROVE_IMAGE_{}_{}", self.product, self.version).replace(['.', '-'], "_").to_uppercase()
    }

    /// The name of the image that is made here.
    fn local(&self) -> String {
        format!("trove-local/{}:{}", self.product, self.version)
    }
}

impl fmt::Display for Chosen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {} ({})", self.image.product, self.image.version, self.name, self.how)
    }
}

fn present(name: &str) -> bool {
    docker(["image", "inspect", "--format", "{{.Id}}", name]).capture().is_ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{IMAGES, Image};

    #[test]
    fn tests_are_told_the_image_by_a_variable_of_its_product_and_version() {
        let variables: Vec<_> = IMAGES.iter().map(Image::variable).collect();
        for variable in ["TROVE_IMAGE_POSTGRESQL_17", "TROVE_IMAGE_MYSQL_9_7", "TROVE_IMAGE_MARIADB_10_11_OLDER"] {
            assert!(variables.contains(&variable.to_owned()), "{variable}");
        }
    }

    #[test]
    fn no_two_rows_share_a_name_or_a_variable() {
        assert_eq!(IMAGES.iter().map(Image::variable).collect::<BTreeSet<_>>().len(), IMAGES.len());
        assert_eq!(IMAGES.iter().map(Image::local).collect::<BTreeSet<_>>().len(), IMAGES.len());
        assert_eq!(IMAGES.iter().map(|image| image.official).collect::<BTreeSet<_>>().len(), IMAGES.len());
    }

    #[test]
    fn a_default_version_can_be_had_without_a_registry() {
        let mut seen = BTreeSet::new();
        for image in IMAGES.iter().filter(|image| seen.insert(image.product)) {
            assert!(image.recipe.is_some(), "{} {}", image.product, image.version);
        }
        assert_eq!(seen.len(), 5);
    }
}
