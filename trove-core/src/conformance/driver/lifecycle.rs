//! From nothing to a server, and back, in every order.

use super::{
    Harm, Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    error::Kind,
    model::{Condition, Health, PageRequest},
};

pub(super) fn groups() -> Vec<Group> {
    let running = cases![
        a_second_prepare_ends_where_one_does,
        a_server_that_runs_is_not_started_again,
        a_stopped_server_comes_back_with_its_data,
        a_stopped_server_comes_back_by_a_prepare,
        a_killed_server_is_stopped_and_started_like_any_other,
        a_suspended_server_is_stopped_and_started_like_any_other,
        a_start_wakes_a_suspended_server,
    ];
    let nothing = cases![
        nothing_is_started_where_nothing_was_prepared,
        removing_what_is_absent_is_ok,
        nothing_is_left_after_remove,
        a_killed_server_is_removed_like_any_other,
        a_suspended_server_is_removed_like_any_other,
        a_stopped_server_is_removed_like_any_other,
        a_removed_server_is_prepared_again,
        a_start_never_begins_a_removed_server_anew,
        a_start_never_begins_lost_data_anew,
        nothing_is_left_of_a_prepare_that_failed,
    ];
    let stopped = cases![a_stopped_server_is_asked_nothing];
    vec![
        Group::shared("lifecycle", &[], running),
        Group::shared("lifecycle", &[Need::Accounts], stopped),
        Group::empty("lifecycle", &[], nothing),
    ]
}

async fn a_second_prepare_ends_where_one_does(trial: &Trial) {
    let mut session = trial.app().await;
    session.put("prepared", "once").await.unwrap();
    trial.prepare().await;
    trial.reattached().prepare(&trial.cx(), &trial.spec()).await.unwrap();
    assert_eq!(session.get("prepared").await.expect("the session was cut").as_deref(), Some("once"));
    trial.sees_healthy().await;
}

async fn a_server_that_runs_is_not_started_again(trial: &Trial) {
    let mut session = trial.app().await;
    trial.server.start(&trial.cx()).await.unwrap();
    trial.reattached().start(&trial.cx()).await.unwrap();
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_stopped_server_comes_back_with_its_data(trial: &Trial) {
    trial.note("through a stop").await;
    for _ in 0..2 {
        trial.server.stop(&trial.cx()).await.unwrap();
        assert!(trial.app_is_refused().await, "a stopped server lets clients in");
    }
    trial.server.start(&trial.cx()).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy, "a start ends when the server answers");
    trial.has_note("through a stop").await;
}

async fn a_stopped_server_comes_back_by_a_prepare(trial: &Trial) {
    trial.note("again").await;
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.reattached().prepare(&trial.cx(), &trial.spec()).await.unwrap();
    trial.has_note("again").await;
}

async fn a_killed_server_is_stopped_and_started_like_any_other(trial: &Trial) {
    trial.note("through a kill").await;
    trial.harm(Harm::Kill).await;
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.sees("that it is stopped", |seen| seen.health == Health::Stopped).await;
    trial.server.start(&trial.cx()).await.unwrap();
    trial.has_note("through a kill").await;
}

async fn a_suspended_server_is_stopped_and_started_like_any_other(trial: &Trial) {
    trial.note("through a freeze").await;
    trial.harm(Harm::Freeze).await;
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.sees("that it is stopped", |seen| seen.health == Health::Stopped).await;
    trial.server.start(&trial.cx()).await.unwrap();
    trial.has_note("through a freeze").await;
}

async fn a_start_wakes_a_suspended_server(trial: &Trial) {
    trial.harm(Harm::Freeze).await;
    trial.server.start(&trial.cx()).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.app_serves().await;
}

async fn a_stopped_server_is_asked_nothing(trial: &Trial) {
    trial.server.stop(&trial.cx()).await.unwrap();
    let server = trial.reattached();
    let accounts = server.abilities().accounts.expect("the ability was shown");
    assert_eq!(refused(accounts.users(&trial.cx(), &PageRequest::default()).await), Kind::Unavailable);
    assert_eq!(refused(accounts.drop_user(&trial.cx(), &"nobody".into()).await), Kind::Unavailable);
    assert_eq!(refused(accounts.root_enabled(&trial.cx()).await), Kind::Unavailable);
    assert_eq!(trial.observe().await.health, Health::Stopped, "a question started it");
    trial.server.start(&trial.cx()).await.unwrap();
}

async fn nothing_is_started_where_nothing_was_prepared(trial: &Trial) {
    assert_eq!(refused(trial.server.start(&trial.cx()).await), Kind::Corrupt);
    assert_ne!(trial.observe().await.health, Health::Healthy);
    trial.has_no_residue().await;
}

async fn removing_what_is_absent_is_ok(trial: &Trial) {
    for _ in 0..2 {
        trial.server.remove(&trial.cx()).await.unwrap();
        trial.reattached().remove(&trial.cx()).await.unwrap();
    }
    trial.has_no_residue().await;
}

async fn nothing_is_left_after_remove(trial: &Trial) {
    trial.prepare().await;
    assert_eq!(trial.observe().await.health, Health::Healthy, "a prepare ends when the server answers");
    for _ in 0..2 {
        trial.server.remove(&trial.cx()).await.unwrap();
        trial.has_no_residue().await;
        assert!(!matches!(trial.observe().await.health, Health::Healthy | Health::Starting));
    }
}

async fn a_killed_server_is_removed_like_any_other(trial: &Trial) {
    trial.prepare().await;
    trial.harm(Harm::Kill).await;
    trial.reattached().remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn a_suspended_server_is_removed_like_any_other(trial: &Trial) {
    trial.prepare().await;
    trial.harm(Harm::Freeze).await;
    trial.reattached().remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn a_stopped_server_is_removed_like_any_other(trial: &Trial) {
    trial.prepare().await;
    trial.server.stop(&trial.cx()).await.unwrap();
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
    assert_ne!(trial.observe().await.health, Health::Healthy);
}

async fn a_removed_server_is_prepared_again(trial: &Trial) {
    trial.prepare().await;
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.prepare().await;
    trial.app_serves().await;
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn a_start_never_begins_a_removed_server_anew(trial: &Trial) {
    trial.prepare().await;
    trial.note("or gone").await;
    trial.server.remove(&trial.cx()).await.unwrap();
    // Its data may be there still, and may be served; a server without it may not.
    match trial.reattached().start(&trial.cx()).await {
        Ok(()) => trial.has_note("or gone").await,
        Err(error) => assert_ne!(trial.observe().await.health, Health::Healthy, "{error:?}"),
    }
    trial.reattached().remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn a_start_never_begins_lost_data_anew(trial: &Trial) {
    trial.prepare().await;
    trial.harm(Harm::LoseData).await;
    trial.sees_condition(Condition::DataMissing).await;
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(refused(server.start(&trial.cx()).await), Kind::Corrupt);
        trial.sees_condition(Condition::DataMissing).await;
    }
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn nothing_is_left_of_a_prepare_that_failed(trial: &Trial) {
    let (image, known) = trial.missing_image();
    let mut host = trial.host.clone();
    host.image = image;
    let server = trial.testbed().driver().attach(host).unwrap();
    let kind = refused(server.prepare(&trial.cx(), &trial.spec()).await);
    assert!(kind == Kind::NotFound || (!known && kind == Kind::Unavailable), "{kind:?}");
    assert!(!matches!(trial.observe().await.health, Health::Healthy | Health::Starting));
    server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
    // It was not the place that failed.
    trial.prepare().await;
    trial.app_serves().await;
}
