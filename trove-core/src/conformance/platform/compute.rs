//! Compute: where instances run.

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
        a_host_matches_its_instance,
        repeated_calls_return_the_same_host,
        a_host_is_the_same_after_a_restart,
        a_host_follows_changes_of_flavor_and_image,
        hosts_of_instances_are_distinct,
        concurrent_calls_return_the_same_host,
        compute_requires_a_volume_and_an_endpoint,
        releasing_absent_compute_is_ok,
        releasing_compute_ends_a_server_that_was_not_removed,
        released_compute_can_be_created_again,
        texts_of_an_instance_are_passed_through_unchanged,
        a_remote_agent_responds_across_restarts_of_the_platform,
    ]
}

/// Returns a form of a host that can be compared.
fn to_text(host: &GuestHost) -> String {
    format!("{host:?}")
}

async fn a_host_matches_its_instance(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    instance.project = "acme".to_owned();
    fixture.ensure_volume(&instance).await;
    let endpoint = fixture.ensure_endpoint(&instance).await;
    let host = fixture.ensure_compute(&instance, &endpoint).await;
    assert_eq!((host.instance, host.name.as_str()), (instance.id, resource_name(instance.id).as_str()));
    assert_eq!((host.endpoint, host.flavor), (endpoint, instance.flavor));
    assert_eq!((host.version, host.image), (instance.version_number, instance.image));
    assert_eq!((host.project, host.volume_size), (instance.project, instance.volume));
}

async fn repeated_calls_return_the_same_host(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let host = fixture.provision(&instance).await;
    for _ in 0..2 {
        assert_eq!(to_text(&fixture.provision(&instance).await), to_text(&host));
    }
}

async fn a_host_is_the_same_after_a_restart(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let host = fixture.provision(&instance).await;
    fixture.reopen().await;
    assert_eq!(to_text(&fixture.provision(&instance).await), to_text(&host));
}

async fn a_host_follows_changes_of_flavor_and_image(fixture: &PlatformFixture) {
    let mut instance = fixture.instance();
    fixture.provision(&instance).await;
    instance.flavor = Flavor::new("large", mib(512), 2);
    instance.image.push_str("-other");
    let host = fixture.provision(&instance).await;
    assert_eq!((host.flavor, host.image), (instance.flavor, instance.image));
}

async fn hosts_of_instances_are_distinct(fixture: &PlatformFixture) {
    let (one, other) = (fixture.instance(), fixture.instance());
    let (first, second) = (fixture.provision(&one).await, fixture.provision(&other).await);
    assert_ne!(first.name, second.name);
    assert_ne!(first.endpoint, second.endpoint);
    fixture.release(one.id).await;
    assert_eq!(to_text(&fixture.provision(&other).await), to_text(&second));
}

async fn concurrent_calls_return_the_same_host(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let hosts = join_all((0..8).map(|_| fixture.provision(&instance))).await;
    assert!(hosts.iter().all(|host| to_text(host) == to_text(&hosts[0])), "{hosts:?}");
}

async fn compute_requires_a_volume_and_an_endpoint(fixture: &PlatformFixture) {
    let (without_volume, without_endpoint, neighbor) = (fixture.instance(), fixture.instance(), fixture.instance());
    let endpoint = fixture.ensure_endpoint(&without_volume).await;
    let other = fixture.provision(&neighbor).await.endpoint;
    fixture.ensure_volume(&without_endpoint).await;
    for (instance, endpoint) in [(&without_volume, &endpoint), (&without_endpoint, &other)] {
        let setup = fixture.setup(instance).await;
        let placed = fixture.platform().compute.ensure_compute(instance, endpoint, setup.as_ref()).await;
        assert_eq!(placed.expect_err("the compute was created").kind(), Kind::Conflict);
    }
}

async fn releasing_absent_compute_is_ok(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let platform = fixture.platform();
    platform.compute.release_compute(instance.id).await.unwrap();
    fixture.provision(&instance).await;
    for _ in 0..2 {
        platform.compute.release_compute(instance.id).await.unwrap();
    }
}

async fn releasing_compute_ends_a_server_that_was_not_removed(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let host = fixture.provision(&instance).await;
    let before = fixture.testbed().leftovers().await.unwrap();
    fixture.testbed().start_server(&host).await.unwrap();
    assert!(fixture.testbed().leftovers().await.unwrap().len() > before.len(), "the testbed does not list the server");
    fixture.release(instance.id).await;
    fixture.assert_no_leftovers().await;
}

async fn released_compute_can_be_created_again(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    let first = fixture.provision(&instance).await;
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    assert_eq!(to_text(&fixture.provision(&instance).await), to_text(&first));
}

async fn texts_of_an_instance_are_passed_through_unchanged(fixture: &PlatformFixture) {
    for text in ["", "../../../etc", "a/b\0c\n", "α'; DROP TABLE instances; --", &"x".repeat(5000)] {
        let mut instance = fixture.instance();
        for field in [&mut instance.name, &mut instance.project, &mut instance.version_number, &mut instance.image] {
            *field = text.to_owned();
        }
        let host = fixture.provision(&instance).await;
        assert_eq!((host.project.as_str(), host.version.as_str(), host.image.as_str()), (text, text, text));
        assert_eq!(host.name, resource_name(instance.id));
        fixture.release(instance.id).await;
        fixture.assert_no_leftovers().await;
    }
}

async fn a_remote_agent_responds_across_restarts_of_the_platform(fixture: &PlatformFixture) {
    let Some(agents) = fixture.testbed().agents() else { skip("the platform runs no remote agents") };
    let instance = fixture.instance();
    for _ in 0..2 {
        fixture.provision(&instance).await;
        agents.wait_for_response(instance.id).await.unwrap();
        fixture.reopen().await;
        agents.wait_for_response(instance.id).await.unwrap();
    }
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    fixture.provision(&instance).await;
    agents.wait_for_response(instance.id).await.unwrap();
}
