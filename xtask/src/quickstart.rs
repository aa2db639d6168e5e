//! `cargo xtask quickstart`: sets up the engine and the image, then hands over to the example.

use std::iter;
use std::time::Duration;

use crate::engine;
use crate::failure::Result;
use crate::images::{self, IMAGES, Image};
use crate::process::cargo;

/// Runs the example with these arguments, and with `--image` added where they name none.
///
/// It takes this process's place, so Ctrl-C and the exit status are its own, and its standard output is untouched.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let wish = Wish::of(args);
    let mut args = args.to_vec();
    if !wish.help {
        engine::ensure()?;
        if let Some(image) = wish.image_to_prepare() {
            for chosen in images::ensure(iter::once(image))? {
                args.extend(["--image".to_owned(), chosen.name]);
            }
        }
    }
    // Built first, since running it quietly would leave a first-time user without a word for minutes.
    cargo(["build", "--package", "trove-examples", "--bin", "quickstart"]).limit(Duration::from_mins(30)).run()?;
    cargo(["run", "--quiet", "--package", "trove-examples", "--bin", "quickstart", "--"]).args(args).become_it()
}

/// What of the example's command line concerns the set-up. The example itself judges the rest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wish {
    help: bool,
    image: bool,
    delete: bool,
    datastore: Option<String>,
    version: Option<String>,
}

impl Wish {
    fn of(args: &[String]) -> Self {
        let mut wish = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (flag, joined) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            match flag {
                "--help" | "-h" => wish.help = true,
                "--image" => wish.image = true,
                "--delete" => wish.delete = true,
                "--datastore" => wish.datastore = joined.or_else(|| args.next().cloned()),
                "--version" => wish.version = joined.or_else(|| args.next().cloned()),
                _ => {}
            }
        }
        wish
    }

    /// None where the user chose one, nothing is created, or the datastore is not known here.
    fn image_to_prepare(&self) -> Option<&'static Image> {
        if self.image || self.delete {
            return None;
        }
        let datastore = self.datastore.as_deref().unwrap_or("postgresql");
        let fits = |image: &&Image| self.version.as_deref().is_none_or(|version| image.version == version);
        IMAGES.iter().filter(|image| image.product == datastore).find(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::Wish;

    fn version(line: &str) -> Option<&'static str> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Wish::of(&args).image_to_prepare().map(|image| image.version)
    }

    #[test]
    fn the_image_of_the_chosen_version_is_prepared() {
        for (line, wanted) in [
            ("", "17"),
            ("--json --keep", "17"),
            ("--datastore=postgresql --version=15", "15"),
            ("--version 18", "18"),
            ("--datastore mysql", "9.7"),
            ("--datastore mariadb", "11.8"),
            ("--version 10.11 --datastore mariadb", "10.11"),
            ("--datastore valkey", "8.1"),
        ] {
            assert_eq!(version(line), Some(wanted), "{line}");
        }
    }

    #[test]
    fn no_image_is_prepared_where_none_is_used() {
        for line in ["--image mine:1", "--image=mine:1", "--delete abc", "--datastore oracle", "--version 3"] {
            assert_eq!(version(line), None, "{line}");
        }
    }

    #[test]
    fn help_is_seen_anywhere() {
        assert!(Wish::of(&["--json".to_owned(), "--help".to_owned()]).help);
        assert!(!Wish::of(&["--json".to_owned()]).help);
    }
}
