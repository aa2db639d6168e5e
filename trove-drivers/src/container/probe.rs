//! The session that is kept to ask a server whether it answers.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use trove_core::error::{Error, Result};

use super::Answer;

/// How long a session is believed to stand for the server. One that is open already answers even where the server
/// takes no new ones.
const AGE: Duration = Duration::from_secs(5);

/// A session that can be asked whether the server answers.
pub(crate) trait Asked: Send {
    /// What the server says of itself.
    fn answer(&mut self) -> impl Future<Output = Result<Answer>> + Send;
}

/// Why a server let nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It says that it is not ready yet.
    NotYet,
    /// It has as many sessions as it takes.
    Full,
    /// Any other reason.
    Other,
}

/// Keeps one session between two questions.
#[derive(Debug)]
pub(crate) struct Probe<S> {
    kept: Mutex<Option<(Instant, S)>>,
}

impl<S: Asked> Probe<S> {
    pub(crate) fn new() -> Self {
        Self { kept: Mutex::new(None) }
    }

    /// Asks in the kept session while it is young, otherwise in a new one.
    pub(crate) async fn ask(
        &self,
        open: impl Future<Output = Result<S>> + Send,
        refusal: impl Fn(&Error) -> Refusal + Send,
    ) -> Answer {
        let mut kept = self.take();
        if let Some((since, mut session)) = kept.take_if(|(since, _)| since.elapsed() < AGE)
            && let Ok(answer) = session.answer().await
        {
            self.keep(since, session);
            return answer;
        }
        let asked = async {
            let mut session = open.await?;
            let answer = session.answer().await?;
            self.keep(Instant::now(), session);
            Ok(answer)
        };
        match asked.await {
            Ok(answer) => answer,
            Err(error) => match (refusal(&error), kept) {
                (Refusal::NotYet, _) => Answer::NotYet,
                // Clients that have not shown yet who they are take even the administrator's connections. The server
                // serves those it has.
                (Refusal::Full, Some((since, mut session))) => match session.answer().await {
                    Ok(answer) => {
                        self.keep(since, session);
                        answer
                    }
                    Err(_) => Answer::No(error),
                },
                _ => Answer::No(error),
            },
        }
    }

    /// Closes the session that is kept.
    pub(crate) fn forget(&self) {
        drop(self.take());
    }

    fn take(&self) -> Option<(Instant, S)> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn keep(&self, since: Instant, session: S) {
        *self.kept.lock().unwrap_or_else(PoisonError::into_inner) = Some((since, session));
    }
}
