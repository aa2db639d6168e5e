//! Type-erased flows by kind.

use std::collections::HashMap;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::{End, Flow, Limits, Next, StepCx, plan::Shape};
use crate::{
    error::{Error, Result},
    id::{InstanceId, OperationId},
    secret::{MasterKeys, Sealed},
    store::{InstanceChange, NewOperation},
};

/// The flows of an engine. Old kinds stay registered until no journal contains them.
pub(crate) struct FlowRegistry<C>(HashMap<&'static str, Decode<C>>);

type Decode<C> = fn(Json) -> Result<Box<dyn AnyFlow<C>>>;

impl<C: Send + Sync + 'static> FlowRegistry<C> {
    /// Creates an empty registry.
    pub(crate) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Adds a flow.
    #[must_use]
    pub(crate) fn with<F: Flow<Context = C>>(mut self) -> Self {
        self.0.insert(F::KIND, |state| {
            let flow: F = serde_json::from_value(state).map_err(|error| {
                Error::corrupt(format!("could not decode the journaled state of {}", F::KIND)).with_source(error)
            })?;
            Ok(Box::new(flow))
        });
        self
    }

    pub(super) fn decode(&self, kind: &str, state: Json) -> Result<Box<dyn AnyFlow<C>>> {
        let decode = self.0.get(kind).ok_or_else(|| Error::unsupported(format!("unknown operation kind {kind}")))?;
        decode(state)
    }

    /// Rewraps the secrets in the state of an operation. `None` if all are sealed by the current
    /// key already.
    pub(crate) fn rewrap(
        &self,
        kind: &str,
        state: &str,
        instance: InstanceId,
        keys: &MasterKeys,
    ) -> Result<Option<String>> {
        let unreadable =
            |error| Error::corrupt(format!("could not decode the journaled state of {kind}")).with_source(error);
        let mut flow = self.decode(kind, serde_json::from_str(state).map_err(unreadable)?)?;
        let mut rewrapped = false;
        for (owner, sealed) in flow.secrets(instance) {
            rewrapped |= keys.rewrap(&owner, sealed)?;
        }
        if rewrapped { flow.state().map(|state| Some(state.to_string())) } else { Ok(None) }
    }
}

impl<C: Send + Sync + 'static> Default for FlowRegistry<C> {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn first_row<F: Flow>(flow: &F, id: OperationId) -> Result<NewOperation> {
    Ok(NewOperation {
        id,
        kind: F::KIND,
        step: name::<F>(0),
        state: state(flow)?,
        configuration: None,
        expected_epoch: None,
    })
}

fn name<F: Flow>(step: usize) -> &'static str {
    F::STEPS.get(step).map_or("", |step| F::name(*step))
}

fn state<F: Flow>(flow: &F) -> Result<Json> {
    serde_json::to_value(flow)
        .map_err(|error| Error::internal(format!("could not encode the state of {}", F::KIND)).with_source(error))
}

/// A type-erased [`Flow`]: steps are indexes, the state is JSON.
#[async_trait]
pub(super) trait AnyFlow<C>: Send + Sync {
    fn shape(&self) -> Shape;
    fn step_name(&self, step: usize) -> &'static str;
    fn step_number(&self, name: &str) -> Option<usize>;
    fn limits(&self, step: usize, undoing: bool) -> Limits;
    fn state(&self) -> Result<Json>;
    async fn run(&mut self, step: usize, cx: &mut StepCx<'_, C>) -> Result<Next>;
    async fn undo(&mut self, step: usize, cx: &mut StepCx<'_, C>) -> Result<Next>;
    fn ended(&self, end: End<'_>) -> InstanceChange;
    fn secrets(&mut self, instance: InstanceId) -> Vec<(String, &mut Sealed)>;
}

#[async_trait]
impl<F: Flow> AnyFlow<F::Context> for F {
    fn shape(&self) -> Shape {
        Shape { steps: F::STEPS.len(), reversible: F::REVERSIBLE }
    }

    fn step_name(&self, step: usize) -> &'static str {
        name::<F>(step)
    }

    fn step_number(&self, name: &str) -> Option<usize> {
        (0..F::STEPS.len()).find(|step| self.step_name(*step) == name)
    }

    fn limits(&self, step: usize, undoing: bool) -> Limits {
        let limits = if undoing { F::undo_limits } else { F::limits };
        F::STEPS.get(step).map_or_else(Limits::default, |step| limits(*step))
    }

    fn state(&self) -> Result<Json> {
        state(self)
    }

    async fn run(&mut self, step: usize, cx: &mut StepCx<'_, F::Context>) -> Result<Next> {
        match F::STEPS.get(step) {
            Some(step) => Flow::run(self, *step, cx).await,
            None => Ok(Next::Done),
        }
    }

    async fn undo(&mut self, step: usize, cx: &mut StepCx<'_, F::Context>) -> Result<Next> {
        match F::STEPS.get(step) {
            Some(step) => Flow::undo(self, *step, cx).await,
            None => Ok(Next::Done),
        }
    }

    fn ended(&self, end: End<'_>) -> InstanceChange {
        Flow::ended(self, end)
    }

    fn secrets(&mut self, instance: InstanceId) -> Vec<(String, &mut Sealed)> {
        Flow::secrets(self, instance)
    }
}
