//! The repository's commands, for people and for CI: `cargo xtask test | quickstart | images | bench`.
//!
//! Each one finds out what the machine lacks and sets it up, so that it works on a fresh Debian. Progress goes to
//! standard error; standard output carries only results.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "talking to the person who runs it is its job")]

mod checks;
mod deny;
mod engine;
mod failure;
mod images;
mod leftovers;
mod machine;
mod process;
mod quickstart;
mod suite;

use std::env;
use std::process::ExitCode;

use failure::{Failure, Result};

const HELP: &str = "\
The commands of this repository. Each one sets up what the machine lacks.

Usage: cargo xtask <COMMAND>

Commands:
  test               Check formatting, dependencies, lints and documentation, then run every test
  quickstart [ARGS]  Create a database instance on the local Docker engine; `quickstart --help` lists ARGS
  images             Make the database images available and print which ones are used
  bench [ARGS]       Run the benchmarks; ARGS go to `cargo bench`
  help               Print this text

A database image is the official one where the engine has it or can pull it, else one built from Debian's packages.
TROVE_IMAGE_POSTGRESQL_17 and the like name another one.
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned()).collect();
    let outcome = match args.split_first() {
        Some((command, rest)) => dispatch(command, rest),
        None => Err(Failure::usage("which command?")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(command: &str, args: &[String]) -> Result<()> {
    match command {
        "quickstart" => quickstart::run(args),
        "help" | "--help" | "-h" => help(),
        "test" | "images" | "bench" if asks_for_help(args) => help(),
        "bench" => bench(args),
        "test" | "images" if !args.is_empty() => Err(Failure::usage(format!("`{command}` takes no arguments"))),
        "test" => suite::run(),
        "images" => list_images(),
        other => Err(Failure::usage(format!("there is no command `{other}`"))),
    }
}

fn help() -> Result<()> {
    print!("{HELP}");
    Ok(())
}

fn list_images() -> Result<()> {
    engine::ensure()?;
    for chosen in images::ensure_all()? {
        println!("{chosen}");
    }
    Ok(())
}

fn bench(args: &[String]) -> Result<()> {
    engine::ensure()?;
    let images = images::ensure_all()?;
    let mut bench = process::cargo(["bench", "--package", "trove-benches"]).args(args);
    for chosen in &images {
        bench = bench.env(&chosen.image.variable(), &chosen.name);
    }
    bench.become_it()
}

fn asks_for_help(args: &[String]) -> bool {
    args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--help" || arg == "-h")
}
