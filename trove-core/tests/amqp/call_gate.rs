//! A layer that holds datastore calls until a test releases them.

use std::sync::Arc;

use tokio::sync::watch;
use trove_core::{
    datastore::Cx,
    error::Result,
    layer::{CallInfo, Layer, NextCall},
};

/// Holds calls of one name while closed. Clones share the state.
#[derive(Clone)]
pub struct CallGate(Arc<watch::Sender<GateState>>);

#[derive(Default)]
struct GateState {
    held: Option<&'static str>,
    waiting: usize,
}

impl CallGate {
    /// Returns an open gate.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(GateState::default())))
    }

    /// Holds calls of this name from now on.
    pub fn close(&self, name: &'static str) {
        self.0.send_modify(|state| state.held = Some(name));
    }

    /// Releases all calls.
    pub fn open(&self) {
        self.0.send_modify(|state| state.held = None);
    }

    /// Waits until this number of calls are held.
    pub async fn until_held(&self, count: usize) {
        self.0.subscribe().wait_for(|state| state.waiting == count).await.unwrap();
    }
}

impl Layer for CallGate {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        _cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        if self.0.borrow().held == Some(call.name) {
            let _waiting = HeldCall::at(&self.0);
            let _ = self.0.subscribe().wait_for(|state| state.held != Some(call.name)).await;
        }
        next().await
    }
}

struct HeldCall<'a>(&'a watch::Sender<GateState>);

impl<'a> HeldCall<'a> {
    fn at(state: &'a watch::Sender<GateState>) -> Self {
        state.send_modify(|state| state.waiting += 1);
        Self(state)
    }
}

impl Drop for HeldCall<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.waiting -= 1);
    }
}
