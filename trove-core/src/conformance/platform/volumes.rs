//! What data lives on.

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::{
    conformance::case::{Case, cases, skip},
    error::Kind,
};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
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

async fn a_volume_that_is_there_keeps_its_data(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.volume(&instance).await;
    assert_eq!(fixture.get(&instance).await, None, "a new volume is empty");
    fixture.put(&instance, "first").await;
    for _ in 0..2 {
        fixture.volume(&instance).await;
        assert_eq!(fixture.get(&instance).await.as_deref(), Some("first"));
    }
}

async fn a_volume_is_found_by_another_process(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.volume(&instance).await;
    fixture.put(&instance, "kept").await;
    fixture.reopen().await;
    fixture.volume(&instance).await;
    assert_eq!(fixture.get(&instance).await.as_deref(), Some("kept"));
}

async fn a_volume_outlives_the_compute_and_the_endpoint(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.place(&instance).await;
    fixture.put(&instance, "kept").await;
    let platform = fixture.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    drop(platform);
    fixture.place(&instance).await;
    assert_eq!(fixture.get(&instance).await.as_deref(), Some("kept"));
}

async fn a_volume_made_again_is_empty(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.volume(&instance).await;
    fixture.put(&instance, "gone").await;
    fixture.platform().volumes.release_volume(instance.id).await.unwrap();
    fixture.volume(&instance).await;
    assert_eq!(fixture.get(&instance).await, None);
}

async fn volumes_of_instances_are_apart(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    for instance in [&one, &other] {
        fixture.volume(instance).await;
        fixture.put(instance, &instance.id.to_string()).await;
    }
    assert_eq!(fixture.get(&one).await, Some(one.id.to_string()));
    fixture.platform().volumes.release_volume(one.id).await.unwrap();
    assert_eq!(fixture.get(&other).await, Some(other.id.to_string()));
}

async fn many_that_ask_at_once_get_one_volume(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    join_all((0..8).map(|_| fixture.volume(&instance))).await;
    fixture.put(&instance, "one").await;
    join_all((0..8).map(|_| fixture.volume(&instance))).await;
    assert_eq!(fixture.get(&instance).await.as_deref(), Some("one"));
    let platform = fixture.platform();
    for released in join_all((0..8).map(|_| platform.volumes.release_volume(instance.id))).await {
        released.unwrap();
    }
    fixture.assert_no_leftovers().await;
}

async fn releasing_an_absent_volume_is_ok(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let platform = fixture.platform();
    platform.volumes.release_volume(instance.id).await.unwrap();
    fixture.volume(&instance).await;
    for _ in 0..2 {
        platform.volumes.release_volume(instance.id).await.unwrap();
        fixture.assert_no_leftovers().await;
    }
}

async fn a_volume_that_is_too_large_is_refused_and_leaves_nothing(fixture: &PlatformFixture) {
    let Some(size) = fixture.testbed().too_large() else { skip("the platform takes volumes of any size") };
    let instance = fixture.instance();
    let error = fixture.platform().volumes.ensure_volume(instance.id, size).await.expect_err("it was not refused");
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    fixture.assert_no_leftovers().await;
}
