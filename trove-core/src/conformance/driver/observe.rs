//! What is told of a server is what it is.

use futures_util::future::join_all;

use super::{Fault, ServerFixture, group::Group};
use crate::{
    conformance::case::cases,
    datastore::Datastore,
    model::{Condition, Health, Observed, Problem},
};

pub(super) fn groups() -> Vec<Group> {
    let shared =
        cases![a_serving_server_is_healthy_and_reports_its_version, a_suspended_server_is_observed_until_it_resumes,];
    // An engine may wait for a minute before it gives up on a full volume.
    let shared_by_drivers = cases![
        a_full_volume_is_observed_until_it_is_freed,
        every_process_observes_a_stop,
        a_killed_server_is_observed_and_can_be_started,
        a_removed_container_is_observed_and_can_be_started_with_its_data,
        observing_changes_nothing,
    ];
    let empty = cases![an_unprepared_server_is_not_healthy, observing_does_not_wait_for_a_prepare];
    vec![
        Group::shared("observe", &[], shared),
        Group::shared("observe", &[], shared_by_drivers).shared_by_drivers(),
        Group::empty("observe", &[], empty).shared_by_drivers(),
    ]
}

async fn a_serving_server_is_healthy_and_reports_its_version(fixture: &ServerFixture) {
    for server in [fixture.server.clone(), fixture.reattach()] {
        let seen = look(fixture, &*server).await;
        assert_eq!(seen.health, Health::Healthy);
        let version = seen.server_version.expect("a server that answers tells its version");
        let begins = version.starts_with(&fixture.host.version);
        assert!(begins, "a place of version {} has a server of version {version}", fixture.host.version);
        let settings = server.abilities().configuration.is_some();
        assert_eq!(seen.settings.is_some(), settings, "where there are settings it is told how they stand");
    }
}

async fn every_process_observes_a_stop(fixture: &ServerFixture) {
    fixture.wait_until_healthy().await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        let seen = look(fixture, &*server).await;
        assert_eq!((seen.health, seen.server_version), (Health::Stopped, None));
    }
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.wait_until_healthy().await;
}

async fn a_killed_server_is_observed_and_can_be_started(fixture: &ServerFixture) {
    fixture.write_marker("through a kill").await;
    fixture.inject(Fault::Kill).await;
    fixture.wait_for_condition(Condition::Killed).await;
    is_down(&look(fixture, &*fixture.reattach()).await, &[Condition::Killed]);
    assert!(fixture.app_cannot_log_in().await);
    fixture.reattach().start(&fixture.cx()).await.unwrap();
    fixture.wait_until_healthy().await;
    fixture.assert_marker("through a kill").await;
}

async fn a_suspended_server_is_observed_until_it_resumes(fixture: &ServerFixture) {
    let suspended = [Condition::Paused, Condition::NotAnswering];
    let mut session = fixture.app_session().await;
    fixture.inject(Fault::Suspend).await;
    let told = |seen: &Observed| seen.health.problem().is_some_and(|problem| suspended.contains(&problem.condition));
    fixture.wait_for("that it is suspended", told).await;
    is_down(&fixture.observe().await, &suspended);
    fixture.inject(Fault::Resume).await;
    fixture.wait_until_healthy().await;
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_removed_container_is_observed_and_can_be_started_with_its_data(fixture: &ServerFixture) {
    fixture.write_marker("through a loss").await;
    fixture.inject(Fault::RemoveServer).await;
    fixture.wait_for_condition(Condition::Removed).await;
    is_down(&look(fixture, &*fixture.reattach()).await, &[Condition::Removed]);
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("through a loss").await;
}

async fn a_full_volume_is_observed_until_it_is_freed(fixture: &ServerFixture) {
    fixture.inject(Fault::FillVolume).await;
    let seen = fixture.wait_for_condition(Condition::DiskFull).await;
    if let Some(disk) = seen.disk {
        let empty = fixture.host.volume_size.as_bytes() / 2;
        assert!(disk.free.as_bytes() <= empty, "a full volume has room: {disk:?}");
    }
    fixture.inject(Fault::FreeVolume).await;
    // A server that it stopped is for a start to mend.
    if !matches!(fixture.observe().await.health, Health::Healthy | Health::Impaired(_)) {
        fixture.server.start(&fixture.cx()).await.unwrap();
    }
    fixture.wait_until_healthy().await;
    fixture.assert_app_can_write().await;
}

async fn observing_changes_nothing(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    let servers: Vec<_> = (0..8).map(|_| fixture.reattach()).collect();
    for seen in join_all(servers.iter().map(|server| look(fixture, &**server))).await {
        assert_eq!(seen.health, Health::Healthy);
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn an_unprepared_server_is_not_healthy(fixture: &ServerFixture) {
    let seen = fixture.observe().await;
    assert!(matches!(seen.health, Health::Down(_) | Health::Unknown(_)), "{seen:?}");
    assert_eq!(seen.server_version, None);
}

async fn observing_does_not_wait_for_a_prepare(fixture: &ServerFixture) {
    let (cx, spec) = (fixture.cx(), fixture.spec());
    fixture.observe_during(fixture.server.prepare(&cx, &spec)).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
}

async fn look(fixture: &ServerFixture, server: &dyn Datastore) -> Observed {
    server.observe(&fixture.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"))
}

#[track_caller]
fn is_down(seen: &Observed, conditions: &[Condition]) {
    let told = matches!(&seen.health, Health::Down(Problem { condition, .. }) if conditions.contains(condition));
    assert!(told, "not {conditions:?}: {seen:?}");
}
