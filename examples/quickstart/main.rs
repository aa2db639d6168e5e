//! A database instance from creation to deletion, with every step told: a tour of the service, and a check that it works
//! on this machine.

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

/// How long removing an instance may take before it is given up.
const REMOVAL_LIMIT: Duration = Duration::from_secs(120);

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

async fn run(options: &Options, id: InstanceId, report: &Report) -> Result<(), Failure> {
    service::check(options)?;
    let mut signals = Signals::catch()?;
    let home = Home::new(&options.data, id);
    if options.delete.is_some() {
        home.check()?;
        let service = signals.or(service::start(options, &home)).await?;
        return finish(&service, &home, &mut signals, report).await;
    }
    let service = match signals.or(service::start(options, &home)).await {
        Ok(service) => service,
        Err(failure) => {
            // Nothing was made yet but the directory itself.
            home.remove()?;
            return Err(failure);
        }
    };
    let outcome = tokio::select! {
        outcome = signals.or(tour::take(options, &service, id, report)) => outcome,
        () = report.unread() => Err(Failure::Interrupted),
    };
    if options.keep && outcome.is_ok() {
        service.trove.shut_down().await;
        report.kept(&home, &options.datastore);
        return Ok(());
    }
    if outcome.is_err() {
        report.note("removing what was made; again to leave it");
    }
    let finished = finish(&service, &home, &mut signals, report).await;
    match (outcome, finished) {
        (Err(Failure::Error(first)), Err(second)) => {
            report.note(&format!("first failed: {}", first.report()));
            Err(second)
        }
        (outcome, finished) => finished.and(outcome),
    }
}

/// Removes the instance with all that is left of it.
async fn finish(service: &Service, home: &Home, signals: &mut Signals, report: &Report) -> Result<(), Failure> {
    let removal = async {
        let late = |_| Err(Error::timeout("the instance was not removed in time"));
        tokio::time::timeout(REMOVAL_LIMIT, tour::remove(service, home.id, report)).await.unwrap_or_else(late)?;
        service.trove.shut_down().await;
        home.remove()
    };
    let removed = signals.or(removal).await;
    if removed.is_err() {
        report.note(&format!("something may be left; cargo xtask quickstart --delete {} removes it", home.id));
    }
    removed
}

/// Ctrl-C and termination, each of which breaks off what is being done.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn catch() -> Result<Self> {
        let failed = |error| Error::internal("signals cannot be caught").because(error);
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminate = signal(SignalKind::terminate()).map_err(failed)?;
        Ok(Self { interrupt, terminate })
    }

    /// Does the work unless a signal comes.
    async fn or<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T, Failure> {
        tokio::select! {
            done = work => done.map_err(Failure::from),
            _ = self.interrupt.recv() => Err(Failure::Interrupted),
            _ = self.terminate.recv() => Err(Failure::Interrupted),
        }
    }
}
