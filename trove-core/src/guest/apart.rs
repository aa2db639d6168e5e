//! An agent that has a process of its own.

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
    Configuration, Settings,
    agent::{Agent, Surroundings},
    desk::Desk,
    identity::GuestIdentities,
    notes::Notes,
};
use crate::{
    datastore::Driver,
    error::{Error, Kind, Result},
    rpc::{DropCounters, KeyRing, Notifier, RpcServer},
};

/// How long to wait before the control plane is tried again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// How long another agent may be in this one's place before this one gives up. A broker takes a while to notice that a
/// connection is gone.
const TAKEN_LIMIT: Duration = Duration::from_secs(60);
/// What the agent writes down, in its directory.
const NOTES: &str = "agent.notes";
/// What it holds the lock of, beside them.
const LOCK: &str = "agent.lock";

/// Is the guest agent of one instance until told to stop, with or without its control plane: what it keeps running runs on.
/// What it is doing, it knows again after a restart. While it runs it holds the lock of the file `agent.lock` in the host's
/// directory, which tells its process id.
///
/// # Errors
///
/// [`NotFound`](Kind::NotFound) where its mailbox is gone, [`Conflict`](Kind::Conflict) where another agent is beside the
/// same server or has taken its place at the broker, [`Invalid`](Kind::Invalid) where the driver is for another datastore,
/// and what the driver says of the host.
pub async fn serve(
    configuration: Configuration,
    driver: Arc<dyn Driver>,
    settings: Settings,
    stop: CancellationToken,
) -> Result<()> {
    let Configuration { instance, datastore, identity, endpoint, serves, epoch, mut host } = configuration;
    if driver.manifest().name != datastore {
        let own = &driver.manifest().name;
        return Err(Error::invalid(format!("the instance is of datastore {datastore:?}, and the driver of {own:?}")));
    }
    let directory = host.directory.clone();
    let alone = tokio::task::spawn_blocking(move || alone(&directory)).await;
    let _alone = alone.unwrap_or_else(|error| Err(Error::internal("the lock could not be taken").because(error)))?;
    let file = host.directory.join(NOTES);
    let identities = GuestIdentities::new(identity);
    let notes = tokio::task::spawn_blocking(move || Notes::kept_in(file, serves, epoch, identities)).await;
    let notes = notes.unwrap_or_else(|error| Err(Error::internal("the notes could not be read").because(error)))?;
    // Its file says what it was at first.
    let became = notes.known().became.clone();
    host.flavor = became.flavor.unwrap_or(host.flavor);
    if let Some((version, image)) = became.release {
        (host.version, host.image) = (version, image);
    }
    let notifier = Notifier::new();
    let ending = stop.child_token();
    let identities = notes.known().identities.clone();
    let (keys, transport) = (KeyRing::default(), endpoint.connect(identities.logins()));
    identities.apply(&keys, &*transport);
    let surroundings = Surroundings {
        settings,
        notifier: notifier.clone(),
        keys: keys.clone(),
        transport: transport.clone(),
        stop: ending.clone(),
    };
    let agent = Agent::spawn(instance, driver.attach(host)?, notes, surroundings);
    let (desk, drops) = (Arc::new(Desk(agent.clone())), DropCounters::new());
    let (mut pause, mut taken): (_, Option<Instant>) = (PAUSES.0, None);
    let ended = loop {
        let (transport, keys, desk) = (transport.clone(), keys.clone(), desk.clone());
        let since = Instant::now();
        let service = RpcServer::new(transport, instance, keys, desk, notifier.clone(), drops.clone());
        let error = match service {
            Ok(service) => match service.run(ending.clone()).await {
                Ok(()) => break Ok(()),
                Err(error) => error,
            },
            Err(error) => break Err(error),
        };
        if since.elapsed() > TAKEN_LIMIT {
            // It was reached in between.
            (pause, taken) = (PAUSES.0, None);
        }
        match error.kind() {
            Kind::NotFound => break Err(error),
            Kind::Conflict if taken.get_or_insert_with(Instant::now).elapsed() > TAKEN_LIMIT => break Err(error),
            Kind::Conflict => {}
            _ => taken = None,
        }
        tracing::warn!(%instance, error = error.report(), "the control plane is not reached");
        if ending.run_until_cancelled(sleep(pause)).await.is_none() {
            break Ok(());
        }
        pause = (pause * 2).min(PAUSES.1);
    };
    agent.shut_down().await;
    ended
}

/// Makes sure that no other agent is beside this server, for as long as the file is open.
fn alone(directory: &Path) -> Result<File> {
    let failed = |error: io::Error| {
        Error::unavailable(format!("cannot lock the directory of the agent, {}", directory.display())).because(error)
    };
    let lock = directory.join(LOCK);
    let open = File::options().create(true).truncate(false).write(true).mode(0o600).open(&lock);
    let mut file = open.map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let text = format!("another agent is in directory {}", directory.display());
            return Err(Error::conflict(text));
        }
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let (held, found) = (file.metadata().map_err(failed)?, fs::metadata(lock).map_err(failed)?);
    if (held.dev(), held.ino()) != (found.dev(), found.ino()) {
        return Err(Error::not_found(format!("the directory of the agent was removed, {}", directory.display())));
    }
    file.set_len(0).and_then(|()| write!(file, "{}", process::id())).map_err(failed)?;
    Ok(file)
}
