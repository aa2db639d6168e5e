//! Creates a data directory: from a template if there is one, otherwise with the engine's own
//! command.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trove_core::{
    datastore::{Cx, GuestHost},
    error::{Error, Kind, Result},
    model::Settings,
};

use super::{
    ContainerDatastore,
    start::{FailedStart, StartError},
};
use crate::{
    container::{
        Engine, Template,
        containers::CommandOutput,
        host_paths::HostPaths,
        monitors::blocking,
        spec,
        templates::{TemplateKey, Templates},
    },
    docker::printable_tail,
};

/// How long the initialization of a data directory may take.
const INIT_LIMIT: Duration = Duration::from_secs(300);

/// How often progress is reported during a copy, even if there is nothing new.
const BEAT: Duration = Duration::from_secs(5);

/// The exit code of a shell that does not find a program.
const NO_PROGRAM: i64 = 127;

/// The template that a new data directory may be copied from, or may become.
#[derive(Clone)]
struct TemplateSource {
    templates: Templates,
    key: TemplateKey,
    template: Template,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Creates a data directory and starts the first server on it, from the image of this id.
    pub(super) async fn start_new(&self, cx: &Cx, image: &str) -> Result<()> {
        let mut record = self.record().await?;
        self.lay_out(cx, record.wanted()).await?;
        // Creating a container takes the daemon about as long as the initialization, so both run at
        // once.
        let (created, initialized) = tokio::join!(self.create_server(cx), self.initialize(cx, image, record.wanted()));
        if let (Err(_), Ok(id)) = (&initialized, &created) {
            self.containers.discard(id).await;
        }
        initialized?;
        self.launch(cx, &created?).await.map_err(|failure| match failure {
            StartError::Server(failed) => self.settings_error(failed, record.wanted()),
            StartError::Other(error) => error,
        })?;
        record.answered();
        self.keep(&record).await
    }

    /// Fills the staging directory and makes it the data directory.
    async fn initialize(&self, cx: &Cx, image: &str, settings: &Settings) -> Result<()> {
        let host = self.host();
        // A container of a killed attempt may still be writing there.
        self.containers.remove_existing(&spec::init_name(&host)).await?;
        self.on_disk(HostPaths::sweep).await?;
        cx.check()?;
        match self.engine.init_command(&host, &self.specs.inside(&self.paths.staging_name())) {
            None => self.on_disk(HostPaths::stage_empty).await?,
            Some(command) => {
                // The command may read the settings, so its result must not be shared with other
                // instances.
                let pattern = if settings.is_empty() { self.pattern(&host, image) } else { None };
                if !self.stage_template(cx, pattern.as_ref()).await? {
                    self.stage_new(cx, command, settings).await?;
                    if let Some(pattern) = pattern {
                        self.keep_template(pattern).await;
                    }
                }
            }
        }
        self.on_disk(HostPaths::commit).await
    }

    /// Returns the error of a first start, which has no earlier settings to fall back to.
    fn settings_error(&self, failed: FailedStart, settings: &Settings) -> Error {
        match self.startup_error(&failed) {
            Some(line) if !settings.is_empty() => {
                Error::invalid(format!("the server does not start with these settings: {line}"))
                    .with_source(Error::from(failed))
            }
            _ => failed.into(),
        }
    }

    fn pattern(&self, host: &GuestHost, image: &str) -> Option<TemplateSource> {
        let (shared, template) = (host.shared.as_ref()?, self.engine.template()?);
        let key = TemplateKey {
            engine: self.specs.datastore().to_owned(),
            version: host.version.clone(),
            image: image.to_owned(),
            options: template.options.clone(),
        };
        Some(TemplateSource { templates: Templates::new(shared), key, template })
    }

    /// Fills the staging directory from a template. Returns false if there is no usable one.
    async fn stage_template(&self, cx: &Cx, pattern: Option<&TemplateSource>) -> Result<bool> {
        let Some(TemplateSource { templates, key, .. }) = pattern.cloned() else { return Ok(false) };
        let (known, wanted) = (templates.clone(), key.clone());
        if !blocking(move || Ok(known.has(&wanted))).await? {
            return Ok(false);
        }
        let (staging, server) = (self.paths.staging(), self.host().server);
        let taken = self.copying(cx, "copy template", move |progress| templates.take(&key, &staging, server, progress));
        match taken.await {
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == Kind::Cancelled => Err(error),
            Err(error) => {
                tracing::warn!(server = self.name, error = error.report(), "failed to use the template");
                self.on_disk(HostPaths::sweep).await.map(|()| false)
            }
        }
    }

