//! Settings, releases and sizes.

use super::{
    Trial,
    suite::{Group, Need, Place},
};
use crate::conformance::case::cases;

pub(super) fn groups() -> Vec<Group> {
    let group = |name, need, cases| Group { name, place: Place::Shared, needs: need, cases };
    vec![
        group("configuration", &[Need::Configuration], cases![a_catalogue_is_the_same_each_time]),
        group("upgrade", &[Need::Upgrade], cases![what_was_not_begun_is_concluded]),
        group("resize", &[Need::Resize], cases![the_same_flavor_leaves_the_server_alone]),
    ]
}

async fn a_catalogue_is_the_same_each_time(trial: &Trial) {
    let (one, other) =
        (trial.configuration().catalogue(&trial.cx()).await, trial.configuration().catalogue(&trial.cx()).await);
    assert_eq!(one.unwrap(), other.unwrap());
}

async fn what_was_not_begun_is_concluded(trial: &Trial) {
    let upgrade = trial.server.upgrade().expect("the ability was shown");
    upgrade.conclude(&trial.cx()).await.unwrap();
}

async fn the_same_flavor_leaves_the_server_alone(trial: &Trial) {
    let mut session = trial.app().await;
    let resize = trial.server.resize().expect("the ability was shown");
    resize.resize(&trial.cx(), &trial.host.flavor).await.unwrap();
    session.put("a", "b").await.expect("the session was cut");
}
