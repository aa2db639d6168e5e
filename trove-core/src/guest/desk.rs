//! Where the control plane's requests come in at a guest.

use std::sync::Arc;

use async_trait::async_trait;
use zeroize::Zeroizing;

use super::{
    agent::Agent,
    message::{self, Answer, Failure, Request},
};
use crate::{error::Result, rpc::Answerer};

/// Hands requests to the agent.
pub(super) struct Desk(pub(super) Arc<Agent>);

#[async_trait]
impl Answerer for Desk {
    async fn answer(&self, text: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        let answer: std::result::Result<Answer, Failure> = self.take(&text).await.map_err(Failure::from);
        message::write(&answer)
    }
}

impl Desk {
    async fn take(&self, text: &[u8]) -> Result<Answer> {
        match message::read(text)? {
            Request::Job { operation, epoch, work } => self.0.begin(operation, epoch, work).map(Answer::Job),
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
