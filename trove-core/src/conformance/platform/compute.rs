//! Where instances run.

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::{
    conformance::case::{Case, cases, skip},
    datastore::{GuestHost, resource_name},
    error::Kind,
    model::{Flavor, mib},
};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
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

async fn a_place_is_what_the_instance_asks_for(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    instance.project = "acme".to_owned();
    fixture.volume(&instance).await;
    let endpoint = fixture.endpoint(&instance).await;
    let host = fixture.compute(&instance, &endpoint).await;
    assert_eq!((host.instance, host.name.as_str()), (instance.id, resource_name(instance.id).as_str()));
    assert_eq!((host.endpoint, host.flavor), (endpoint, instance.flavor));
    assert_eq!((host.version, host.image), (instance.version_number, instance.image));
    assert_eq!((host.project, host.volume_size), (instance.project, instance.volume));
}

async fn a_place_is_the_same_at_every_call(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let host = fixture.place(&instance).await;
    for _ in 0..2 {
        assert_eq!(shown(&fixture.place(&instance).await), shown(&host));
    }
}

async fn a_place_is_the_same_in_another_process(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let host = fixture.place(&instance).await;
    fixture.reopen().await;
    assert_eq!(shown(&fixture.place(&instance).await), shown(&host));
}

async fn a_place_follows_its_instance(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    fixture.place(&instance).await;
    instance.flavor = Flavor::new("large", mib(512), 2);
    instance.image.push_str("-other");
    let host = fixture.place(&instance).await;
    assert_eq!((host.flavor, host.image), (instance.flavor, instance.image));
}

async fn places_of_instances_are_apart(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    let (first, second) = (fixture.place(&one).await, fixture.place(&other).await);
    assert_ne!(first.name, second.name);
    assert_ne!(first.endpoint, second.endpoint);
    fixture.release(one.id).await;
    assert_eq!(shown(&fixture.place(&other).await), shown(&second));
}

async fn many_that_ask_at_once_get_one_place(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let hosts = join_all((0..8).map(|_| fixture.place(&instance))).await;
    assert!(hosts.iter().all(|host| shown(host) == shown(&hosts[0])), "{hosts:?}");
}

async fn a_place_is_refused_before_its_volume_and_its_endpoint(fixture: &PlatformFixture) {
    let (homeless, unreachable, neighbour) = (fixture.instance(), fixture.instance(), fixture.instance());
    let endpoint = fixture.endpoint(&homeless).await;
    let other = fixture.place(&neighbour).await.endpoint;
    fixture.volume(&unreachable).await;
    for (instance, endpoint) in [(&homeless, &endpoint), (&unreachable, &other)] {
        let setup = fixture.setup(instance).await;
        let placed = fixture.platform().compute.ensure_compute(instance, endpoint, setup.as_ref()).await;
        assert_eq!(placed.expect_err("it was not refused").kind(), Kind::Conflict);
    }
}

async fn releasing_an_absent_place_is_ok(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let platform = fixture.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    fixture.place(&instance).await;
    for _ in 0..2 {
        platform.compute.release_compute(instance.id).await.unwrap();
    }
}

async fn a_place_given_back_can_be_had_again(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let first = fixture.place(&instance).await;
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(shown(&fixture.place(&instance).await), shown(&first));
}

async fn texts_of_an_instance_are_passed_on_as_they_are(fixture: &PlatformFixture) {
    for text in ["", "../../../etc", "a/b\0c\n", "α'; DROP TABLE instances; --", &"x".repeat(5000)] {
        let mut instance = fixture.instance();
        for field in [&mut instance.name, &mut instance.project, &mut instance.version_number, &mut instance.image] {
            *field = text.to_owned();
        }
        let host = fixture.place(&instance).await;
        assert_eq!((host.project.as_str(), host.version.as_str(), host.image.as_str()), (text, text, text));
        assert_eq!(host.name, resource_name(instance.id));
        fixture.release(instance.id).await;
        fixture.assert_no_leftovers().await;
    }
}

async fn an_agent_elsewhere_answers_whichever_process_asks(fixture: &PlatformFixture) {
    let Some(agents) = fixture.testbed().agents() else { skip("agents live in the service's process") };
    let instance = fixture.instance();
    for _ in 0..2 {
        fixture.place(&instance).await;
        agents.answers(instance.id).await.unwrap();
        fixture.reopen().await;
        agents.answers(instance.id).await.unwrap();
    }
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    fixture.place(&instance).await;
    agents.answers(instance.id).await.unwrap();
}
