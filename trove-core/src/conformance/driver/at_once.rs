//! Calls that are made at the same time on one instance end as if one had been made after the other.

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

/// Nothing here takes so long by itself.
const DEADLOCK: Duration = Duration::from_secs(400);

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
        Group::empty("at_once", &[], empty),
        Group::shared("at_once", &[], shared),
        Group::shared("at_once", &[Need::Configuration], cases![one_of_two_concurrent_settings_changes_wins]),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

async fn concurrent_prepares_create_one_server(fixture: &ServerFixture) {
    let (one, other, spec) = (fixture.cx(), fixture.cx(), fixture.spec());
    both(fixture.server.prepare(&one, &spec), fixture.server.prepare(&other, &spec)).await;
    fixture.assert_app_can_write().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn a_concurrent_stop_and_removal_leave_nothing(fixture: &ServerFixture) {
    fixture.prepare().await;
    let (one, other) = (fixture.cx(), fixture.cx());
    // Where the removal was first there is nothing to stop.
    let (_, removed) = within(fixture.server.stop(&one), fixture.server.remove(&other)).await;
    removed.unwrap();
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
    assert_ne!(fixture.observe().await.health, Health::Healthy);
}

async fn a_concurrent_prepare_and_removal_can_be_removed(fixture: &ServerFixture) {
    let (one, other, spec) = (fixture.cx(), fixture.cx(), fixture.spec());
    both(fixture.server.prepare(&one, &spec), fixture.server.remove(&other)).await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn concurrent_starts_start_one_server(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    let (one, other) = (fixture.cx(), fixture.cx());
    both(fixture.server.start(&one), fixture.server.start(&other)).await;
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before").await;
}

async fn a_concurrent_start_and_stop_settle(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let (one, other) = (fixture.cx(), fixture.cx());
    both(fixture.server.stop(&one), fixture.server.start(&other)).await;
    let settled = |health: &Health| matches!(health, Health::Healthy | Health::Stopped);
    fixture.wait_for("either", |seen| settled(&seen.health)).await;
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
    let (name, first, second) = fixture.dynamic_parameter();
    let settings = [&first, &second].map(|value| Settings::from([(name.clone(), value.clone())]));
    let (one, other) = (fixture.cx(), fixture.cx());
    let configuration = fixture.configuration();
    both(configuration.apply(&one, &settings[0]), configuration.apply(&other, &settings[1])).await;
    let found = fixture.app_session().await.parameter(&name).await.unwrap();
    assert!([first, second].iter().any(|value| value.to_string() == found), "{name} is {found}");
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    configuration.apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn both(one: impl Future<Output = Result<()>>, other: impl Future<Output = Result<()>>) {
    let (one, other) = within(one, other).await;
    one.unwrap_or_else(|error| panic!("the first: {error:?}"));
    other.unwrap_or_else(|error| panic!("the second: {error:?}"));
}

async fn within<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let done = timeout(DEADLOCK, async { tokio::join!(one, other) }).await;
    done.unwrap_or_else(|_| panic!("they wait for each other"))
}
