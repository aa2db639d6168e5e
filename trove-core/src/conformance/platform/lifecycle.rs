//! Creation and release of all resources, with crashes and dropped calls.

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::conformance::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
    cases![
        released_resources_leave_nothing_behind,
        resources_can_be_released_in_any_order,
        many_instances_are_created_and_released_concurrently,
        a_new_process_continues_where_another_one_died,
        dropped_ensure_calls_lose_nothing,
        dropped_release_calls_can_be_repeated,
    ]
}

async fn released_resources_leave_nothing_behind(fixture: &PlatformFixture) {
    for _ in 0..2 {
        let instance = fixture.instance();
        fixture.provision(&instance).await;
        fixture.write_volume(&instance, "gone").await;
        let leftovers = fixture.testbed().leftovers().await.unwrap();
        assert!(!leftovers.is_empty(), "the testbed does not list existing resources");
        for _ in 0..2 {
            fixture.release(instance.id).await;
            fixture.assert_no_leftovers().await;
        }
    }
}

async fn resources_can_be_released_in_any_order(fixture: &PlatformFixture) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let instance = fixture.instance();
        fixture.provision(&instance).await;
        let platform = fixture.platform();
        for part in order {
            let released = match part {
                0 => platform.volumes.release_volume(instance.id).await,
                1 => platform.networks.release_endpoint(instance.id).await,
                _ => platform.compute.release_compute(instance.id).await,
            };
            released.unwrap_or_else(|error| panic!("released in order {order:?}: {error:?}"));
        }
        fixture.assert_no_leftovers().await;
    }
}

async fn many_instances_are_created_and_released_concurrently(fixture: &PlatformFixture) {
    let instances: Vec<_> = (0..8).map(|_| fixture.instance()).collect();
    let run = async |instance| {
        for _ in 0..2 {
            fixture.provision(instance).await;
            fixture.write_volume(instance, &instance.id.to_string()).await;
            fixture.provision(instance).await;
            assert_eq!(fixture.read_volume(instance).await, Some(instance.id.to_string()));
            fixture.release(instance.id).await;
        }
    };
    join_all(instances.iter().map(run)).await;
    fixture.assert_no_leftovers().await;
}

async fn a_new_process_continues_where_another_one_died(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.ensure_volume(&instance).await;
    fixture.write_volume(&instance, "kept").await;
    fixture.reopen().await;
    let endpoint = fixture.ensure_endpoint(&instance).await;
    fixture.reopen().await;
    let host = fixture.provision(&instance).await;
    assert_eq!(host.endpoint, endpoint);
    assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("kept"));
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    fixture.reopen().await;
    fixture.platform().networks.release_endpoint(instance.id).await.unwrap();
    fixture.reopen().await;
    fixture.release(instance.id).await;
    fixture.assert_no_leftovers().await;
}

async fn dropped_ensure_calls_lose_nothing(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.ensure_volume(&instance).await;
    fixture.write_volume(&instance, "kept").await;
    fixture.drop_at_every_await(|| fixture.ensure_volume(&instance), async |_| fixture.reopen().await).await;
    let endpoint = fixture.ensure_endpoint(&instance).await;
    let same = async |at| {
        fixture.reopen().await;
        assert_eq!(fixture.ensure_endpoint(&instance).await, endpoint, "dropped at await {at}");
    };
    fixture.drop_at_every_await(|| fixture.ensure_endpoint(&instance), same).await;
    let placed = async |_| {
        fixture.reopen().await;
        fixture.provision(&instance).await;
        fixture.platform().compute.release_compute(instance.id).await.unwrap();
    };
    fixture.drop_at_every_await(|| fixture.ensure_compute(&instance, &endpoint), placed).await;
    assert_eq!(fixture.read_volume(&instance).await.as_deref(), Some("kept"));

    let fresh = fixture.instance();
    let gone = async |_| {
        fixture.reopen().await;
        fixture.release(fresh.id).await;
    };
    fixture.drop_at_every_await(|| fixture.provision(&fresh), gone).await;
    fixture.provision(&fresh).await;
}

async fn dropped_release_calls_can_be_repeated(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.provision(&instance).await;
    let released = async |_| {
        fixture.reopen().await;
        fixture.release(instance.id).await;
        fixture.assert_no_leftovers().await;
        fixture.provision(&instance).await;
        fixture.write_volume(&instance, "text").await;
    };
    fixture.drop_at_every_await(|| fixture.release(instance.id), released).await;
}
