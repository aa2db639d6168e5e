//! The containers of one instance: created and found by name, and run to completion if they are
//! temporary.

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
use crate::docker::{ContainerInfo, ContainerSpec, Docker, StartOutcome};

/// The maximum output that is read from a container.
const OUTPUT_BYTES: usize = 1 << 20;

/// How long a name may stay taken by a container that is being removed, and the retry interval.
const NAME_LIMIT: Duration = Duration::from_secs(10);
const NAME_POLL: Duration = Duration::from_millis(20);

/// How long a removal waits for requests in flight, and how long it may take itself.
const REMOVE_LIMIT: Duration = Duration::from_secs(60);

/// The containers of one instance. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Containers {
    docker: Docker,
    /// Identifies the instance. Properties that change later do not matter here.
    host: Arc<GuestHost>,
    /// Held shared by requests that create or start a container and outlive a dropped call. A
    /// removal waits for them.
    requests: Arc<RwLock<()>>,
}

/// The result of a container that ran to completion.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CommandOutput {
    Ended {
        code: i64,
        output: String,
    },
    /// The image does not contain the program.
    NoProgram,
}

impl Containers {
    pub(crate) fn new(docker: Docker, host: Arc<GuestHost>) -> Self {
        Self { docker, host, requests: Arc::default() }
    }

    /// Returns the container of this name if it belongs to the instance.
    pub(crate) async fn look(&self, name: &str) -> Result<Option<ContainerInfo>> {
        let found = self.docker.look(name).await?;
        Ok(found.filter(|found| spec::is_ours(&self.host, &found.labels)))
    }

    /// Creates a container, replacing any that an earlier attempt requested and that only appeared
    /// now. There may be several of those, and the daemon takes time to remove each.
    pub(crate) async fn create(&self, cx: &Cx, spec: &ContainerSpec) -> Result<String> {
        let begun = Instant::now();
        loop {
            cx.check()?;
            match self.docker.create(spec, self.request().await).await {
                Err(error) if error.kind() == Kind::Conflict && begun.elapsed() < NAME_LIMIT => {
                    self.remove_existing(&spec.name).await?;
                    sleep(NAME_POLL).await;
                }
                created => return created,
            }
        }
    }

    pub(crate) async fn start(&self, container: &str) -> Result<StartOutcome> {
        self.docker.start(container, self.request().await).await
    }

    /// Removes the container of this name if it belongs to the instance.
    pub(crate) async fn remove_existing(&self, name: &str) -> Result<()> {
        match self.docker.look(name).await? {
            None => Ok(()),
            Some(found) if spec::is_ours(&self.host, &found.labels) => self.docker.remove(&found.id).await,
            Some(_) => Err(Error::conflict(format!("container {name} exists and does not belong to this service"))),
        }
    }

    /// Removes a container that will not be started. Failures are only logged, because an earlier
    /// error is returned.
    pub(crate) async fn discard(&self, container: &str) {
        if let Err(error) = self.docker.remove(container).await {
            tracing::warn!(instance = %self.host.instance, error = error.report(), "failed to remove a container");
        }
    }

    /// Runs a container to completion and removes it, even if the caller is dropped. Returns a
    /// [`Timeout`](Kind::Timeout) error if it exceeds the limit.
    pub(crate) async fn run(&self, cx: &Cx, spec: ContainerSpec, limit: Duration) -> Result<CommandOutput> {
        self.run_after(cx, spec, limit, async || Ok(())).await
    }

    /// Does the same, and runs `before` first, when no other container of this name can be running.
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
        run_to_completion(cx, move |cx| async move {
            // A container of a killed attempt may still be running.
            this.remove_existing(&spec.name).await?;
            let id = this.create(&cx, &spec).await?;
            let ran = match before().await {
                Ok(()) => this.run_created(&cx, &id, limit).await,
                Err(error) => Err(error),
            };
            let removed = this.docker.remove(&id).await;
            let ran = ran?;
            removed.map(|()| ran)
        })
        .await
    }

    /// Waits for requests in flight and removes all containers of the instance. No container is
    /// created while the returned guard is held.
    pub(crate) async fn remove_all(&self) -> Result<OwnedRwLockWriteGuard<()>> {
        let settled = self.settled().await?;
        timeout(REMOVE_LIMIT, self.remove_labelled())
            .await
            .map_err(|_| Error::timeout("the containers were not removed in time"))??;
        Ok(settled)
    }

    /// Removes all containers whose names extend the name of this server.
    pub(crate) async fn remove_beside(&self, name: &str) -> Result<()> {
        let labels = spec::owner_labels(&self.host);
        let found = self.docker.named(&labels.each_ref().map(|(key, value)| (*key, value.as_str()))).await?;
        let beside = |other: &str| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'));
        for (container, _) in found.into_iter().filter(|(_, other)| beside(other)) {
            self.docker.remove(&container).await?;
        }
        Ok(())
    }

    /// Waits for requests in flight and removes the containers of these names.
    pub(crate) async fn remove_named(&self, names: &[String]) -> Result<()> {
        let _settled = self.settled().await?;
        for name in names {
            self.remove_existing(name).await?;
        }
        Ok(())
    }

    async fn run_created(&self, cx: &Cx, id: &str, limit: Duration) -> Result<CommandOutput> {
        cx.check()?;
        if self.start(id).await? == StartOutcome::NoProgram {
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
        settled.map_err(|_| Error::busy("a request to the Docker daemon is still in flight"))
    }

    async fn request(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.requests).read_owned().await
    }
}

/// Runs work that cleans up after itself. If the caller is dropped, the work is cancelled but still
/// completes.
pub(crate) async fn run_to_completion<T, F>(cx: &Cx, work: impl FnOnce(Cx) -> F) -> Result<T>
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
    done.unwrap_or_else(|error| Err(Error::internal("a task ended early").with_source(error)))
}
