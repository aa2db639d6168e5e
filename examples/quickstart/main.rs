//! A tour of the service: creates, uses, changes and deletes a database instance and reports each
//! step. It also tests that the service works on this machine.

mod client;
mod configure;
mod home;
mod report;
mod service;
mod tour;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use trove_core::{
    error::{Error, Result},
    id::InstanceId,
};

use home::Home;
use report::Report;
use service::Service;

/// Creates a database instance, uses it, changes it and deletes it.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
struct Options {
    /// The datastore to run.
    #[arg(long, default_value = "postgresql")]
    datastore: String,
    /// The version; by default that of the datastore.
    #[arg(long)]
    version: Option<String>,
    /// The image to run.
    #[arg(long)]
    image: Option<String>,
    /// Keep the instance running at the end, and print how to connect and how to delete it.
    #[arg(long)]
    keep: bool,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Delete a kept instance, and do nothing else.
    #[arg(long, value_name = "ID")]
    delete: Option<InstanceId>,
    /// The directory for the data of instances.
    #[arg(long, value_name = "DIRECTORY", default_value = ".trove-quickstart")]
    data: PathBuf,
}

/// The deadline for the deletion of an instance.
const DELETE_DEADLINE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error")))
        .with_writer(std::io::stderr)
        .init();
    let options = Options::parse();
    let id = options.delete.unwrap_or_else(InstanceId::new_v4);
    let report = Report::new(options.json, id);
    match run(&options, id, &report).await {
        Ok(()) => {
            report.done();
            ExitCode::SUCCESS
        }
        Err(Failure::Interrupted) => {
            report.failed("interrupted");
            ExitCode::from(130)
        }
        Err(Failure::Error(error)) => {
            report.failed(&error.report());
            ExitCode::FAILURE
        }
    }
}

/// Why the program failed.
enum Failure {
    Error(Error),
    Interrupted,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn run(options: &Options, id: InstanceId, report: &Report) -> Result<(), Failure> {
    service::check(options)?;
    let mut signals = Signals::install()?;
    let home = Home::new(&options.data, id);
    if options.delete.is_some() {
        home.check()?;
        let service = signals.or(service::start(options, &home)).await?;
        return clean_up(&service, &home, &mut signals, report).await;
    }
    let service = match signals.or(service::start(options, &home)).await {
        Ok(service) => service,
        Err(failure) => {
            // The directory is all that was created.
            home.remove()?;
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        outcome = signals.or(tour::take(options, &service, id, report)) => outcome,
        () = report.output_closed() => Err(Failure::Interrupted),
    };
    if options.keep && outcome.is_ok() {
        service.trove.shut_down().await;
        report.kept(&home, &options.datastore);
        return Ok(());
    }
    if outcome.is_err() {
        report.note("cleaning up; interrupt again to skip");
    }
    let finished = clean_up(&service, &home, &mut signals, report).await;
    match (outcome, finished) {
        (Err(Failure::Error(first)), Err(second)) => {
            report.note(&format!("the first error was: {}", first.report()));
            Err(second)
        }
        (outcome, finished) => finished.and(outcome),
    }
}

/// Deletes the instance, shuts the service down and removes the directory.
async fn clean_up(service: &Service, home: &Home, signals: &mut Signals, report: &Report) -> Result<(), Failure> {
    let removal = async {
        let late = |_| Err(Error::timeout("timed out deleting the instance"));
        tokio::time::timeout(DELETE_DEADLINE, tour::delete(service, home.id, report)).await.unwrap_or_else(late)?;
        service.trove.shut_down().await;
        home.remove()
    };
    let removed = signals.or(removal).await;
    if removed.is_err() {
        report.note(&format!(
            "resources may be left behind; remove them with: cargo xtask quickstart --delete {}",
            home.id
        ));
    }
    removed
}

/// The signals SIGINT and SIGTERM, which interrupt the program.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn install() -> Result<Self> {
        let failed = |error| Error::internal("could not install signal handlers").with_source(error);
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { interrupt, terminate })
    }

    /// Runs the work until it ends or a signal arrives.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T, Failure> {
        tokio::select! {
            done = work => done.map_err(Failure::from),
            _ = self.interrupt.recv() => Err(Failure::Interrupted),
            _ = self.terminate.recv() => Err(Failure::Interrupted),
        }
    }
}
