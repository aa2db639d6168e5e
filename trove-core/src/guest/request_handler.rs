//! Dispatches the requests of the control plane to the agent.

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

/// Dispatches requests to the agent of one instance.
pub(super) struct GuestRequestHandler(pub(super) Arc<Agent>);

#[async_trait]
impl RequestHandler for GuestRequestHandler {
    async fn handle(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let answer = AssertUnwindSafe(self.dispatch(&text)).catch_unwind().await;
        let answer = answer.unwrap_or_else(|_| Err(Error::internal("the guest agent panicked")));
        let answer: std::result::Result<Answer, Failure> = answer.map_err(Failure::from);
        let encoded = message::write(&answer);
        if encoded.len() <= MAX_PAYLOAD_BYTES {
            return encoded;
        }
        let too_long = Error::invalid("the response exceeds the maximum message size; request a smaller page");
        message::write(&std::result::Result::<Answer, Failure>::Err(too_long.into()))
    }
}

impl GuestRequestHandler {
    async fn dispatch(&self, text: &[u8]) -> Result<Answer> {
        match message::read(text)? {
            Request::Job { operation, epoch, job } => self.0.start_job(operation, epoch, job).await.map(Answer::Job),
            Request::JobStatus { operation, job } => match self.0.job_status(operation, &job) {
                Some(status) => status.map(Answer::Job),
                None => Ok(Answer::NoJob),
            },
            Request::Accounts { operation, epoch, call } => {
                self.0.accounts(operation, epoch, call).await.map(Answer::Accounts)
            }
        }
    }
}
