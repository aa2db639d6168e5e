//! The error type of this crate.
//!
//! An [`Error`] has a [`Kind`] for the caller to match on, a message for the user, context for the
//! operator, and a [source](std::error::Error::source). The message
//! ([`Display`](std::fmt::Display)) never contains secrets or SQL.
//!
//! - [`Error::is_transient`] tells whether the same call may succeed later. Callers that retry,
//!   such as the flow engine, retry transient errors only.
//! - [`Error::effect`] tells whether the failed call may have changed something. The operations of
//!   this library do not depend on it, because each of their steps is idempotent. A caller that
//!   retries a call that is not idempotent does: only [`Effect::None`] makes that safe.
//!
//! ```
//! use trove_core::error::{Effect, Error, Kind};
//!
//! let error = Error::unavailable("could not reach the container engine").with("socket", "/run/docker.sock");
//! assert_eq!(error.kind(), Kind::Unavailable);
//! assert!(error.is_transient());
//! assert_eq!(error.effect(), Effect::None);
//! assert_eq!(error.to_string(), "could not reach the container engine");
//! assert!(error.report().ends_with("socket=\"/run/docker.sock\""));
//! ```

use std::{error::Error as StdError, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The result type of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync>;

/// An error with a kind, a message, context and a source. See the [module page](self).
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorRepr>);

#[derive(Clone, thiserror::Error)]
#[error("{message}")]
struct ErrorRepr {
    kind: Kind,
    transient: bool,
    effect: Effect,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

/// The kind of an [`Error`], for callers to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The datastore or the platform does not support the request.
    Unsupported,
    /// The request is invalid; repeating it cannot succeed.
    Invalid,
    /// Something that the request names does not exist.
    NotFound,
    /// The request conflicts with existing state: a name that is taken, a state that does not allow
    /// the action, a request key that was used for another request.
    Conflict,
    /// Another operation or a concurrent change has to finish first.
    Busy,
    /// A service that the request depends on cannot be reached or does not respond.
    Unavailable,
    /// The deadline expired.
    Timeout,
    /// A resource is exhausted: disk, memory, ports, quota.
    NoSpace,
    /// Stored data is missing or damaged.
    Corrupt,
    /// The caller's fencing epoch is outdated: another owner has taken over.
    Fenced,
    /// The operation was cancelled.
    Cancelled,
    /// A defect of this library or of a program that it runs.
    Internal,
}

/// Whether a failed call may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing was changed.
    None,
    /// Nothing, a part or all of the change may have been made.
    Unknown,
}

macro_rules! constructors {
    ($($name:ident $kind:ident $transient:literal $effect:ident;)*) => {$(
        #[doc = concat!("Creates an error of kind [`Kind::", stringify!($kind), "`] with effect [`Effect::",
            stringify!($effect), "`]; transient: ", stringify!($transient), ".")]
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Kind::$kind, $transient, Effect::$effect, message.into())
        }
    )*};
}

impl Error {
    constructors! {
        unsupported Unsupported false None;
        invalid Invalid false None;
        not_found NotFound false None;
        conflict Conflict false None;
        busy Busy true None;
        unavailable Unavailable true None;
        timeout Timeout true Unknown;
        no_space NoSpace false None;
        corrupt Corrupt false None;
        fenced Fenced false None;
        cancelled Cancelled false Unknown;
        internal Internal false Unknown;
    }

    /// Creates a permanent error of a kind that is known only at run time, with effect
    /// [`Effect::Unknown`].
    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, false, Effect::Unknown, message.into())
    }

    fn new(kind: Kind, transient: bool, effect: Effect, message: String) -> Self {
        Self(Box::new(ErrorRepr { kind, transient, effect, message, context: Vec::new(), source: None }))
    }

    /// Adds a key and a value to the context.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Sets the source: the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Marks the error as transient: the same call may succeed later.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.0.transient = true;
        self
    }

    /// Marks the error as permanent: repeating the call cannot succeed.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.transient = false;
        self
    }

    /// Sets whether the failed call may have changed something.
    #[must_use]
    pub fn with_effect(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// Returns the kind.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Returns whether the failed call may have changed something.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Returns the context for the operator, in the order in which it was added.
    ///
    /// It is meant for logs. Code that acts on an error matches on its [kind](Self::kind) or
    /// [source](std::error::Error::source).
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// Returns whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    /// Returns the message, the context and all sources on one line, for the operator's log.
    pub fn report(&self) -> String {
        let mut report = self.0.message.clone();
        for (key, value) in self.context() {
            report.push_str(&format!(" {key}={value:?}"));
        }
        let mut source = self.0.source.as_ref().map(|source| source.as_ref() as &dyn StdError);
        while let Some(cause) = source {
            report.push_str(&format!(": {cause}"));
            source = cause.source();
        }
        report
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({})", self.0.kind, self.report())
    }
}

impl fmt::Debug for ErrorRepr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
