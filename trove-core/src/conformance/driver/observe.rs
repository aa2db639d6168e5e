//! What is told of a server is what it is.

use futures_util::future::join_all;

use super::{Harm, Trial, suite::Group};
use crate::{
    conformance::case::cases,
    datastore::Datastore,
    model::{Condition, Health, Observed, Problem},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        a_server_that_serves_is_healthy_and_tells_its_version,
        a_stop_is_told_as_one_by_every_process,
        a_kill_is_told_and_mended_by_a_start,
        a_suspended_server_is_told_and_goes_on_by_itself,
        a_lost_server_is_told_and_comes_back_with_its_data,
        a_full_volume_is_told_until_there_is_room,
        looking_changes_nothing,
    ];
    let empty = cases![what_was_never_prepared_does_not_serve, looking_never_waits_for_a_prepare];
    vec![Group::shared("observe", &[], shared), Group::empty("observe", &[], empty)]
}

async fn a_server_that_serves_is_healthy_and_tells_its_version(trial: &Trial) {
    for server in [trial.server.clone(), trial.reattached()] {
        let seen = look(trial, &*server).await;
        assert_eq!(seen.health, Health::Healthy);
        let version = seen.server_version.expect("a server that answers tells its version");
        let begins = version.starts_with(&trial.host.version);
        assert!(begins, "a place of version {} has a server of version {version}", trial.host.version);
        let settings = server.abilities().configuration.is_some();
        assert_eq!(seen.settings.is_some(), settings, "where there are settings it is told how they stand");
    }
}

async fn a_stop_is_told_as_one_by_every_process(trial: &Trial) {
    trial.server.stop(&trial.cx()).await.unwrap();
    for server in [trial.server.clone(), trial.reattached()] {
        let seen = look(trial, &*server).await;
        assert_eq!((seen.health, seen.server_version), (Health::Stopped, None));
    }
    trial.server.start(&trial.cx()).await.unwrap();
    trial.sees_healthy().await;
}

async fn a_kill_is_told_and_mended_by_a_start(trial: &Trial) {
    trial.note("through a kill").await;
    trial.harm(Harm::Kill).await;
    trial.sees_condition(Condition::Killed).await;
    is_down(&look(trial, &*trial.reattached()).await, &[Condition::Killed]);
    assert!(trial.app_is_refused().await);
    trial.reattached().start(&trial.cx()).await.unwrap();
    trial.sees_healthy().await;
    trial.has_note("through a kill").await;
}

async fn a_suspended_server_is_told_and_goes_on_by_itself(trial: &Trial) {
    let suspended = [Condition::Paused, Condition::NotAnswering];
    let mut session = trial.app().await;
    trial.harm(Harm::Freeze).await;
    let told = |seen: &Observed| seen.health.problem().is_some_and(|problem| suspended.contains(&problem.condition));
    trial.sees("that it is suspended", told).await;
    is_down(&trial.observe().await, &suspended);
    trial.harm(Harm::Thaw).await;
    trial.sees_healthy().await;
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_lost_server_is_told_and_comes_back_with_its_data(trial: &Trial) {
    trial.note("through a loss").await;
    trial.harm(Harm::Lose).await;
    trial.sees_condition(Condition::Removed).await;
    is_down(&look(trial, &*trial.reattached()).await, &[Condition::Removed]);
    trial.server.start(&trial.cx()).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.has_note("through a loss").await;
}

async fn a_full_volume_is_told_until_there_is_room(trial: &Trial) {
    trial.harm(Harm::Fill).await;
    let seen = trial.sees_condition(Condition::DiskFull).await;
    if let Some(disk) = seen.disk {
        let empty = trial.host.volume_size.as_bytes() / 2;
        assert!(disk.free.as_bytes() <= empty, "a full volume has room: {disk:?}");
    }
    trial.harm(Harm::Drain).await;
    // A server that it stopped is for a start to mend.
    if !matches!(trial.observe().await.health, Health::Healthy | Health::Impaired(_)) {
        trial.server.start(&trial.cx()).await.unwrap();
    }
    trial.sees_healthy().await;
    trial.app_serves().await;
}

async fn looking_changes_nothing(trial: &Trial) {
    let mut session = trial.app().await;
    let servers: Vec<_> = (0..8).map(|_| trial.reattached()).collect();
    for seen in join_all(servers.iter().map(|server| look(trial, &**server))).await {
        assert_eq!(seen.health, Health::Healthy);
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn what_was_never_prepared_does_not_serve(trial: &Trial) {
    let seen = trial.observe().await;
    assert!(matches!(seen.health, Health::Down(_) | Health::Unknown(_)), "{seen:?}");
    assert_eq!(seen.server_version, None);
}

async fn looking_never_waits_for_a_prepare(trial: &Trial) {
    let (cx, spec) = (trial.cx(), trial.spec());
    trial.observed_meanwhile(trial.server.prepare(&cx, &spec)).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy);
}

async fn look(trial: &Trial, server: &dyn Datastore) -> Observed {
    server.observe(&trial.cx()).await.unwrap_or_else(|error| panic!("observe: {error:?}"))
}

#[track_caller]
fn is_down(seen: &Observed, conditions: &[Condition]) {
    let told = matches!(&seen.health, Health::Down(Problem { condition, .. }) if conditions.contains(condition));
    assert!(told, "not {conditions:?}: {seen:?}");
}
