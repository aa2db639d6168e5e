//! Networks: the endpoints of instances.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::{
    conformance::case::{Case, cases},
    model::Endpoint,
};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
    cases![
        repeated_calls_return_the_same_endpoint,
        an_endpoint_is_the_same_after_a_restart,
        an_endpoint_survives_the_release_of_its_compute,
        repeated_calls_return_the_same_public_endpoint,
        endpoints_of_instances_are_distinct,
        concurrently_created_endpoints_are_distinct,
        concurrent_calls_return_the_same_endpoint,
        releasing_an_endpoint_does_not_affect_others,
        releasing_an_absent_endpoint_is_ok,
        a_released_endpoint_can_be_created_again,
    ]
}

fn assert_valid(endpoint: &Endpoint) {
    assert!(!endpoint.host.is_empty() && endpoint.port > 0, "{endpoint:?} is not a valid address");
}

async fn repeated_calls_return_the_same_endpoint(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.ensure_endpoint(&instance).await;
    assert_valid(&endpoint);
    for _ in 0..3 {
        assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_is_the_same_after_a_restart(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.ensure_endpoint(&instance).await;
    for _ in 0..2 {
        fixture.reopen().await;
        assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_survives_the_release_of_its_compute(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.provision(&instance).await.endpoint;
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint);
}

async fn repeated_calls_return_the_same_public_endpoint(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    instance.public = true;
    let endpoint = fixture.ensure_endpoint(&instance).await;
    assert_valid(&endpoint);
    assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint);
    fixture.reopen().await;
    assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint);
}

async fn endpoints_of_instances_are_distinct(fixture: &PlatformFixture) {
    let mut seen = HashSet::new();
    for number in 0..6 {
        let mut instance = fixture.instance();
        instance.public = number % 2 == 0;
        let Endpoint { host, port } = fixture.ensure_endpoint(&instance).await;
        assert!(seen.insert((host.clone(), port)), "{host}:{port} was assigned twice");
    }
}

async fn concurrently_created_endpoints_are_distinct(fixture: &PlatformFixture) {
    let instances: Vec<_> = (0..16).map(|_| fixture.instance()).collect();
    let endpoints = join_all(instances.iter().map(|instance| fixture.ensure_endpoint(instance))).await;
    let distinct: HashSet<_> = endpoints.iter().map(|endpoint| (&endpoint.host, endpoint.port)).collect();
    assert_eq!(distinct.len(), instances.len(), "some endpoints are equal: {endpoints:?}");
    let again = join_all(instances.iter().map(|instance| fixture.ensure_endpoint(instance))).await;
    assert_eq!(again, endpoints);
}

async fn concurrent_calls_return_the_same_endpoint(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoints = join_all((0..8).map(|_| fixture.ensure_endpoint(&instance))).await;
    assert!(endpoints.iter().all(|endpoint| *endpoint == endpoints[0]), "{endpoints:?}");
    let platform = fixture.platform();
    for released in join_all((0..8).map(|_| platform.networks.release_endpoint(instance.id))).await {
        released.unwrap();
    }
    fixture.assert_no_leftovers().await;
}

async fn releasing_an_endpoint_does_not_affect_others(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    let (_, kept) = (fixture.ensure_endpoint(&one).await, fixture.ensure_endpoint(&other).await);
    fixture.platform().networks.release_endpoint(one.id).await.unwrap();
    assert_eq!(fixture.ensure_endpoint(&other).await, kept);
}

async fn releasing_an_absent_endpoint_is_ok(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let platform = fixture.platform();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    fixture.ensure_endpoint(&instance).await;
    for _ in 0..2 {
        platform.networks.release_endpoint(instance.id).await.unwrap();
        fixture.assert_no_leftovers().await;
    }
}

async fn a_released_endpoint_can_be_created_again(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    for _ in 0..3 {
        assert_valid(&fixture.ensure_endpoint(&instance).await);
        fixture.platform().networks.release_endpoint(instance.id).await.unwrap();
    }
}
