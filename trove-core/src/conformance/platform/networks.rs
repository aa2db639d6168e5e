//! How instances are reached.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::Trial;
use crate::{
    conformance::case::{Case, cases},
    model::Endpoint,
};

pub(super) fn cases() -> Vec<Case<Trial>> {
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

async fn an_endpoint_is_the_same_at_every_call(trial: &Trial) {
    let instance = trial.instance();
    let endpoint = trial.endpoint(&instance).await;
    check(&endpoint);
    for _ in 0..3 {
        assert_eq!(trial.endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_is_the_same_in_another_process(trial: &Trial) {
    let instance = trial.instance();
    let endpoint = trial.endpoint(&instance).await;
    for _ in 0..2 {
        trial.reopen().await;
        assert_eq!(trial.endpoint(&instance).await, endpoint);
    }
}

async fn an_endpoint_outlives_the_compute(trial: &Trial) {
    let instance = trial.instance();
    let endpoint = trial.place(&instance).await.endpoint;
    trial.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(trial.endpoint(&instance).await, endpoint);
}

async fn a_public_endpoint_is_the_same_at_every_call(trial: &Trial) {
    let mut instance = trial.instance();
    instance.public = true;
    let endpoint = trial.endpoint(&instance).await;
    check(&endpoint);
    assert_eq!(trial.endpoint(&instance).await, endpoint);
    trial.reopen().await;
    assert_eq!(trial.endpoint(&instance).await, endpoint);
}

async fn endpoints_of_instances_are_distinct(trial: &Trial) {
    let mut seen = HashSet::new();
    for number in 0..6 {
        let mut instance = trial.instance();
        instance.public = number % 2 == 0;
        let Endpoint { host, port } = trial.endpoint(&instance).await;
        assert!(seen.insert((host.clone(), port)), "{host}:{port} was given twice");
    }
}

async fn many_instances_at_once_have_distinct_endpoints(trial: &Trial) {
    let instances: Vec<_> = (0..16).map(|_| trial.instance()).collect();
    let endpoints = join_all(instances.iter().map(|instance| trial.endpoint(instance))).await;
    let distinct: HashSet<_> = endpoints.iter().map(|endpoint| (&endpoint.host, endpoint.port)).collect();
    assert_eq!(distinct.len(), instances.len(), "some are the same: {endpoints:?}");
    let again = join_all(instances.iter().map(|instance| trial.endpoint(instance))).await;
    assert_eq!(again, endpoints);
}

async fn many_that_ask_at_once_get_one_endpoint(trial: &Trial) {
    let instance = trial.instance();
    let endpoints = join_all((0..8).map(|_| trial.endpoint(&instance))).await;
    assert!(endpoints.iter().all(|endpoint| *endpoint == endpoints[0]), "{endpoints:?}");
    let platform = trial.platform();
    for released in join_all((0..8).map(|_| platform.networks.release_endpoint(instance.id))).await {
        released.unwrap();
    }
    trial.nothing_is_left().await;
}

async fn an_endpoint_given_back_leaves_others_alone(trial: &Trial) {
    let (one, other) = (trial.instance(), trial.instance());
    let (_, kept) = (trial.endpoint(&one).await, trial.endpoint(&other).await);
    trial.platform().networks.release_endpoint(one.id).await.unwrap();
    assert_eq!(trial.endpoint(&other).await, kept);
}

async fn releasing_an_absent_endpoint_is_ok(trial: &Trial) {
    let instance = trial.instance();
    let platform = trial.platform();
    platform.networks.release_endpoint(instance.id).await.unwrap();
    trial.endpoint(&instance).await;
    for _ in 0..2 {
        platform.networks.release_endpoint(instance.id).await.unwrap();
        trial.nothing_is_left().await;
    }
}

async fn an_endpoint_given_back_can_be_had_again(trial: &Trial) {
    let instance = trial.instance();
    for _ in 0..3 {
        check(&trial.endpoint(&instance).await);
        trial.platform().networks.release_endpoint(instance.id).await.unwrap();
    }
}
