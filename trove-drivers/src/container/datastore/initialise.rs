//! How a new data directory is made: of a template where there is one, otherwise by the engine's own command.

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
    bring_up::{Failure, OUTPUT},
};
use crate::{
    container::{
        Engine, Template,
        containers::Ran,
        gauges::blocking,
        places::Places,
        spec,
        templates::{Subject, Templates},
    },
    docker::printable_tail,
};

/// How long the initialisation of a data directory may take.
const INIT_LIMIT: Duration = Duration::from_secs(300);

/// How often it is told, where nothing is new, that a copy is being made.
const BEAT: Duration = Duration::from_secs(5);

/// The exit code of a shell that does not find a program.
const NO_PROGRAM: i64 = 127;

/// The template that a new data directory may come from, or may become.
#[derive(Clone)]
struct Pattern {
    templates: Templates,
    subject: Subject,
    template: Template,
}

impl<E: Engine> ContainerDatastore<E> {
    /// Makes a new data directory and the first server on it, from the image of this id.
    pub(super) async fn bring_up_new(&self, cx: &Cx, image: &str) -> Result<()> {
        let mut record = self.record().await?;
        self.lay_out(cx, record.wanted()).await?;
        // Making a container takes the daemon about as long as the initialisation, so both are done at once.
        let (created, initialised) = tokio::join!(self.create_server(cx), self.initialise(cx, image, record.wanted()));
        if let (Err(_), Ok(id)) = (&initialised, &created) {
            self.containers.give_up(id).await;
        }
        initialised?;
        self.launch(cx, &created?).await.map_err(|failure| match failure {
            Failure::Server(error) => self.of_settings(error, record.wanted()),
            Failure::Other(error) => error,
        })?;
        record.answered();
        self.keep(&record).await
    }

    /// Fills the staging directory and makes it the data directory.
    async fn initialise(&self, cx: &Cx, image: &str, settings: &Settings) -> Result<()> {
        let host = self.host();
        // What an attempt that was killed began may still write there.
        self.containers.make_way(&spec::init_name(&host)).await?;
        self.on_disk(Places::sweep).await?;
        cx.check()?;
        match self.engine.initialise(&host, &self.specs.inside(&self.places.staging_name())) {
            None => self.on_disk(Places::stage_empty).await?,
            Some(command) => {
                // The command may read the settings, and what it makes with them is nothing for others.
                let pattern = if settings.is_empty() { self.pattern(&host, image) } else { None };
                if !self.stage_template(cx, pattern.as_ref()).await? {
                    self.stage_new(cx, command, settings).await?;
                    if let Some(pattern) = pattern {
                        self.keep_template(pattern).await;
                    }
                }
            }
        }
        self.on_disk(Places::commit).await
    }

    /// The error for a first start, which nobody who chose the settings could try before.
    fn of_settings(&self, error: Error, settings: &Settings) -> Error {
        match self.said(&error) {
            Some(line) if !settings.is_empty() => {
                Error::invalid(format!("the server does not start with these settings: {line}")).because(error)
            }
            _ => error,
        }
    }

    fn pattern(&self, host: &GuestHost, image: &str) -> Option<Pattern> {
        let (shared, template) = (host.shared.as_ref()?, self.engine.template()?);
        let subject = Subject {
            engine: self.specs.datastore().to_owned(),
            version: host.version.clone(),
            image: image.to_owned(),
            options: template.options.clone(),
        };
        Some(Pattern { templates: Templates::new(shared), subject, template })
    }

    /// Fills the staging directory from the template, where there is one that can be used.
    async fn stage_template(&self, cx: &Cx, pattern: Option<&Pattern>) -> Result<bool> {
        let Some(Pattern { templates, subject, .. }) = pattern.cloned() else { return Ok(false) };
        let (known, wanted) = (templates.clone(), subject.clone());
        if !blocking(move || Ok(known.has(&wanted))).await? {
            return Ok(false);
        }
        let (staging, server) = (self.places.staging(), self.host().server);
        let taken =
            self.copying(cx, "copy template", move |going_on| templates.take(&subject, &staging, server, going_on));
        match taken.await {
            Ok(taken) => Ok(taken),
            Err(error) if error.kind() == Kind::Cancelled => Err(error),
            Err(error) => {
                tracing::warn!(server = self.name, error = error.report(), "the template is not used");
                self.on_disk(Places::sweep).await.map(|()| false)
            }
        }
    }

