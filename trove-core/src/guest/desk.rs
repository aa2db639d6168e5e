//! Where the control plane's requests come in at a guest.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;
use zeroize::Zeroizing;

use super::{
    agent::Agent,
    message::{self, Answer, Failure, Request},
};
use crate::{
    error::{Error, Result},
    rpc::{MAX_PAYLOAD_BYTES, RequestHandler},
};

/// Hands requests to the agent.
pub(super) struct Desk(pub(super) Arc<Agent>);

#[async_trait]
impl RequestHandler for Desk {
    async fn handle(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let answer = AssertUnwindSafe(self.take(&text)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(Error::internal("the guest panicked")));
        let answer: std::result::Result<Answer, Failure> = answer.map_err(Failure::from);
        let told = message::write(&answer);
        if told.len() <= MAX_PAYLOAD_BYTES {
            return told;
        }
        let long = Error::invalid("the answer is too long for one message; ask for less at once");
        message::write(&std::result::Result::<Answer, Failure>::Err(long.into()))
    }
}

impl Desk {
    async fn take(&self, text: &[u8]) -> Result<Answer> {
        match message::read(text)? {
            Request::Job { operation, epoch, work } => self.0.begin(operation, epoch, work).await.map(Answer::Job),
            Request::JobEnd { operation, work } => match self.0.end(operation, &work) {
                Some(end) => end.map(Answer::Job),
                None => Ok(Answer::NoJob),
            },
            Request::Accounts { operation, epoch, question } => {
                self.0.accounts(operation, epoch, question).await.map(Answer::Accounts)
            }
        }
    }
}
