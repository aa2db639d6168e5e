//! Readiness probes over a session that stays open between two probes.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use trove_core::error::{Error, Result};

use super::Readiness;

/// How long a session is reused. After that a new one is opened, because an open session answers even while the server
/// accepts no new ones.
const MAX_AGE: Duration = Duration::from_secs(5);

/// A session that can run a readiness query.
pub(crate) trait ProbeSession: Send {
    /// Runs the readiness query.
    fn readiness(&mut self) -> impl Future<Output = Result<Readiness>> + Send;
}

/// Why a session could not be opened.
#[derive(Debug)]
pub(crate) struct ConnectError {
    pub(crate) reason: ConnectErrorReason,
    pub(crate) error: Error,
}

/// The reasons of a failed connection that callers handle differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectErrorReason {
    /// The server reports that it is starting or stopping.
    NotReady,
    /// The server has reached its connection limit.
    TooManyConnections,
    Other,
}

/// Keeps one session open between two probes.
#[derive(Debug)]
pub(crate) struct ReadinessProbe<S> {
    session: Mutex<Option<(Instant, S)>>,
}

impl<S: ProbeSession> ReadinessProbe<S> {
    pub(crate) fn new() -> Self {
        Self { session: Mutex::new(None) }
    }

    /// Probes in the open session while it is young enough, otherwise in the session that `connect` opens.
    pub(crate) async fn probe(&self, connect: impl Future<Output = Result<S, ConnectError>> + Send) -> Readiness {
        let mut kept = self.take();
        if let Some((since, mut session)) = kept.take_if(|(since, _)| since.elapsed() < MAX_AGE)
            && let Ok(readiness) = session.readiness().await
        {
            self.keep(since, session);
            return readiness;
        }
        let probed = async {
            let mut session = connect.await?;
            let readiness = session.readiness().await?;
            self.keep(Instant::now(), session);
            Ok(readiness)
        };
        match probed.await {
            Ok(readiness) => readiness,
            Err(ConnectError { reason, error }) => match (reason, kept) {
                (ConnectErrorReason::NotReady, _) => Readiness::Starting,
                // Unauthenticated clients can use up even the administrator's connections. The server still serves the
                // sessions that it has.
                (ConnectErrorReason::TooManyConnections, Some((since, mut session))) => {
                    match session.readiness().await {
                        Ok(readiness) => {
                            self.keep(since, session);
                            readiness
                        }
                        Err(_) => Readiness::Unreachable(error),
                    }
                }
                _ => Readiness::Unreachable(error),
            },
        }
    }

    /// Closes the session.
    pub(crate) fn disconnect(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<(Instant, S)> {
        self.session.lock().take()
    }

    fn keep(&self, since: Instant, session: S) {
        *self.session.lock() = Some((since, session));
    }
}

impl From<Error> for ConnectError {
    fn from(error: Error) -> Self {
        Self { reason: ConnectErrorReason::Other, error }
    }
}

impl From<ConnectError> for Error {
    fn from(ConnectError { error, .. }: ConnectError) -> Self {
        error
    }
}
