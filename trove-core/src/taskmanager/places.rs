use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

use crate::id::InstanceId;

/// One lock for each instance that somebody is at.
#[derive(Default)]
pub(crate) struct Places(Mutex<HashMap<InstanceId, Weak<tokio::sync::Mutex<()>>>>);

impl Places {
    pub(super) async fn lock(&self, id: InstanceId) -> OwnedMutexGuard<()> {
        let place = {
            let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            places.retain(|_, place| place.strong_count() > 0);
            let place = places.get(&id).and_then(Weak::upgrade).unwrap_or_default();
            places.insert(id, Arc::downgrade(&place));
            place
        };
        place.lock_owned().await
    }
}
