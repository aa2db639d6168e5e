//! From nothing to a place, and back, whatever happens meanwhile.

use futures_util::future::join_all;

use super::Trial;
use crate::conformance::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<Trial>> {
    cases![
        nothing_is_left_of_what_is_released,
        what_is_released_in_any_order_is_gone,
        many_at_once_are_made_and_released,
        one_process_goes_on_where_another_died,
        an_ensure_that_is_dropped_anywhere_loses_nothing,
        a_release_that_is_dropped_anywhere_is_made_again,
    ]
}

async fn nothing_is_left_of_what_is_released(trial: &Trial) {
    for _ in 0..2 {
        let instance = trial.instance();
        trial.place(&instance).await;
        trial.put(&instance, "gone").await;
        let residue = trial.testbed().residue().await.unwrap();
        assert!(!residue.is_empty(), "the testbed does not see what there is");
        for _ in 0..2 {
            trial.release(instance.id).await;
            trial.nothing_is_left().await;
        }
    }
}

async fn what_is_released_in_any_order_is_gone(trial: &Trial) {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let instance = trial.instance();
        trial.place(&instance).await;
        let platform = trial.platform();
        for part in order {
            let released = match part {
                0 => platform.volumes.release_volume(instance.id).await,
                1 => platform.networks.release_endpoint(instance.id).await,
                _ => platform.compute.release_compute(instance.id).await,
            };
            released.unwrap_or_else(|error| panic!("released in order {order:?}: {error:?}"));
        }
        trial.nothing_is_left().await;
    }
}

async fn many_at_once_are_made_and_released(trial: &Trial) {
    let instances: Vec<_> = (0..8).map(|_| trial.instance()).collect();
    let life = async |instance| {
        for _ in 0..2 {
            trial.place(instance).await;
            trial.put(instance, &instance.id.to_string()).await;
            trial.place(instance).await;
            assert_eq!(trial.get(instance).await, Some(instance.id.to_string()));
            trial.release(instance.id).await;
        }
    };
    join_all(instances.iter().map(life)).await;
    trial.nothing_is_left().await;
}

async fn one_process_goes_on_where_another_died(trial: &Trial) {
    let instance = trial.instance();
    trial.volume(&instance).await;
    trial.put(&instance, "kept").await;
    trial.reopen().await;
    let endpoint = trial.endpoint(&instance).await;
    trial.reopen().await;
    let host = trial.place(&instance).await;
    assert_eq!(host.endpoint, endpoint);
    assert_eq!(trial.get(&instance).await.as_deref(), Some("kept"));
    trial.platform().compute.release_compute(instance.id).await.unwrap();
    trial.reopen().await;
    trial.platform().networks.release_endpoint(instance.id).await.unwrap();
    trial.reopen().await;
    trial.release(instance.id).await;
    trial.nothing_is_left().await;
}

async fn an_ensure_that_is_dropped_anywhere_loses_nothing(trial: &Trial) {
    let instance = trial.instance();
    trial.volume(&instance).await;
    trial.put(&instance, "kept").await;
    trial.dropped_everywhere(|| trial.volume(&instance), async |_| trial.reopen().await).await;
    let endpoint = trial.endpoint(&instance).await;
    let same = async |at| {
        trial.reopen().await;
        assert_eq!(trial.endpoint(&instance).await, endpoint, "dropped at await {at}");
    };
    trial.dropped_everywhere(|| trial.endpoint(&instance), same).await;
    let placed = async |_| {
        trial.reopen().await;
        trial.place(&instance).await;
        trial.platform().compute.release_compute(instance.id).await.unwrap();
    };
    trial.dropped_everywhere(|| trial.compute(&instance, &endpoint), placed).await;
    assert_eq!(trial.get(&instance).await.as_deref(), Some("kept"));

    let fresh = trial.instance();
    let gone = async |_| {
        trial.reopen().await;
        trial.release(fresh.id).await;
    };
    trial.dropped_everywhere(|| trial.place(&fresh), gone).await;
    trial.place(&fresh).await;
}

async fn a_release_that_is_dropped_anywhere_is_made_again(trial: &Trial) {
    let instance = trial.instance();
    trial.place(&instance).await;
    let made_again = async |_| {
        trial.reopen().await;
        trial.release(instance.id).await;
        trial.nothing_is_left().await;
        trial.place(&instance).await;
        trial.put(&instance, "text").await;
    };
    trial.dropped_everywhere(|| trial.release(instance.id), made_again).await;
}