    /// Fills the staging directory by the engine's command.
    async fn stage_new(&self, cx: &Cx, command: Vec<String>, settings: &Settings) -> Result<()> {
        let (host, cpus) = (self.host(), self.docker.host().await?.cpus);
        let spec = self.specs.init(&host, cpus, command);
        let places = self.places.clone();
        let sweep = move || blocking(move || places.sweep());
        let ran = self.containers.run_after(cx, spec, INIT_LIMIT, sweep);
        match cx.waiting("initialise data directory", ran).await? {
            Ran::Ended { code: 0, .. } => {}
            Ran::NoProgram => return Err(self.wrong_image(cx, &host).await),
            Ran::Ended { code: NO_PROGRAM, .. } => return Err(self.wrong_image(cx, &host).await),
            Ran::Ended { code, output } => {
                let output = printable_tail(&output);
                let failed = if self.is_full().await {
                    Error::no_space("the volume is too full for a new data directory")
                } else if self.engine.version_command().is_some()
                    && let Err(error) = self.image_version(cx, &host).await
                    && error.kind() == Kind::Conflict
                {
                    // Programs of another engine may have the same name.
                    error
                } else {
                    let why = format!("the data directory could not be initialised (exit code {code})");
                    return Err(self.of_settings(Error::internal(why).with(OUTPUT, output), settings));
                };
                return Err(failed.with(OUTPUT, output));
            }
        }
        let (engine, staging) = (Arc::clone(&self.engine), self.places.staging());
        let checked = {
            let host = Arc::clone(&host);
            blocking(move || engine.check_data(&host, &staging)).await
        };
        match checked {
            Err(error) if error.kind() == Kind::Conflict => Err(self.wrong_image(cx, &host).await.because(error)),
            checked => checked,
        }
    }

    /// Keeps the staging directory as a template. No server had it yet, so that nobody but the image could write to it.
    async fn keep_template(&self, pattern: Pattern) {
        let Pattern { templates, subject, template } = pattern;
        let (keeper, staging) = (templates.clone(), self.places.staging());
        let kept = blocking(move || {
            if !keeper.keep(&subject, &staging, &template)? {
                return Ok(Vec::new());
            }
            keeper.sweep()
        });
        let others = match kept.await {
            Ok(others) => others,
            Err(error) => {
                return tracing::warn!(server = self.name, error = error.report(), "no template could be kept");
            }
        };
        for subject in others {
            let gone = self.docker.image_id(&subject.image).await;
            if gone.is_err_and(|error| error.kind() == Kind::NotFound) {
                let templates = templates.clone();
                // The next one who keeps a template tries again.
                let _ = blocking(move || templates.drop_subject(&subject)).await;
            }
        }
    }

    /// Runs work that copies files. It tells how far it is, and ends early where the call is cancelled or dropped; the
    /// next one waits for that.
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
        let (told, far) = (cx.clone(), Arc::new(AtomicU64::new(0)));
        let reached = Arc::clone(&far);
        let copying = blocking(move || {
            let _turn = turn;
            work(&|bytes| {
                reached.store(bytes, Ordering::Relaxed);
                told.progress(phase, bytes, None, "bytes");
                !left.is_cancelled() && told.check().is_ok()
            })
        });
        let mut copying = pin!(copying);
        let copied = loop {
            // To write down what was copied may take long.
            match timeout(BEAT, copying.as_mut()).await {
                Ok(copied) => break copied,
                Err(_) => cx.progress(phase, far.load(Ordering::Relaxed), None, "bytes"),
            }
        };
        cx.check().and(copied)
    }
}
