//! From nothing to a place, and back, whatever happens meanwhile.

use futures_util::future::join_all;

use super::PlatformFixture;
use crate::conformance::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<PlatformFixture>> {
    cases![
        nothing_is_left_of_what_is_released,
        what_is_released_in_any_order_is_gone,
        many_at_once_are_made_and_released,
        one_process_goes_on_where_another_died,
        an_ensure_that_is_dropped_anywhere_loses_nothing,
        a_release_that_is_dropped_anywhere_is_made_again,
    ]
}

async fn nothing_is_left_of_what_is_released(fixture: &PlatformFixture) {
    for _ in 0..2 {
        let instance = fixture.instance();
        fixture.place(&instance).await;
        fixture.put(&instance, "gone").await;
        let leftovers = fixture.testbed().leftovers().await.unwrap();
        assert!(!leftovers.is_empty(), "the testbed does not see what there is");
        for _ in 0..2 {
            fixture.release(instance.id).await;
            fixture.assert_no_leftovers().await;
        }
    }
}

async fn what_is_released_in_any_order_is_gone(fixture: &PlatformFixture) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let instance = fixture.instance();
        fixture.place(&instance).await;
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

async fn many_at_once_are_made_and_released(fixture: &PlatformFixture) {
    let instances: Vec<_> = (0..8).map(|_| fixture.instance()).collect();
    let life = async |instance| {
        for _ in 0..2 {
            fixture.place(instance).await;
            fixture.put(instance, &instance.id.to_string()).await;
            fixture.place(instance).await;
            assert_eq!(fixture.get(instance).await, Some(instance.id.to_string()));
            fixture.release(instance.id).await;
        }
    };
    join_all(instances.iter().map(life)).await;
    fixture.assert_no_leftovers().await;
}

async fn one_process_goes_on_where_another_died(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.volume(&instance).await;
    fixture.put(&instance, "kept").await;
    fixture.reopen().await;
    let endpoint = fixture.endpoint(&instance).await;
    fixture.reopen().await;
    let host = fixture.place(&instance).await;
    assert_eq!(host.endpoint, endpoint);
    assert_eq!(fixture.get(&instance).await.as_deref(), Some("kept"));
    fixture.platform().compute.release_compute(instance.id).await.unwrap();
    fixture.reopen().await;
    fixture.platform().networks.release_endpoint(instance.id).await.unwrap();
    fixture.reopen().await;
    fixture.release(instance.id).await;
    fixture.assert_no_leftovers().await;
}

async fn an_ensure_that_is_dropped_anywhere_loses_nothing(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.volume(&instance).await;
    fixture.put(&instance, "kept").await;
    fixture.drop_at_every_await(|| fixture.volume(&instance), async |_| fixture.reopen().await).await;
    let endpoint = fixture.endpoint(&instance).await;
    let same = async |at| {
        fixture.reopen().await;
        assert_eq!(fixture.endpoint(&instance).await, endpoint, "dropped at await {at}");
    };
    fixture.drop_at_every_await(|| fixture.endpoint(&instance), same).await;
    let placed = async |_| {
        fixture.reopen().await;
        fixture.place(&instance).await;
        fixture.platform().compute.release_compute(instance.id).await.unwrap();
    };
    fixture.drop_at_every_await(|| fixture.compute(&instance, &endpoint), placed).await;
    assert_eq!(fixture.get(&instance).await.as_deref(), Some("kept"));

    let fresh = fixture.instance();
    let gone = async |_| {
        fixture.reopen().await;
        fixture.release(fresh.id).await;
    };
    fixture.drop_at_every_await(|| fixture.place(&fresh), gone).await;
    fixture.place(&fresh).await;
}

async fn a_release_that_is_dropped_anywhere_is_made_again(fixture: &PlatformFixture) {
    let instance = fixture.instance();
    fixture.place(&instance).await;
    let made_again = async |_| {
        fixture.reopen().await;
        fixture.release(instance.id).await;
        fixture.assert_no_leftovers().await;
        fixture.place(&instance).await;
        fixture.put(&instance, "text").await;
    };
    fixture.drop_at_every_await(|| fixture.release(instance.id), made_again).await;
}
