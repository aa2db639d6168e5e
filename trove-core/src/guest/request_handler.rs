//! Dispatches the requests of the control plane to the agent.

use std::{panic::AssertUnwindSafe, sync::Arc};

use async_trait::async_trait;
use futures_util::FutureExt;
use zeroize::Zeroizing;

use super::{
    agent::Agent,
    message::{self, Failure, Request, Response},
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
        let response = AssertUnwindSafe(self.dispatch(&text)).catch_unwind().await;
        let response = response.unwrap_or_else(|_| Err(Error::internal("the guest agent panicked")));
        let response: std::result::Result<Response, Failure> = response.map_err(Failure::from);
        let encoded = message::write(&response);
        if encoded.len() <= MAX_PAYLOAD_BYTES {
            return encoded;
        }
        let too_long = Error::invalid("the response exceeds the maximum message size; request a smaller page");
        message::write(&std::result::Result::<Response, Failure>::Err(too_long.into()))
    }
}

impl GuestRequestHandler {
    async fn dispatch(&self, text: &[u8]) -> Result<Response> {
        match message::read(text)? {
            Request::Job { operation, epoch, job } => self.0.start_job(operation, epoch, job).await.map(Response::Job),
            Request::JobStatus { operation, job } => match self.0.job_status(operation, &job) {
                Some(status) => status.map(Response::Job),
                None => Ok(Response::NoJob),
            },
            Request::Accounts { operation, epoch, call } => {
                self.0.accounts(operation, epoch, call).await.map(Response::Accounts)
            }
        }
    }
}
