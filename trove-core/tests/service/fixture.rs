//! Helpers that the tests of the service share.

use std::{path::Path, time::Duration};

use trove_core::{
    Trove,
    conformance::memory::World,
    control::{Builder, InstanceHandle, NewConfiguration, NewInstance},
    guest::AgentSettings,
    id::InstanceId,
    model::{Flavor, Instance, gib, mib},
};

/// Starts a service on a world and a store.
pub async fn start(world: &World, store: &str) -> Trove {
    builder(world, store).await.start().await.unwrap()
}

pub async fn builder(world: &World, store: &str) -> Builder {
    // The in-memory server emits no events, so observe it often.
    let fast_settings = AgentSettings { observe_every: Duration::from_millis(10), ..AgentSettings::default() };
    crate::builder()
        .await
        .store(store)
        .platform(world.platform())
        .datastore(world.driver())
        .flavor(Flavor::new("small", mib(512), 1))
        .flavor(Flavor::new("large", gib(2), 2))
        .guest_settings(fast_settings)
}

/// Returns the URL of a store in this directory.
pub fn sqlite_url(directory: &Path) -> String {
    format!("sqlite:{}", directory.join("trove.db").display())
}

/// Returns a request for an instance with a database and a user.
pub fn orders() -> NewInstance {
    NewInstance::new("orders", "memory").database("app").user("app", "secret")
}

/// Creates that instance and waits until it is active.
pub async fn create_active(trove: &Trove) -> InstanceHandle {
    trove.create(orders()).await.unwrap().active().await.unwrap()
}

/// Returns a request for a configuration group.
pub fn group() -> NewConfiguration {
    NewConfiguration::new("fast", "memory").set("Max-Rows", 5).set("cache_mib", 64)
}

/// Waits until the instance matches, checking after each event of any instance.
pub async fn until(trove: &Trove, id: InstanceId, matches: impl Fn(&Instance) -> bool) -> InstanceHandle {
    let mut events = trove.events();
    loop {
        let instance = trove.instance(id).await.unwrap();
        if matches(&instance) {
            return instance;
        }
        // The event may have been emitted before the subscription, so check without one too.
        let _ = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    }
}
