//! Servers are created, started, stopped and removed, in every order of calls.

use super::{
    ServerFault, ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    error::Kind,
    model::{Condition, Health, PageRequest},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![a_second_prepare_is_idempotent, a_stopped_server_starts_with_its_data];
    let shared_common = cases![
        starting_a_running_server_does_not_restart_it,
        preparing_a_stopped_server_starts_it,
        a_killed_server_can_be_stopped_and_started,
        a_suspended_server_can_be_stopped_and_started,
        starting_a_suspended_server_resumes_it,
    ];
    let empty_common = cases![
        starting_an_unprepared_server_fails,
        removing_an_absent_server_is_ok,
        removing_leaves_nothing,
        a_killed_server_can_be_removed,
        a_suspended_server_can_be_removed,
        a_stopped_server_can_be_removed,
        a_removed_server_can_be_prepared_again,
        starting_a_removed_server_does_not_recreate_it,
        a_failed_prepare_leaves_nothing,
    ];
    let with_accounts = cases![calls_to_a_stopped_server_are_unavailable];
    vec![
        Group::shared("lifecycle", &[], shared),
        Group::shared("lifecycle", &[], shared_common).common(),
        Group::shared("lifecycle", &[Need::Accounts], with_accounts),
        Group::empty("lifecycle", &[], cases![starting_a_server_without_data_does_not_recreate_it]),
        Group::empty("lifecycle", &[], empty_common).common(),
    ]
}

async fn a_second_prepare_is_idempotent(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    session.put("prepared", "once").await.unwrap();
    fixture.prepare().await;
    fixture.reattach().prepare(&fixture.cx(), &fixture.spec()).await.unwrap();
    assert_eq!(session.get("prepared").await.expect("the session was terminated").as_deref(), Some("once"));
    fixture.wait_until_healthy().await;
}

async fn starting_a_running_server_does_not_restart_it(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.reattach().start(&fixture.cx()).await.unwrap();
    session.put("a", "b").await.expect("the session was terminated");
}

async fn a_stopped_server_starts_with_its_data(fixture: &ServerFixture) {
    fixture.write_marker("before the stop").await;
    for _ in 0..2 {
        fixture.server.stop(&fixture.cx()).await.unwrap();
        assert!(fixture.app_cannot_log_in().await, "a stopped server accepts logins");
    }
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy, "start returned before the server was healthy");
    fixture.assert_marker("before the stop").await;
}

async fn preparing_a_stopped_server_starts_it(fixture: &ServerFixture) {
    fixture.write_marker("before the stop").await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.reattach().prepare(&fixture.cx(), &fixture.spec()).await.unwrap();
    fixture.assert_marker("before the stop").await;
}

async fn a_killed_server_can_be_stopped_and_started(fixture: &ServerFixture) {
    fixture.write_marker("before the kill").await;
    fixture.inject(ServerFault::Kill).await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.wait_for("the server is stopped", |observed| observed.health == Health::Stopped).await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.assert_marker("before the kill").await;
}

async fn a_suspended_server_can_be_stopped_and_started(fixture: &ServerFixture) {
    fixture.write_marker("before the suspension").await;
    fixture.inject(ServerFault::Suspend).await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.wait_for("the server is stopped", |observed| observed.health == Health::Stopped).await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    fixture.assert_marker("before the suspension").await;
}

async fn starting_a_suspended_server_resumes_it(fixture: &ServerFixture) {
    fixture.inject(ServerFault::Suspend).await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_app_can_write().await;
}

async fn calls_to_a_stopped_server_are_unavailable(fixture: &ServerFixture) {
    fixture.server.stop(&fixture.cx()).await.unwrap();
    let server = fixture.reattach();
    let accounts = server.abilities().accounts.expect("the ability is present");
    assert_eq!(error_kind(accounts.users(&fixture.cx(), &PageRequest::default()).await), Kind::Unavailable);
    assert_eq!(error_kind(accounts.drop_user(&fixture.cx(), &"absent".into()).await), Kind::Unavailable);
    assert_eq!(error_kind(accounts.root_enabled(&fixture.cx()).await), Kind::Unavailable);
    assert_eq!(fixture.observe().await.health, Health::Stopped, "a query started the server");
    fixture.server.start(&fixture.cx()).await.unwrap();
}

async fn starting_an_unprepared_server_fails(fixture: &ServerFixture) {
    assert_eq!(error_kind(fixture.server.start(&fixture.cx()).await), Kind::Corrupt);
    assert_ne!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_no_leftovers().await;
}

async fn removing_an_absent_server_is_ok(fixture: &ServerFixture) {
    for _ in 0..2 {
        fixture.server.remove(&fixture.cx()).await.unwrap();
        fixture.reattach().remove(&fixture.cx()).await.unwrap();
    }
    fixture.assert_no_leftovers().await;
}

async fn removing_leaves_nothing(fixture: &ServerFixture) {
    fixture.prepare().await;
    assert_eq!(fixture.observe().await.health, Health::Healthy, "prepare returned before the server was healthy");
    for _ in 0..2 {
        fixture.server.remove(&fixture.cx()).await.unwrap();
        fixture.assert_no_leftovers().await;
        assert!(!matches!(fixture.observe().await.health, Health::Healthy | Health::Starting));
    }
}

async fn a_killed_server_can_be_removed(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.inject(ServerFault::Kill).await;
    fixture.reattach().remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn a_suspended_server_can_be_removed(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.inject(ServerFault::Suspend).await;
    fixture.reattach().remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn a_stopped_server_can_be_removed(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
    assert_ne!(fixture.observe().await.health, Health::Healthy);
}

async fn a_removed_server_can_be_prepared_again(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.prepare().await;
    fixture.assert_app_can_write().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn starting_a_removed_server_does_not_recreate_it(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.write_marker("before the removal").await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    // The data may still exist, and may be served. An empty server must not be.
    match fixture.reattach().start(&fixture.cx()).await {
        Ok(()) => fixture.assert_marker("before the removal").await,
        Err(error) => assert_ne!(fixture.observe().await.health, Health::Healthy, "{error:?}"),
    }
    fixture.reattach().remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn starting_a_server_without_data_does_not_recreate_it(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.inject(ServerFault::DeleteData).await;
    fixture.wait_for_condition(Condition::DataMissing).await;
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(error_kind(server.start(&fixture.cx()).await), Kind::Corrupt);
        fixture.wait_for_condition(Condition::DataMissing).await;
    }
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn a_failed_prepare_leaves_nothing(fixture: &ServerFixture) {
    let (image, known_missing) = fixture.missing_image();
    let mut host = fixture.host.clone();
    host.image = image;
    let server = fixture.testbed().driver().attach(host).unwrap();
    let kind = error_kind(server.prepare(&fixture.cx(), &fixture.spec()).await);
    assert!(kind == Kind::NotFound || (!known_missing && kind == Kind::Unavailable), "{kind:?}");
    assert!(!matches!(fixture.observe().await.health, Health::Healthy | Health::Starting));
    server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
    // The host is still usable.
    fixture.prepare().await;
    fixture.assert_app_can_write().await;
}
