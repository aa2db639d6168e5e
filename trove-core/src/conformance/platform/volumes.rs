//! What data lives on.

use futures_util::future::join_all;

use super::Trial;
use crate::{
    conformance::case::{Case, cases, skip},
    error::Kind,
};

pub(super) fn cases() -> Vec<Case<Trial>> {
    cases![
        a_volume_that_is_there_keeps_its_data,
        a_volume_is_found_by_another_process,
        a_volume_outlives_the_compute_and_the_endpoint,
        a_volume_made_again_is_empty,
        volumes_of_instances_are_apart,
        many_that_ask_at_once_get_one_volume,
        releasing_an_absent_volume_is_ok,
        a_volume_that_is_too_large_is_refused_and_leaves_nothing,
    ]
}

async fn a_volume_that_is_there_keeps_its_data(trial: &Trial) {
    let instance = trial.instance();
    trial.volume(&instance).await;
    assert_eq!(trial.get(&instance).await, None, "a new volume is empty");
    trial.put(&instance, "first").await;
    for _ in 0..2 {
        trial.volume(&instance).await;
        assert_eq!(trial.get(&instance).await.as_deref(), Some("first"));
    }
}

async fn a_volume_is_found_by_another_process(trial: &Trial) {
    let instance = trial.instance();
    trial.volume(&instance).await;
    trial.put(&instance, "kept").await;
    trial.reopen().await;
    trial.volume(&instance).await;
    assert_eq!(trial.get(&instance).await.as_deref(), Some("kept"));
}

async fn a_volume_outlives_the_compute_and_the_endpoint(trial: &Trial) {
    let instance = trial.instance();
    trial.place(&instance).await;
    trial.put(&instance, "kept").await;
    let platform = trial.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    drop(platform);
    trial.place(&instance).await;
    assert_eq!(trial.get(&instance).await.as_deref(), Some("kept"));
}

async fn a_volume_made_again_is_empty(trial: &Trial) {
    let instance = trial.instance();
    trial.volume(&instance).await;
    trial.put(&instance, "gone").await;
    trial.platform().volumes.release_volume(instance.id).await.unwrap();
    trial.volume(&instance).await;
    assert_eq!(trial.get(&instance).await, None);
}

async fn volumes_of_instances_are_apart(trial: &Trial) {
    let (one, other) = (trial.instance(), trial.instance());
    for instance in [&one, &other] {
        trial.volume(instance).await;
        trial.put(instance, &instance.id.to_string()).await;
    }
    assert_eq!(trial.get(&one).await, Some(one.id.to_string()));
    trial.platform().volumes.release_volume(one.id).await.unwrap();
    assert_eq!(trial.get(&other).await, Some(other.id.to_string()));
}

async fn many_that_ask_at_once_get_one_volume(trial: &Trial) {
    let instance = trial.instance();
    join_all((0..8).map(|_| trial.volume(&instance))).await;
    trial.put(&instance, "one").await;
    join_all((0..8).map(|_| trial.volume(&instance))).await;
    assert_eq!(trial.get(&instance).await.as_deref(), Some("one"));
    let platform = trial.platform();
    for released in join_all((0..8).map(|_| platform.volumes.release_volume(instance.id))).await {
        released.unwrap();
    }
    trial.nothing_is_left().await;
}

async fn releasing_an_absent_volume_is_ok(trial: &Trial) {
    let instance = trial.instance();
    let platform = trial.platform();
    platform.volumes.release_volume(instance.id).await.unwrap();
    trial.volume(&instance).await;
    for _ in 0..2 {
        platform.volumes.release_volume(instance.id).await.unwrap();
        trial.nothing_is_left().await;
    }
}

async fn a_volume_that_is_too_large_is_refused_and_leaves_nothing(trial: &Trial) {
    let Some(size) = trial.testbed().too_large() else { skip("the platform takes volumes of any size") };
    let instance = trial.instance();
    let error = trial.platform().volumes.ensure_volume(instance.id, size).await.expect_err("it was not refused");
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    trial.nothing_is_left().await;
}
