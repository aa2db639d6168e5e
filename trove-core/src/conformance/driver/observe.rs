//! Observations report the actual state of a server.

use futures_util::future::join_all;

use super::{ServerFault, ServerFixture, group::Group};
use crate::{
    conformance::case::cases,
    datastore::Datastore,
    model::{Condition, Health, Observed, Problem},
};

pub(super) fn groups() -> Vec<Group> {
    let shared =
        cases![a_serving_server_is_healthy_and_reports_its_version, a_suspended_server_is_observed_until_it_resumes];
    // Some engines wait for a minute before they give up on a full volume.
    let shared_common = cases![
        a_full_volume_is_observed_until_it_is_freed,
        every_process_observes_a_stop,
        a_killed_server_is_observed_and_can_be_started,
        a_removed_container_is_observed_and_can_be_started_with_its_data,
        observing_changes_nothing,
    ];
    let empty = cases![an_unprepared_server_is_not_healthy, observing_does_not_wait_for_a_prepare];
    vec![
        Group::shared("observe", &[], shared),
        Group::shared("observe", &[], shared_common).common(),
        Group::empty("observe", &[], empty).common(),
    ]
}

async fn a_serving_server_is_healthy_and_reports_its_version(fixture: &ServerFixture) {
    for server in [fixture.server.clone(), fixture.reattach()] {
        let observed = observe(fixture, &*server).await;
        assert_eq!(observed.health, Health::Healthy);
        let version = observed.server_version.expect("a healthy server should report its version");
        let matches = version.starts_with(&fixture.host.version);
        assert!(matches, "a host of version {} runs a server of version {version}", fixture.host.version);
        let configurable = server.abilities().configuration.is_some();
        assert_eq!(observed.settings.is_some(), configurable, "settings are reported exactly if there are any");
    }
}

async fn every_process_observes_a_stop(fixture: &ServerFixture) {
    fixture.wait_until_healthy().await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        let observed = observe(fixture, &*server).await;
        assert_eq!((observed.health, observed.server_version), (Health::Stopped, None));
    }
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.wait_until_healthy().await;
}

async fn a_killed_server_is_observed_and_can_be_started(fixture: &ServerFixture) {
    fixture.write_marker("before the kill").await;
    fixture.inject(ServerFault::Kill).await;
    fixture.wait_for_condition(Condition::Killed).await;
    assert_down(&observe(fixture, &*fixture.reattach()).await, &[Condition::Killed]);
    assert!(fixture.app_cannot_log_in().await);
    fixture.reattach().start(&fixture.cx()).await.unwrap();
    fixture.wait_until_healthy().await;
    fixture.assert_marker("before the kill").await;
}

async fn a_suspended_server_is_observed_until_it_resumes(fixture: &ServerFixture) {
    let suspended = [Condition::Paused, Condition::NotAnswering];
    let mut session = fixture.app_session().await;
    fixture.inject(ServerFault::Suspend).await;
    let is_suspended =
        |observed: &Observed| observed.health.problem().is_some_and(|problem| suspended.contains(&problem.condition));
    fixture.wait_for("the server is suspended", is_suspended).await;
    assert_down(&fixture.observe().await, &suspended);
    fixture.inject(ServerFault::Resume).await;
    fixture.wait_until_healthy().await;
    session.put("a", "b").await.expect("the session was terminated");
}

async fn a_removed_container_is_observed_and_can_be_started_with_its_data(fixture: &ServerFixture) {
    fixture.write_marker("before the removal").await;
    fixture.inject(ServerFault::RemoveServer).await;
    fixture.wait_for_condition(Condition::Removed).await;
    assert_down(&observe(fixture, &*fixture.reattach()).await, &[Condition::Removed]);
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before the removal").await;
}

async fn a_full_volume_is_observed_until_it_is_freed(fixture: &ServerFixture) {
    fixture.inject(ServerFault::FillVolume).await;
    let observed = fixture.wait_for_condition(Condition::DiskFull).await;
    if let Some(disk) = observed.disk {
        let limit = fixture.host.volume_size.as_bytes() / 2;
        assert!(disk.free.as_bytes() <= limit, "a full volume is reported as half empty: {disk:?}");
    }
    fixture.inject(ServerFault::FreeVolume).await;
    // A server that the full volume stopped needs a start.
    if !matches!(fixture.observe().await.health, Health::Healthy | Health::Impaired(_)) {
        fixture.server.start(&fixture.cx()).await.unwrap();
    }
    fixture.wait_until_healthy().await;
    fixture.assert_app_can_write().await;
}

async fn observing_changes_nothing(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    let servers: Vec<_> = (0..8).map(|_| fixture.reattach()).collect();
    for observed in join_all(servers.iter().map(|server| observe(fixture, &**server))).await {
        assert_eq!(observed.health, Health::Healthy);
    }
    session.put("a", "b").await.expect("the session was terminated");
}

async fn an_unprepared_server_is_not_healthy(fixture: &ServerFixture) {
    let observed = fixture.observe().await;
    assert!(matches!(observed.health, Health::Down(_) | Health::Unknown(_)), "{observed:?}");
    assert_eq!(observed.server_version, None);
}

async fn observing_does_not_wait_for_a_prepare(fixture: &ServerFixture) {
    let (cx, spec) = (fixture.cx(), fixture.spec());
    fixture.observe_during(fixture.server.prepare(&cx, &spec)).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
}

async fn observe(fixture: &ServerFixture, server: &dyn Datastore) -> Observed {
    server.observe(&fixture.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"))
}

#[track_caller]
fn assert_down(observed: &Observed, conditions: &[Condition]) {
    let is_down = matches!(&observed.health, Health::Down(Problem { condition, .. }) if conditions.contains(condition));
    assert!(is_down, "expected one of {conditions:?}, observed {observed:?}");
}
