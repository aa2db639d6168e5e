//! The containers of one instance: made and found under their names, and run to their end where they are thrown away.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use trove_core::{
    datastore::{Cx, GuestHost},
    error::{Error, Kind, Result},
};

use super::spec;
use crate::docker::{Container, ContainerSpec, Docker, Started};

/// How much of what a container wrote is read.
const OUTPUT_BYTES: usize = 1 << 20;

/// How long a name may stay taken by what is being removed, and how often it is tried.
const NAME_LIMIT: Duration = Duration::from_secs(10);
const NAME_POLL: Duration = Duration::from_millis(20);

/// How long a removal waits for requests that are under way, and how long it goes on.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);

/// The containers of one instance. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Containers {
    docker: Docker,
    /// Whose they are; what may change of it does not matter here.
    host: Arc<GuestHost>,
    /// Shared by requests that make or start a container, which outlive a dropped call; a removal waits for them.
    requests: Arc<RwLock<()>>,
}

/// What came of a container that was run to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommandOutput {
    Ended {
        code: i64,
        output: String,
    },
    /// Its image has no such program.
    NoProgram,
}

impl Containers {
    pub(crate) fn new(docker: Docker, host: Arc<GuestHost>) -> Self {
        Self { docker, host, requests: Arc::default() }
    }

    /// The container of this name, if it is the instance's.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<Container>> {
        let found = self.docker.look(name).await?;
        Ok(found.filter(|found| spec::is_ours(&self.host, &found.labels)))
    }

    /// Makes a container, in the place of one that a former attempt asked for and that came to be only now. There may be
    /// more of those, and the daemon takes its time to remove one.
    pub(crate) async fn create(&self, cx: &Cx, spec: &ContainerSpec) -> Result<String> {
        let begun = Instant::now();
        loop {
            cx.check()?;
            match self.docker.create(spec, self.request().await).await {
                Err(error) if error.kind() == Kind::Conflict && begun.elapsed() < NAME_LIMIT => {
                    self.make_way(&spec.name).await?;
                    sleep(NAME_POLL).await;
                }
                created => return created,
            }
        }
    }

    pub(crate) async fn start(&self, container: &str) -> Result<Started> {
        self.docker.start(container, self.request().await).await
    }

    /// Removes a container of this name, if it is the instance's.
    pub(crate) async fn make_way(&self, name: &str) -> Result<()> {
        match self.docker.look(name).await? {
            None => Ok(()),
            Some(found) if spec::is_ours(&self.host, &found.labels) => self.docker.remove(&found.id).await,
            Some(_) => Err(Error::conflict(format!("a container {name} exists that is not this service's"))),
        }
    }

    /// Removes a container that will not be started. The error that led here counts for more than one of this.
    pub(crate) async fn give_up(&self, container: &str) {
        if let Err(error) = self.docker.remove(container).await {
            tracing::warn!(instance = %self.host.instance, error = error.report(), "a container was left behind");
        }
    }

    /// Runs a container to its end and removes it, also where the caller goes away. One that takes longer than the
    /// limit is a [`Timeout`](Kind::Timeout).
    pub(crate) async fn run(&self, cx: &Cx, spec: ContainerSpec, limit: Duration) -> Result<CommandOutput> {
        self.run_after(cx, spec, limit, async || Ok(())).await
    }

    /// The same after something is done, at a time when no other container of this name can be at work.
    pub(crate) async fn run_after<F>(
        &self,
        cx: &Cx,
        spec: ContainerSpec,
        limit: Duration,
        before: impl FnOnce() -> F + Send + 'static,
    ) -> Result<CommandOutput>
    where
        F: Future<Output = Result<()>> + Send,
    {
        let this = self.clone();
        carried(cx, move |cx| async move {
            // One of an attempt that was killed may still be at work.
            this.make_way(&spec.name).await?;
            let id = this.create(&cx, &spec).await?;
            let ran = match before().await {
                Ok(()) => this.run_made(&cx, &id, limit).await,
                Err(error) => Err(error),
            };
            let removed = this.docker.remove(&id).await;
            let ran = ran?;
            removed.map(|()| ran)
        })
        .await
    }

    /// Waits for requests that are under way and removes all containers of the instance. No other is made while what
    /// is returned is held.
    pub(crate) async fn remove_all(&self) -> Result<OwnedRwLockWriteGuard<()>> {
        let settled = self.settled().await?;
        timeout(REMOVE_LIMIT, self.remove_labelled())
            .await
            .map_err(|_| Error::timeout("the containers were not removed in time"))??;
        Ok(settled)
    }

    /// Removes all containers beside the server of this name, which are named after it.
    pub(crate) async fn remove_beside(&self, name: &str) -> Result<()> {
        let labels = spec::owner_labels(&self.host);
        let found = self.docker.named(&labels.each_ref().map(|(key, value)| (*key, value.as_str()))).await?;
        let beside = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        for (container, _) in found.into_iter().filter(|(_, other)| beside(other)) {
            self.docker.remove(&container).await?;
        }
        Ok(())
    }

    /// Waits for requests that are under way and removes the containers of these names.
    pub(crate) async fn remove_named(&self, names: &[String]) -> Result<()> {
        let _settled = self.settled().await?;
        for name in names {
            self.make_way(name).await?;
        }
        Ok(())
    }

    async fn run_made(&self, cx: &Cx, id: &str, limit: Duration) -> Result<CommandOutput> {
        cx.check()?;
        if self.start(id).await? == Started::NoProgram {
            return Ok(CommandOutput::NoProgram);
        }
        let code = tokio::select! {
            code = self.docker.ended(id) => code?,
            () = cx.cancelled() => return Err(Error::cancelled("running a program of the image was cancelled")),
            () = sleep(limit) => return Err(Error::timeout("a program of the image took too long")),
        };
        Ok(CommandOutput::Ended { code, output: self.docker.output(id, OUTPUT_BYTES).await? })
    }

    async fn remove_labelled(&self) -> Result<()> {
        let labels = spec::owner_labels(&self.host);
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        loop {
            let found = self.docker.labelled(&labels).await?;
            if found.is_empty() {
                return Ok(());
            }
            for container in found {
                self.docker.remove(&container).await?;
            }
        }
    }

    async fn settled(&self) -> Result<OwnedRwLockWriteGuard<()>> {
        let settled = timeout(REMOVE_LIMIT, Arc::clone(&self.requests).write_owned()).await;
        settled.map_err(|_| Error::busy("a request to the Docker daemon is still under way"))
    }

    async fn request(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.requests).read_owned().await
    }
}

/// Runs work that clears up behind itself. Where its caller goes away it is cancelled, and comes to its end all the same.
pub(crate) async fn carried<T, F>(cx: &Cx, work: impl FnOnce(Cx) -> F) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let cancel = CancellationToken::new();
    let _left = cancel.clone().drop_guard();
    let mut task = tokio::spawn(work(cx.clone().with_cancel(cancel.clone())));
    let done = tokio::select! {
        done = &mut task => done,
        () = cx.cancelled() => {
            cancel.cancel();
            task.await
        }
    };
    done.unwrap_or_else(|error| Err(Error::internal("a task ended early").because(error)))
}
