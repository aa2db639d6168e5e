//! The commands of this repository, for people and for CI: `cargo xtask test | stress | quickstart
//! | images | bench`.
//!
//! Each command sets up what the machine lacks, so that it works on a fresh Debian. Progress goes
//! to standard error, standard output carries only results.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program prints")]

mod banned_crates;
mod checks;
mod command;
mod docker;
mod error;
mod images;
mod load;
mod machine;
mod quickstart;
mod test_directory;
mod test_programs;
mod test_run;

use std::env;
use std::process::ExitCode;

use error::{Error, Result};
use test_run::TestOptions;

const HELP: &str = "\
The commands of this repository. Each one sets up what the machine lacks.

Usage: cargo xtask <COMMAND>

Commands:
  test [--full] [FILTER]     Check formatting, dependencies, lints and documentation, then run the tests;
                             FILTER runs only the tests with it in the name, without the checks
  stress [--rounds N]        Run the tests N times (default 5) while all processors are kept busy
  quickstart [ARGS]          Create a database instance on the local Docker engine; `quickstart --help` lists ARGS
  images                     Make the database images available and print which ones are used
  bench [ARGS]               Run the benchmarks; ARGS go to `cargo bench`
  help                       Print this text

`test --full` runs every case on every engine version, soak tests and repeated series: up to an hour.
A database image is the official one if the engine has it or can pull it, else one built from Debian packages.
TROVE_IMAGE_POSTGRESQL_17 and similar variables name another image.
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.split_first() {
        Some((command, rest)) => run(command, rest),
        None => Err(Error::usage("a command is missing")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn run(command: &str, args: &[String]) -> Result<()> {
    match command {
        "quickstart" => quickstart::run(args),
        "help" | "--help" | "-h" => print_help(),
        "test" | "stress" | "images" | "bench" if requests_help(args) => print_help(),
        "test" => test_run::test(&TestOptions::parse(args)?),
        "stress" => test_run::stress(test_run::parse_rounds(args)?),
        "bench" => bench(args),
        "images" if !args.is_empty() => Err(Error::usage("`images` takes no arguments")),
        "images" => print_images(),
        load::COMMAND => load::run(),
        other => Err(Error::usage(format!("there is no command `{other}`"))),
    }
}

fn print_help() -> Result<()> {
    print!("{HELP}");
    Ok(())
}

fn print_images() -> Result<()> {
    for image in prepare_images()? {
        println!("{image}");
    }
    Ok(())
}

fn bench(args: &[String]) -> Result<()> {
    let mut bench = command::cargo(["bench", "--package", "trove-benches"]).args(args);
    for available in prepare_images()? {
        bench = bench.env(&available.image.variable(), &available.name);
    }
    bench.exec()
}

fn prepare_images() -> Result<Vec<images::AvailableImage>> {
    let _lock = machine::lock_setup()?;
    docker::ensure()?;
    images::ensure_all()
}

fn requests_help(args: &[String]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h")
}