    /// Fills the staging directory with the engine's command.
    async fn stage_new(&self, cx: &Cx, command: Vec<String>, settings: &Settings) -> Result<()> {
        let (host, cpus) = (self.host(), self.docker.host().await?.cpus);
        let spec = self.specs.init(&host, cpus, command);
        let paths = self.paths.clone();
        let sweep = move || blocking(move || paths.sweep());
        let ran = self.containers.run_after(cx, spec, INIT_LIMIT, sweep);
        match cx.waiting("initialize data directory", ran).await? {
            CommandOutput::Ended { code: 0, .. } => {}
            CommandOutput::NoProgram => return Err(self.wrong_image(cx, &host).await),
            CommandOutput::Ended { code: NO_PROGRAM, .. } => return Err(self.wrong_image(cx, &host).await),
            CommandOutput::Ended { code, output } => {
                let output = printable_tail(&output);
                let failed = if self.is_full().await {
                    Error::no_space("the volume has too little space for a new data directory")
                } else if self.engine.version_command().is_some()
                    && let Err(error) = self.image_version(cx, &host).await
                    && error.kind() == Kind::Conflict
                {
                    // Programs of another engine may have the same name.
                    error
                } else {
                    let why = format!("could not initialize the data directory (exit code {code})");
                    return Err(self.settings_error(FailedStart { error: Error::internal(why), output }, settings));
                };
                return Err(failed.with("output", output));
            }
        }
        let (engine, staging) = (Arc::clone(&self.engine), self.paths.staging());
        let checked = {
            let host = Arc::clone(&host);
            blocking(move || engine.check_data(&host, &staging)).await
        };
        match checked {
            Err(error) if error.kind() == Kind::Conflict => Err(self.wrong_image(cx, &host).await.with_source(error)),
            checked => checked,
        }
    }

    /// Keeps the staging directory as a template. No server has run on it, so only the image could
    /// have written to it.
    async fn keep_template(&self, pattern: TemplateSource) {
        let TemplateSource { templates, key, template } = pattern;
        let (keeper, staging) = (templates.clone(), self.paths.staging());
        let kept = blocking(move || {
            if !keeper.keep(&key, &staging, &template)? {
                return Ok(Vec::new());
            }
            keeper.sweep()
        });
        let others = match kept.await {
            Ok(others) => others,
            Err(error) => {
                return tracing::warn!(server = self.name, error = error.report(), "failed to keep a template");
            }
        };
        for key in others {
            let gone = self.docker.image_id(&key.image).await;
            if gone.is_err_and(|error| error.kind() == Kind::NotFound) {
                let templates = templates.clone();
                // The next instance that keeps a template retries this.
                let _ = blocking(move || templates.remove(&key)).await;
            }
        }
    }

    /// Runs work that copies files and reports progress. It ends early if the call is cancelled or
    /// dropped; the next call waits for that.
    pub(super) async fn copying<T: Send + 'static>(
        &self,
        cx: &Cx,
        phase: &'static str,
        work: impl FnOnce(&dyn Fn(u64) -> bool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.copies).lock_owned().await;
        let left = CancellationToken::new();
        let _left = left.clone().drop_guard();
        cx.check()?;
        cx.progress(phase, 0, None, "bytes");
        let (context, copied_bytes) = (cx.clone(), Arc::new(AtomicU64::new(0)));
        let reached = Arc::clone(&copied_bytes);
        let copying = blocking(move || {
            let _turn = turn;
            work(&|bytes| {
                reached.store(bytes, Ordering::Relaxed);
                context.progress(phase, bytes, None, "bytes");
                !left.is_cancelled() && context.check().is_ok()
            })
        });
        let mut copying = pin!(copying);
        let copied = loop {
            // Syncing the copied files may take long.
            match timeout(BEAT, copying.as_mut()).await {
                Ok(copied) => break copied,
                Err(_) => cx.progress(phase, copied_bytes.load(Ordering::Relaxed), None, "bytes"),
            }
        };
        cx.check().and(copied)
    }
}
