//! An agent in a separate process.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    process,
    sync::Arc,
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    AgentConfig, AgentSettings,
    agent::{Agent, AgentContext},
    agent_state::AgentStateStore,
    identity::GuestIdentities,
    request_handler::GuestRequestHandler,
};
use crate::{
    datastore::Driver,
    error::{Error, Kind, Result},
    rpc::{BrokerEndpoint, DropCounters, KeyRing, Notifier, RpcServer, next_delay, reconnect_delays},
};

/// How long another agent may consume the queue before this one gives up. A broker detects a dead
/// connection with a delay.
const CONFLICT_TIMEOUT: Duration = Duration::from_secs(60);
/// The file of the agent's state, in the directory of its host.
const STATE_FILE: &str = "agent.state";
/// The lock file, in the same directory.
const LOCK_FILE: &str = "agent.lock";

/// Runs the guest agent of one instance until `stop` is cancelled. The database server outlives the
/// agent.
///
/// The agent keeps its server running also while the control plane is unreachable, and persists its
/// state in the directory of its host. While it runs, it holds a lock on the file `agent.lock`
/// there, which contains its process id.
///
/// # Errors
///
/// [`NotFound`](Kind::NotFound) if the queue of the guest is gone, [`Conflict`](Kind::Conflict) if
/// another agent manages the same server or consumes the queue, [`Invalid`](Kind::Invalid) if the
/// driver is for another datastore or the settings are contradictory, and the errors of [`Driver::attach`].
pub async fn serve(
    config: AgentConfig,
    driver: Arc<dyn Driver>,
    settings: AgentSettings,
    stop: CancellationToken,
) -> Result<()> {
    settings.check()?;
    let AgentConfig { instance, datastore, identity, endpoint, should_run, epoch, mut host } = config;
    let offered = &driver.manifest().name;
    if *offered != datastore {
        return Err(Error::invalid(format!("instance {instance} is of datastore {datastore:?}, not {offered:?}")));
    }
    let directory = host.directory.clone();
    let lock = tokio::task::spawn_blocking(move || lock(&directory)).await;
    let _lock =
        lock.unwrap_or_else(|error| Err(Error::internal("locking the agent directory panicked").with_source(error)))?;
    let file = host.directory.join(STATE_FILE);
    let identities = GuestIdentities::new(identity);
    let state = tokio::task::spawn_blocking(move || AgentStateStore::load(file, should_run, epoch, identities)).await;
    let state =
        state.unwrap_or_else(|error| Err(Error::internal("loading the agent state panicked").with_source(error)))?;
    // The configuration file describes the host as it was when the instance was created.
    let applied = state.state().applied.clone();
    host.flavor = applied.flavor.unwrap_or(host.flavor);
    if let Some((version, image)) = applied.release {
        (host.version, host.image) = (version, image);
    }
    let notifier = Notifier::new();
    let stop = stop.child_token();
    // The agent must not outlive the lock if this future is dropped.
    let _stop_on_drop = stop.clone().drop_guard();
    let identities = state.state().identities.clone();
    if let BrokerEndpoint::Amqp(broker) = &endpoint {
        broker.warn_without_tls();
    }
    let (keys, transport) = (KeyRing::default(), endpoint.connect(identities.logins()));
    identities.apply(&keys, &*transport);
    let context = AgentContext {
        settings,
        notifier: notifier.clone(),
        keys: keys.clone(),
        transport: transport.clone(),
        stop: stop.clone(),
    };
    let agent = Agent::spawn(instance, driver.attach(host)?, state, context);
    let (handler, drops) = (Arc::new(GuestRequestHandler(agent.clone())), DropCounters::new());
    let (mut delays, mut conflict_since): (_, Option<Instant>) = (reconnect_delays(), None);
    let result = loop {
        let started = Instant::now();
        let server =
            RpcServer::new(transport.clone(), instance, keys.clone(), handler.clone(), notifier.clone(), drops.clone());
        let error = match server {
            Ok(server) => match server.run(stop.clone()).await {
                Ok(()) => break Ok(()),
                Err(error) => error,
            },
            Err(error) => break Err(error),
        };
        if started.elapsed() > CONFLICT_TIMEOUT {
            // The control plane was reachable in between.
            (delays, conflict_since) = (reconnect_delays(), None);
        }
        match error.kind() {
            Kind::NotFound => break Err(error),
            Kind::Conflict if conflict_since.get_or_insert_with(Instant::now).elapsed() > CONFLICT_TIMEOUT => {
                break Err(error);
            }
            Kind::Conflict => {}
            _ => conflict_since = None,
        }
        tracing::warn!(%instance, error = error.report(), "lost the connection to the control plane");
        if stop.run_until_cancelled(sleep(next_delay(&mut delays))).await.is_none() {
            break Ok(());
        }
    };
    agent.shut_down().await;
    result
}

/// Acquires the lock of an agent directory, which is held while the file is open.
fn lock(directory: &Path) -> Result<File> {
    let failed = |error: io::Error| {
        Error::unavailable(format!("could not lock the agent directory {}", directory.display())).with_source(error)
    };
    let path = directory.join(LOCK_FILE);
    let open = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let mut file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::conflict(format!("another agent runs in directory {}", directory.display())));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    // The directory may have been removed and re-created between open and lock.
    let (locked, found) = (file.metadata().map_err(failed)?, fs::metadata(path).map_err(failed)?);
    if (locked.dev(), locked.ino()) != (found.dev(), found.ino()) {
        return Err(Error::not_found(format!("the agent directory {} was removed", directory.display())));
    }
    file.set_len(0).and_then(|()| write!(file, "{}", process::id())).map_err(failed)?;
    Ok(file)
}
