//! The guest agent of one database instance: keeps its server running and does what the control plane asks over the
//! message broker. It ends on SIGTERM or Ctrl-C; its server runs on.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use trove_core::{
    datastore::Driver,
    error::{Error, Result},
    guest::{self, Configuration},
};
use trove_drivers::{MariaDb, MySql, PostgreSql};
use trove_valkey::Valkey;

/// Is the guest agent of one database instance.
#[derive(Debug, Parser)]
#[command(name = "trove-guestagent")]
struct Options {
    /// The file that says which instance, where it is, and how the control plane is reached.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

// One thread is enough for one instance, and costs the least memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,lapin=error")))
        .with_writer(std::io::stderr)
        // Where nobody reads what it says any more, it goes on.
        .log_internal_errors(false)
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.report(), "the agent ends");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let stop = told_to_stop()?;
    let configuration = Configuration::read(options.config)?;
    let driver = driver(&configuration.datastore)?;
    guest::serve(configuration, driver, guest::Settings::default(), stop).await
}

fn driver(datastore: &str) -> Result<Arc<dyn Driver>> {
    match datastore {
        "postgresql" => Ok(Arc::new(PostgreSql::new())),
        "mysql" => Ok(Arc::new(MySql::new())),
        "mariadb" => Ok(Arc::new(MariaDb::new())),
        "valkey" => Ok(Arc::new(Valkey::new())),
        other => Err(Error::invalid(format!("this agent has no driver for the datastore {other:?}"))),
    }
}

fn told_to_stop() -> Result<CancellationToken> {
    let failed = |error| Error::internal("signals cannot be caught").because(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
    });
    Ok(stop)
}
