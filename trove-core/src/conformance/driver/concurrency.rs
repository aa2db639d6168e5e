//! Concurrent calls on one instance have the effect of sequential ones.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    ServerFixture,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    error::Result,
    model::{Health, Settings, SettingsState},
};

/// The time limit for concurrent calls. Exceeded only by a deadlock.
const DEADLOCK_TIMEOUT: Duration = Duration::from_secs(400);

pub(super) fn groups() -> Vec<Group> {
    let empty = cases![
        concurrent_prepares_create_one_server,
        a_concurrent_stop_and_removal_leave_nothing,
        a_concurrent_prepare_and_removal_can_be_removed,
    ];
    let shared = cases![
        concurrent_starts_start_one_server,
        a_concurrent_start_and_stop_settle,
        a_server_is_observable_while_it_stops,
    ];
    let groups = vec![
        Group::empty("concurrency", &[], empty),
        Group::shared("concurrency", &[], shared),
        Group::shared("concurrency", &[Need::Configuration], cases![one_of_two_concurrent_settings_changes_wins]),
    ];
    groups.into_iter().map(Group::common).collect()
}

async fn concurrent_prepares_create_one_server(fixture: &ServerFixture) {
    let (first, second, spec) = (fixture.cx(), fixture.cx(), fixture.spec());
    both_succeed(fixture.server.prepare(&first, &spec), fixture.server.prepare(&second, &spec)).await;
    fixture.assert_app_can_write().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn a_concurrent_stop_and_removal_leave_nothing(fixture: &ServerFixture) {
    fixture.prepare().await;
    let (first, second) = (fixture.cx(), fixture.cx());
    // The stop fails if the removal came first.
    let (_, removed) = join(fixture.server.stop(&first), fixture.server.remove(&second)).await;
    removed.unwrap();
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
    assert_ne!(fixture.observe().await.health, Health::Healthy);
}

async fn a_concurrent_prepare_and_removal_can_be_removed(fixture: &ServerFixture) {
    let (first, second, spec) = (fixture.cx(), fixture.cx(), fixture.spec());
    both_succeed(fixture.server.prepare(&first, &spec), fixture.server.remove(&second)).await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn concurrent_starts_start_one_server(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    let (first, second) = (fixture.cx(), fixture.cx());
    both_succeed(fixture.server.start(&first), fixture.server.start(&second)).await;
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before").await;
}

async fn a_concurrent_start_and_stop_settle(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let (first, second) = (fixture.cx(), fixture.cx());
    both_succeed(fixture.server.stop(&first), fixture.server.start(&second)).await;
    let settled = |health: &Health| matches!(health, Health::Healthy | Health::Stopped);
    fixture.wait_for("healthy or stopped", |observed| settled(&observed.health)).await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.assert_marker("before").await;
}

async fn a_server_is_observable_while_it_stops(fixture: &ServerFixture) {
    let cx = fixture.cx();
    fixture.observe_during(fixture.server.stop(&cx)).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Stopped);
    fixture.server.start(&fixture.cx()).await.unwrap();
}

async fn one_of_two_concurrent_settings_changes_wins(fixture: &ServerFixture) {
    let (name, value, other_value) = fixture.dynamic_parameter();
    let [settings, other_settings] =
        [&value, &other_value].map(|value| Settings::from([(name.clone(), value.clone())]));
    let (first, second) = (fixture.cx(), fixture.cx());
    let configuration = fixture.configuration();
    both_succeed(configuration.apply(&first, &settings), configuration.apply(&second, &other_settings)).await;
    let effective = fixture.app_session().await.parameter(&name).await.unwrap();
    assert!([value, other_value].iter().any(|value| value.to_string() == effective), "{name} is {effective}");
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    configuration.apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn both_succeed(first: impl Future<Output = Result<()>>, second: impl Future<Output = Result<()>>) {
    let (first, second) = join(first, second).await;
    first.unwrap_or_else(|error| panic!("first call: {error:?}"));
    second.unwrap_or_else(|error| panic!("second call: {error:?}"));
}

async fn join<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let results = timeout(DEADLOCK_TIMEOUT, async { tokio::join!(first, second) }).await;
    results.unwrap_or_else(|_| panic!("deadlock between concurrent calls"))
}
