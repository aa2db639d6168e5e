//! Volumes: the data of instances.

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::{
    conformance::case::{Case, cases, skip},
    error::Kind,
};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
    cases![
        an_existing_volume_keeps_its_data,
        a_volume_keeps_its_data_after_a_restart,
        a_volume_survives_the_release_of_compute_and_endpoint,
        a_recreated_volume_is_empty,
        volumes_of_instances_are_isolated,
        concurrent_calls_create_one_volume,
        releasing_an_absent_volume_is_ok,
        an_oversized_volume_is_rejected_and_leaves_nothing,
    ]
}

async fn an_existing_volume_keeps_its_data(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.ensure_volume(&instance).await;
    assert_eq!(fixture.read_volume(&instance).await, None, "a new volume is empty");
    fixture.write_volume(&instance, "first").await;
    for _ in 0..2 {
        fixture.ensure_volume(&instance).await;
        assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("first"));
    }
}

async fn a_volume_keeps_its_data_after_a_restart(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.ensure_volume(&instance).await;
    fixture.write_volume(&instance, "kept").await;
    fixture.reopen().await;
    fixture.ensure_volume(&instance).await;
    assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("kept"));
}

async fn a_volume_survives_the_release_of_compute_and_endpoint(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.provision(&instance).await;
    fixture.write_volume(&instance, "kept").await;
    let platform = fixture.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    drop(platform);
    fixture.provision(&instance).await;
    assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("kept"));
}

async fn a_recreated_volume_is_empty(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.ensure_volume(&instance).await;
    fixture.write_volume(&instance, "gone").await;
    fixture.platform().volumes.release_volume(instance.id).await.unwrap();
    fixture.ensure_volume(&instance).await;
    assert_eq!(fixture.read_volume(&instance).await, None);
}

async fn volumes_of_instances_are_isolated(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    for instance in [&one, &other] {
        fixture.ensure_volume(instance).await;
        fixture.write_volume(instance, &instance.id.to_string()).await;
    }
    assert_eq!(fixture.read_volume(&one).await, Some(one.id.to_string()));
    fixture.platform().volumes.release_volume(one.id).await.unwrap();
    assert_eq!(fixture.read_volume(&other).await, Some(other.id.to_string()));
}

async fn concurrent_calls_create_one_volume(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    join_all((0..8).map(|_| fixture.ensure_volume(&instance))).await;
    fixture.write_volume(&instance, "one").await;
    join_all((0..8).map(|_| fixture.ensure_volume(&instance))).await;
    assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("one"));
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
    fixture.ensure_volume(&instance).await;
    for _ in 0..2 {
        platform.volumes.release_volume(instance.id).await.unwrap();
        fixture.assert_no_leftovers().await;
    }
}

async fn an_oversized_volume_is_rejected_and_leaves_nothing(fixture: &PlatformFixture) {
    let Some(size) = fixture.testbed().oversized_volume() else { skip("the platform does not limit volumes") };
    let instance = fixture.instance();
    let error = fixture.platform().volumes.ensure_volume(instance.id, size).await.expect_err("the volume was created");
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    fixture.assert_no_leftovers().await;
}
