//! A database instance from creation to deletion, with every step told: a tour of the service, and a check that it works
//! on this machine.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "telling what happens is what this program is for")]

mod client;
mod report;
mod service;
mod tour;

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trove_core::{
    error::{Error, Result},
    id::InstanceId,
};

use report::Report;

/// Creates a database instance, uses it, changes it and removes it again.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Options {
    /// The datastore to run.
    #[arg(long, default_value = "postgresql")]
    datastore: String,
    /// Its version; the datastore's default unless given.
    #[arg(long)]
    version: Option<String>,
    /// The image to run it from.
    #[arg(long)]
    image: Option<String>,
    /// Leave the instance running at the end, and say how to reach and how to remove it.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object a line, for machines.
    #[arg(long)]
    json: bool,
    /// Remove an instance that was kept, and do nothing else.
    #[arg(long, value_name = "ID")]
    delete: Option<InstanceId>,
    /// Where instances keep their data while they exist.
    #[arg(long, value_name = "DIRECTORY", default_value = ".trove-quickstart")]
    data: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")))
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    let report = Report::new(options.json);
    match run(&options, &report).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Interrupted) => {
            report.failed("interrupted; nothing was left behind");
            ExitCode::from(130)
        }
        Err(Failure::Error(error)) => {
            report.failed(&error.report());
            ExitCode::FAILURE
        }
    }
}

/// Why the program did not do what it was asked.
enum Failure {
    Error(Error),
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn run(options: &Options, report: &Report) -> Result<(), Failure> {
    let interrupted = interruption()?;
    tokio::pin!(interrupted);
    if let Some(id) = options.delete {
        return Ok(tour::delete_kept(options, id, report).await?);
    }
    let id = InstanceId::new_v4();
    let home = service::Home::new(&options.data, id);
    let service = service::start(options, &home).await?;
    let outcome = tokio::select! {
        outcome = tour::take(options, &service, id, report) => outcome.map_err(Failure::from),
        () = &mut interrupted => Err(Failure::Interrupted),
    };
    if options.keep && outcome.is_ok() {
        service.trove.shut_down().await;
        report.kept(&home);
        return Ok(());
    }
    if outcome.is_err() {
        report.note("removing what was made");
    }
    let removed = tour::remove(&service, id, report).await;
    service.trove.shut_down().await;
    if let Err(error) = removed.and_then(|()| home.remove()) {
        if let Err(Failure::Error(first)) = outcome {
            report.note(&format!("failed: {}", first.report()));
        }
        report.note(&format!("something may be left; try again with --delete {id}"));
        return Err(error.into());
    }
    outcome?;
    report.done();
    Ok(())
}

/// Ends at the first Ctrl-C or termination. Those that follow are ignored: removing what was made is under way.
fn interruption() -> Result<impl Future<Output = ()>> {
    let failed = |error| Error::internal("signals cannot be caught").because(error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
