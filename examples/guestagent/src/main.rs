//! The guest agent of one database instance: keeps the server running and executes the requests
//! that the control plane sends over the message broker. Exits on SIGTERM and SIGINT; the server
//! keeps running.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use trove_core::{
    datastore::Driver,
    error::{Error, Result},
    guest::{self, AgentConfig, AgentSettings},
};
use trove_drivers::{MariaDb, MySql, PostgreSql};
use trove_valkey::Valkey;

/// Runs the guest agent of one database instance.
///
/// Exits on SIGTERM and SIGINT; the database server keeps running.
#[derive(Debug, Parser)]
#[command(name = "trove-guestagent")]
struct Options {
    /// The configuration file, which names the instance, its host and the message broker
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

// One thread suffices for one instance and needs the least memory.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,lapin=error")))
        .with_writer(std::io::stderr)
        // The agent must survive a closed standard error.
        .log_internal_errors(false)
        .init();
    match run(Options::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = error.report(), "agent failed");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> Result<()> {
    let stop = stop_on_signal()?;
    let config = AgentConfig::read(options.config)?;
    let driver = driver(&config.datastore)?;
    guest::serve(config, driver, AgentSettings::default(), stop).await
}

fn driver(datastore: &str) -> Result<Arc<dyn Driver>> {
    match datastore {
        "postgresql" => Ok(Arc::new(PostgreSql::new())),
        "mysql" => Ok(Arc::new(MySql::new())),
        "mariadb" => Ok(Arc::new(MariaDb::new())),
        "valkey" => Ok(Arc::new(Valkey::new())),
        other => Err(Error::invalid(format!("this agent has no driver for datastore {other:?}"))),
    }
}

fn stop_on_signal() -> Result<CancellationToken> {
    let failed = |error| Error::internal("could not install a signal handler").with_source(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let stop = CancellationToken::new();
    let signaled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        signaled.cancel();
    });
    Ok(stop)
}
