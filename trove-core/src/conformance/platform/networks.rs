//! How instances are reached.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::{
    conformance::case::{Case, cases},
    model::Endpoint,
};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
    cases![
        an_endpoint_is_the_same_at_every_call,
        an_endpoint_is_the_same_in_another_process,
        an_endpoint_outlives_the_compute,
        a_public_endpoint_is_the_same_at_every_call,
        endpoints_of_instances_are_distinct,
        many_instances_at_once_have_distinct_endpoints,
        many_that_ask_at_once_get_one_endpoint,
        an_endpoint_given_back_leaves_others_alone,
        releasing_an_absent_endpoint_is_ok,
        an_endpoint_given_back_can_be_had_again,
    ]
}

fn check(endpoint: &Endpoint) {
    assert!(!endpoint.host.is_empty() && endpoint.port > 0, "nobody can reach {endpoint:?}");
}

async fn an_endpoint_is_the_same_at_every_call(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.endpoint(&instance).await;
    check(&endpoint);
    for _ in 0..3 {
        assert_eq!(fixture.endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_is_the_same_in_another_process(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.endpoint(&instance).await;
    for _ in 0..2 {
        fixture.reopen().await;
        assert_eq!(fixture.endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_outlives_the_compute(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoint = fixture.place(&instance).await.endpoint;
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(fixture.endpoint(&instance).await, endpoint);
}

async fn a_public_endpoint_is_the_same_at_every_call(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    instance.public = true;
    let endpoint = fixture.endpoint(&instance).await;
    check(&endpoint);
    assert_eq!(fixture.endpoint(&instance).await, endpoint);
    fixture.reopen().await;
    assert_eq!(fixture.endpoint(&instance).await, endpoint);
}

async fn endpoints_of_instances_are_distinct(fixture: &PlatformFixture) {
    let mut seen = HashSet::new();
    for number in 0..6 {
        let mut instance = fixture.instance();
        instance.public = number % 2 == 0;
        let Endpoint { host, port } = fixture.endpoint(&instance).await;
        assert!(seen.insert((host.clone(), port)), "{host}:{port} was given twice");
    }
}

async fn many_instances_at_once_have_distinct_endpoints(fixture: &PlatformFixture) {
    let instances: Vec<_> = (0..16).map(|_| fixture.instance()).collect();
    let endpoints = join_all(instances.iter().map(|instance| fixture.endpoint(instance))).await;
    let distinct: HashSet<_> = endpoints.iter().map(|endpoint| (&endpoint.host, endpoint.port)).collect();
    assert_eq!(distinct.len(), instances.len(), "some are the same: {endpoints:?}");
    let again = join_all(instances.iter().map(|instance| fixture.endpoint(instance))).await;
    assert_eq!(again, endpoints);
}

async fn many_that_ask_at_once_get_one_endpoint(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let endpoints = join_all((0..8).map(|_| fixture.endpoint(&instance))).await;
    assert!(endpoints.iter().all(|endpoint| *endpoint == endpoints[0]), "{endpoints:?}");
    let platform = fixture.platform();
    for released in join_all((0..8).map(|_| platform.networks.release_endpoint(instance.id))).await {
        released.unwrap();
    }
    fixture.assert_no_leftovers().await;
}

async fn an_endpoint_given_back_leaves_others_alone(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    let (_, kept) = (fixture.endpoint(&one).await, fixture.endpoint(&other).await);
    fixture.platform().networks.release_endpoint(one.id).await.unwrap();
    assert_eq!(fixture.endpoint(&other).await, kept);
}

async fn releasing_an_absent_endpoint_is_ok(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let platform = fixture.platform();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    fixture.endpoint(&instance).await;
    for _ in 0..2 {
        platform.networks.release_endpoint(instance.id).await.unwrap();
        fixture.assert_no_leftovers().await;
    }
}

async fn an_endpoint_given_back_can_be_had_again(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    for _ in 0..3 {
        check(&fixture.endpoint(&instance).await);
        fixture.platform().networks.release_endpoint(instance.id).await.unwrap();
    }
}
