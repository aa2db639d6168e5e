//! `cargo xtask quickstart`: sets up the Docker engine and the image, then runs the example.

use std::iter;
use std::time::Duration;

use crate::command::cargo;
use crate::error::Result;
use crate::images::{self, IMAGES, Image};
use crate::{docker, machine};

/// Runs the example with these arguments, adding `--image` if they name none.
///
/// The example replaces this process, so it handles Ctrl-C, sets the exit status and owns standard
/// output.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = SetupOptions::parse(args);
    let mut args = args.to_vec();
    if !options.help {
        let _lock = machine::lock_setup()?;
        docker::ensure()?;
        if let Some(image) = options.image_to_prepare() {
            for available in images::ensure(iter::once(image))? {
                args.extend(["--image".to_owned(), available.name]);
            }
        }
    }
    // Built first with output, since `run --quiet` would print nothing for minutes.
    cargo(["build", "--package", "trove-examples", "--bin", "quickstart"]).timeout(Duration::from_mins(60)).run()?;
    cargo(["run", "--quiet", "--package", "trove-examples", "--bin", "quickstart", "--"]).args(args).exec()
}

/// The options of the example that affect the set-up. The example validates the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct SetupOptions {
    help: bool,
    image: bool,
    delete: bool,
    datastore: Option<String>,
    version: Option<String>,
}

impl SetupOptions {
    fn parse(args: &[String]) -> Self {
        let mut options = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (flag, joined) = match arg.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            match flag {
                "--help" | "-h" => options.help = true,
                "--image" => options.image = true,
                "--delete" => options.delete = true,
                "--datastore" => options.datastore = joined.or_else(|| args.next().cloned()),
                "--version" => options.version = joined.or_else(|| args.next().cloned()),
                _ => {}
            }
        }
        options
    }

    /// Returns none if the user chose an image, nothing is created, or the datastore is unknown.
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
    use super::SetupOptions;

    fn version(line: &str) -> Option<&'static str> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        SetupOptions::parse(&args).image_to_prepare().map(|image| image.version)
    }

    #[test]
    fn the_image_of_the_requested_version_is_prepared() {
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
    fn no_image_is_prepared_if_none_is_needed() {
        for line in ["--image mine:1", "--image=mine:1", "--delete abc", "--datastore oracle", "--version 3"] {
            assert_eq!(version(line), None, "{line}");
        }
    }

    #[test]
    fn help_is_recognized_anywhere() {
        assert!(SetupOptions::parse(&["--json".to_owned(), "--help".to_owned()]).help);
        assert!(!SetupOptions::parse(&["--json".to_owned()]).help);
    }
}
