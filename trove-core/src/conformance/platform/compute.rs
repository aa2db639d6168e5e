//! Where instances run.

use futures_util::future::join_all;

use super::Trial;
use crate::{
    conformance::case::{Case, cases, skip},
    datastore::{GuestHost, resource_name},
    error::Kind,
    model::{Flavor, mib},
};

pub(super) fn cases() -> Vec<Case<Trial>> {
    cases![
        a_place_is_what_the_instance_asks_for,
        a_place_is_the_same_at_every_call,
        a_place_is_the_same_in_another_process,
        a_place_follows_its_instance,
        places_of_instances_are_apart,
        many_that_ask_at_once_get_one_place,
        a_place_is_refused_before_its_volume_and_its_endpoint,
        releasing_an_absent_place_is_ok,
        a_place_given_back_can_be_had_again,
        texts_of_an_instance_are_passed_on_as_they_are,
        an_agent_elsewhere_answers_whichever_process_asks,
    ]
}

fn shown(host: &GuestHost) -> String {
    format!("{host:?}")
}

async fn a_place_is_what_the_instance_asks_for(trial: &Trial) {
    let mut instance = trial.instance();
    instance.project = "acme".to_owned();
    trial.volume(&instance).await;
    let endpoint = trial.endpoint(&instance).await;
    let host = trial.compute(&instance, &endpoint).await;
    assert_eq!((host.instance, host.name.as_str()), (instance.id, resource_name(instance.id).as_str()));
    assert_eq!((host.endpoint, host.flavor), (endpoint, instance.flavor));
    assert_eq!((host.version, host.image), (instance.version_number, instance.image));
    assert_eq!((host.project, host.volume_size), (instance.project, instance.volume));
}

async fn a_place_is_the_same_at_every_call(trial: &Trial) {
    let instance = trial.instance();
    let host = trial.place(&instance).await;
    for _ in 0..2 {
        assert_eq!(shown(&trial.place(&instance).await), shown(&host));
    }
}

async fn a_place_is_the_same_in_another_process(trial: &Trial) {
    let instance = trial.instance();
    let host = trial.place(&instance).await;
    trial.reopen().await;
    assert_eq!(shown(&trial.place(&instance).await), shown(&host));
}

async fn a_place_follows_its_instance(trial: &Trial) {
    let mut instance = trial.instance();
    trial.place(&instance).await;
    instance.flavor = Flavor::new("large", mib(512), 2);
    instance.image.push_str("-other");
    let host = trial.place(&instance).await;
    assert_eq!((host.flavor, host.image), (instance.flavor, instance.image));
}

async fn places_of_instances_are_apart(trial: &Trial) {
    let (one, other) = (trial.instance(), trial.instance());
    let (first, second) = (trial.place(&one).await, trial.place(&other).await);
    assert_ne!(first.name, second.name);
    assert_ne!(first.endpoint, second.endpoint);
    trial.release(one.id).await;
    assert_eq!(shown(&trial.place(&other).await), shown(&second));
}

async fn many_that_ask_at_once_get_one_place(trial: &Trial) {
    let instance = trial.instance();
    let hosts = join_all((0..8).map(|_| trial.place(&instance))).await;
    assert!(hosts.iter().all(|host| shown(host) == shown(&hosts[0])), "{hosts:?}");
}

async fn a_place_is_refused_before_its_volume_and_its_endpoint(trial: &Trial) {
    let (homeless, unreachable, neighbour) = (trial.instance(), trial.instance(), trial.instance());
    let endpoint = trial.endpoint(&homeless).await;
    let other = trial.place(&neighbour).await.endpoint;
    trial.volume(&unreachable).await;
    for (instance, endpoint) in [(&homeless, &endpoint), (&unreachable, &other)] {
        let setup = trial.setup(instance).await;
        let placed = trial.platform().compute.ensure_compute(instance, endpoint, setup.as_ref()).await;
        assert_eq!(placed.expect_err("it was not refused").kind(), Kind::Conflict);
    }
}

async fn releasing_an_absent_place_is_ok(trial: &Trial) {
    let instance = trial.instance();
    let platform = trial.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    trial.place(&instance).await;
    for _ in 0..2 {
        platform.compute.release_compute(instance.id).await.unwrap();
    }
}

async fn a_place_given_back_can_be_had_again(trial: &Trial) {
    let instance = trial.instance();
    let first = trial.place(&instance).await;
    trial.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(shown(&trial.place(&instance).await), shown(&first));
}

async fn texts_of_an_instance_are_passed_on_as_they_are(trial: &Trial) {
    for text in ["", "../../../etc", "a/b\0c\n", "α'; DROP TABLE instances; --", &"x".repeat(5000)] {
        let mut instance = trial.instance();
        for field in [&mut instance.name, &mut instance.project, &mut instance.version_number, &mut instance.image] {
            *field = text.to_owned();
        }
        let host = trial.place(&instance).await;
        assert_eq!((host.project.as_str(), host.version.as_str(), host.image.as_str()), (text, text, text));
        assert_eq!(host.name, resource_name(instance.id));
        trial.release(instance.id).await;
        trial.nothing_is_left().await;
    }
}

async fn an_agent_elsewhere_answers_whichever_process_asks(trial: &Trial) {
    let Some(agents) = trial.testbed().agents() else { skip("agents live in the service's process") };
    let instance = trial.instance();
    for _ in 0..2 {
        trial.place(&instance).await;
        agents.answers(instance.id).await.unwrap();
        trial.reopen().await;
        agents.answers(instance.id).await.unwrap();
    }
    trial.platform().compute.release_compute(instance.id).await.unwrap();
    trial.place(&instance).await;
    agents.answers(instance.id).await.unwrap();
}
