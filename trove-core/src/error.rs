//! The one error type: what the caller acts on, whether to try again, and what may have happened already.
//!
//! The sentence ([`Display`](std::fmt::Display)) is for the user and never holds a secret or SQL. What an operator
//! needs besides is in [`Error::context`] and the [source](std::error::Error::source).
//!
//! ```
//! use trove_core::error::{Effect, Error, Kind, Retry};
//!
//! let error = Error::unavailable("the container engine does not answer").with("socket", "/run/docker.sock");
//! assert_eq!(error.kind(), Kind::Unavailable);
//! assert_eq!(error.retry(), Retry::Same);
//! assert_eq!(error.effect(), Effect::None);
//! ```

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Source = Arc<dyn StdError + Send + Sync>;

/// A failure, with all that its handler needs to decide.
#[derive(Clone, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Inner>);

#[derive(Clone, thiserror::Error)]
#[error("{message}")]
struct Inner {
    kind: Kind,
    retry: Retry,
    effect: Effect,
    message: String,
    context: Vec<(&'static str, String)>,
    source: Option<Source>,
}

/// What went wrong, in the terms a caller acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The datastore or platform has no such ability.
    Unsupported,
    /// The request is wrong and stays wrong.
    Invalid,
    /// What the request names does not exist.
    NotFound,
    /// The request contradicts what exists: a taken name, a state that does not allow it, a reused key.
    Conflict,
    /// Something else has to end first.
    Busy,
    /// A service this depends on does not answer.
    Unavailable,
    /// The time allowed ran out.
    Timeout,
    /// There is no room: disk, memory, ports, quota.
    NoSpace,
    /// Stored data is missing or damaged.
    Corrupt,
    /// The caller is a former owner; another one has taken over.
    Fenced,
    /// The operation was cancelled.
    Cancelled,
    /// A fault of this library or of what it runs.
    Internal,
}

/// Whether to try the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Retry {
    /// It would fail again.
    Never,
    /// It may succeed at any time.
    Same,
    /// It may succeed after this long.
    After(Duration),
}

/// What the failed call may have done; decides between redo and undo after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Nothing was changed.
    None,
    /// The whole effect may or may not have happened.
    Maybe,
    /// A part of the effect happened.
    Partial,
}

macro_rules! constructors {
    ($($name:ident $kind:ident $retry:ident $effect:ident;)*) => {$(
        #[doc = concat!("An error of kind [`Kind::", stringify!($kind), "`], retry [`Retry::", stringify!($retry),
            "`], effect [`Effect::", stringify!($effect), "`].")]
        pub fn $name(message: impl Into<String>) -> Self {
            Self::new(Kind::$kind, Retry::$retry, Effect::$effect, message.into())
        }
    )*};
}

impl Error {
    constructors! {
        unsupported Unsupported Never None;
        invalid Invalid Never None;
        not_found NotFound Never None;
        conflict Conflict Never None;
        busy Busy Same None;
        unavailable Unavailable Same None;
        timeout Timeout Same Maybe;
        no_space NoSpace Never None;
        corrupt Corrupt Never None;
        fenced Fenced Never None;
        cancelled Cancelled Never Maybe;
        internal Internal Never Maybe;
    }

    /// An error of a kind known only when it happens; it is not worth trying again.
    pub fn of(kind: Kind, message: impl Into<String>) -> Self {
        Self::new(kind, Retry::Never, Effect::Maybe, message.into())
    }

    fn new(kind: Kind, retry: Retry, effect: Effect, message: String) -> Self {
        Self(Box::new(Inner { kind, retry, effect, message, context: Vec::new(), source: None }))
    }

    /// Adds a fact for the operator.
    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        self.0.context.push((key, value.to_string()));
        self
    }

    /// Adds the error that caused this one.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Replaces the advice on trying again.
    #[must_use]
    pub fn retrying(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// Replaces the statement of what may have happened.
    #[must_use]
    pub fn having(mut self, effect: Effect) -> Self {
        self.0.effect = effect;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// Whether to try the same again.
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// What may have happened already.
    pub fn effect(&self) -> Effect {
        self.0.effect
    }

    /// Facts for the operator, in the order they were added.
    pub fn context(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// True where another try may succeed.
    pub fn is_transient(&self) -> bool {
        self.0.retry != Retry::Never
    }

    /// The sentence, the context and all sources on one line, for an operator's log.
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

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
