//! From nothing to a server, and back.

use super::{
    Trial,
    suite::{Group, Place},
};
use crate::{conformance::case::cases, model::Health};

pub(super) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "lifecycle",
            place: Place::Shared,
            needs: &[],
            cases: cases![a_second_prepare_ends_where_one_does, a_server_that_runs_is_not_started_again],
        },
        Group {
            name: "lifecycle",
            place: Place::Empty,
            needs: &[],
            cases: cases![nothing_is_left_after_remove, a_prepare_dropped_anywhere_loses_nothing],
        },
    ]
}

async fn a_second_prepare_ends_where_one_does(trial: &Trial) {
    trial.prepare().await;
    trial.sees_healthy().await;
}

async fn a_server_that_runs_is_not_started_again(trial: &Trial) {
    let mut session = trial.app().await;
    trial.server.start(&trial.cx()).await.unwrap();
    session.put("a", "b").await.expect("the session was cut");
}

async fn nothing_is_left_after_remove(trial: &Trial) {
    trial.prepare().await;
    assert_eq!(trial.observe().await.health, Health::Healthy);
    for _ in 0..2 {
        trial.server.remove(&trial.cx()).await.unwrap();
        assert_eq!(trial.testbed().residue(&trial.host).await.unwrap(), [""; 0]);
    }
}

async fn a_prepare_dropped_anywhere_loses_nothing(trial: &Trial) {
    let (cx, spec) = (trial.cx(), trial.spec());
    let prepare = || trial.server.prepare(&cx, &spec);
    let again = async |_| {
        trial.reattached().prepare(&cx, &spec).await.unwrap();
        trial.app().await.put("a", "b").await.unwrap();
        trial.server.remove(&trial.cx()).await.unwrap();
    };
    trial.dropped_everywhere(prepare, again).await;
}
