//! Calls to a datastore that are held until a test lets them go.

use std::sync::Arc;

use tokio::sync::watch;
use trove_core::{
    datastore::Cx,
    error::Result,
    layer::{Call, Layer, Next},
};

/// Holds the calls of one name, while it is shut. Clones are the same one.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<State>>);

#[derive(Default)]
struct State {
    held: Option<&'static str>,
    waiting: usize,
}

impl Gate {
    /// One that is open.
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }

    /// Holds calls of this name from now on.
    pub fn shut(&self, name: &'static str) {
        self.0.send_modify(|state| state.held = Some(name));
    }

    /// Lets all go.
    pub fn open(&self) {
        self.0.send_modify(|state| state.held = None);
    }

    /// Waits until so many are held.
    pub async fn holds(&self, count: usize) {
        self.0.subscribe().wait_for(|state| state.waiting == count).await.unwrap();
    }
}

impl Layer for Gate {
    async fn around<'a, T: Send + 'a>(&'a self, _cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        if self.0.borrow().held == Some(call.name) {
            let _waiting = Waiting::at(&self.0);
            let _ = self.0.subscribe().wait_for(|state| state.held != Some(call.name)).await;
        }
        next().await
    }
}

struct Waiting<'a>(&'a watch::Sender<State>);

impl<'a> Waiting<'a> {
    fn at(state: &'a watch::Sender<State>) -> Self {
        state.send_modify(|state| state.waiting += 1);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.waiting -= 1);
    }
}
