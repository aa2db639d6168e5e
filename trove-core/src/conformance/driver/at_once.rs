//! Calls that are made at the same time on one instance end as if one had been made after the other.

use std::time::Duration;

use tokio::time::timeout;

use super::{
    Trial,
    suite::{Group, Need},
};
use crate::{
    conformance::case::cases,
    error::Result,
    model::{Health, Settings, SettingsState},
};

/// Nothing here takes so long by itself.
const DEADLOCK: Duration = Duration::from_secs(150);

pub(super) fn groups() -> Vec<Group> {
    let empty = cases![
        two_prepares_at_once_make_one_server,
        a_stop_and_a_removal_at_once_leave_nothing,
        a_prepare_and_a_removal_at_once_can_be_removed,
    ];
    let shared = cases![
        two_starts_at_once_start_one_server,
        a_start_and_a_stop_at_once_settle,
        a_stop_is_looked_at_while_it_is_under_way,
    ];
    vec![
        Group::empty("at_once", &[], empty),
        Group::shared("at_once", &[], shared),
        Group::shared("at_once", &[Need::Configuration], cases![of_two_changes_of_settings_at_once_one_is_the_last]),
    ]
}

async fn two_prepares_at_once_make_one_server(trial: &Trial) {
    let (one, other, spec) = (trial.cx(), trial.cx(), trial.spec());
    both(trial.server.prepare(&one, &spec), trial.server.prepare(&other, &spec)).await;
    trial.app_serves().await;
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn a_stop_and_a_removal_at_once_leave_nothing(trial: &Trial) {
    trial.prepare().await;
    let (one, other) = (trial.cx(), trial.cx());
    // Where the removal was first there is nothing to stop.
    let (_, removed) = within(trial.server.stop(&one), trial.server.remove(&other)).await;
    removed.unwrap();
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
    assert_ne!(trial.observe().await.health, Health::Healthy);
}

async fn a_prepare_and_a_removal_at_once_can_be_removed(trial: &Trial) {
    let (one, other, spec) = (trial.cx(), trial.cx(), trial.spec());
    both(trial.server.prepare(&one, &spec), trial.server.remove(&other)).await;
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn two_starts_at_once_start_one_server(trial: &Trial) {
    trial.note("before").await;
    trial.server.stop(&trial.cx()).await.unwrap();
    let (one, other) = (trial.cx(), trial.cx());
    both(trial.server.start(&one), trial.server.start(&other)).await;
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.has_note("before").await;
}

async fn a_start_and_a_stop_at_once_settle(trial: &Trial) {
    trial.note("before").await;
    let (one, other) = (trial.cx(), trial.cx());
    both(trial.server.stop(&one), trial.server.start(&other)).await;
    let settled = |health: &Health| matches!(health, Health::Healthy | Health::Stopped);
    trial.sees("either", |seen| settled(&seen.health)).await;
    trial.server.start(&trial.cx()).await.unwrap();
    trial.has_note("before").await;
}

async fn a_stop_is_looked_at_while_it_is_under_way(trial: &Trial) {
    let cx = trial.cx();
    trial.observed_meanwhile(trial.server.stop(&cx)).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Stopped);
    trial.server.start(&trial.cx()).await.unwrap();
}

async fn of_two_changes_of_settings_at_once_one_is_the_last(trial: &Trial) {
    let (name, first, second) = trial.live();
    let settings = [&first, &second].map(|value| Settings::from([(name.clone(), value.clone())]));
    let (one, other) = (trial.cx(), trial.cx());
    let configuration = trial.configuration();
    both(configuration.apply(&one, &settings[0]), configuration.apply(&other, &settings[1])).await;
    let found = trial.app().await.parameter(&name).await.unwrap();
    assert!([first, second].iter().any(|value| value.to_string() == found), "{name} is {found}");
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    configuration.apply(&trial.cx(), &Settings::new()).await.unwrap();
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
