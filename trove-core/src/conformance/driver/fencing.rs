//! A former owner changes nothing any more, whichever process heard of the next one.

use std::sync::Arc;

use super::{
    Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    datastore::{Cx, Datastore},
    error::Kind,
    model::{Health, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let life = cases![
        a_former_owner_changes_nothing_of_the_life_of_a_server,
        a_former_owner_may_look,
        an_owner_goes_on_after_a_former_one_was_refused,
        a_former_owner_does_not_start_what_was_stopped,
    ];
    vec![
        Group::shared("fencing", &[], life),
        Group::shared("fencing", &[Need::Configuration], cases![a_former_owner_changes_no_settings]),
        Group::shared("fencing", &[Need::Upgrade], cases![a_former_owner_changes_no_release]),
        Group::shared("fencing", &[Need::Resize], cases![a_former_owner_changes_no_size]),
        Group::empty("fencing", &[], cases![a_former_owner_does_not_bring_back_what_was_removed]),
    ]
}

/// A former owner's context, the server as the process knows it that heard of the next owner, and as another one does.
async fn taken_over(trial: &Trial) -> (Cx, [Arc<dyn Datastore>; 2]) {
    let former = trial.cx();
    trial.server.start(&trial.successor()).await.unwrap();
    (former, [trial.server.clone(), trial.reattached()])
}

async fn a_former_owner_changes_nothing_of_the_life_of_a_server(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    for server in servers {
        assert_eq!(refused(server.prepare(&former, &trial.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(refused(server.start(&former).await), Kind::Fenced, "start");
        assert_eq!(refused(server.stop(&former).await), Kind::Fenced, "stop");
        assert_eq!(refused(server.remove(&former).await), Kind::Fenced, "remove");
        trial.app_serves().await;
    }
}

async fn a_former_owner_may_look(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    for server in servers {
        assert_eq!(server.observe(&former).await.unwrap().health, Health::Healthy);
        if let Some(configuration) = server.abilities().configuration {
            configuration.digest(&former).await.unwrap();
        }
    }
}

async fn an_owner_goes_on_after_a_former_one_was_refused(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    let present = trial.cx();
    for server in servers {
        assert_eq!(refused(server.stop(&former).await), Kind::Fenced);
        server.start(&present).await.expect("the owner was refused with the former one");
        server.prepare(&trial.cx(), &trial.spec()).await.expect("an owner makes more than one call");
    }
}

async fn a_former_owner_does_not_start_what_was_stopped(trial: &Trial) {
    let former = trial.cx();
    trial.server.stop(&trial.successor()).await.unwrap();
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(refused(server.start(&former).await), Kind::Fenced, "start");
        assert_eq!(refused(server.prepare(&former, &trial.spec()).await), Kind::Fenced, "prepare");
    }
    assert_eq!(trial.observe().await.health, Health::Stopped);
    trial.server.start(&trial.cx()).await.unwrap();
}

async fn a_former_owner_changes_no_settings(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    let samples = trial.testbed().samples();
    let some: Settings = samples.live.into_iter().map(|(name, value, _)| (name, value)).collect();
    for server in servers {
        let configuration = server.abilities().configuration.expect("the ability was shown");
        assert_eq!(refused(configuration.apply(&former, &some).await), Kind::Fenced);
        assert_eq!(trial.settings(&*server).await, Default::default());
    }
}

async fn a_former_owner_changes_no_release(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    let present = trial.release();
    let other = trial.testbed().upgrade().unwrap_or_else(|| present.clone());
    for server in servers {
        let upgrade = server.abilities().upgrade.expect("the ability was shown");
        assert_eq!(refused(upgrade.upgrade(&former, &other).await), Kind::Fenced, "upgrade");
        assert_eq!(refused(upgrade.revert(&former, &present).await), Kind::Fenced, "revert");
        assert_eq!(refused(upgrade.commit(&former).await), Kind::Fenced, "commit");
    }
    trial.app_serves().await;
}

async fn a_former_owner_changes_no_size(trial: &Trial) {
    let (former, servers) = taken_over(trial).await;
    let mut session = trial.app().await;
    for server in servers {
        let resize = server.abilities().resize.expect("the ability was shown");
        assert_eq!(refused(resize.resize(&former, &trial.host.flavor).await), Kind::Fenced);
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_former_owner_does_not_bring_back_what_was_removed(trial: &Trial) {
    trial.prepare().await;
    let former = trial.cx();
    trial.server.remove(&trial.successor()).await.unwrap();
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(refused(server.prepare(&former, &trial.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(refused(server.start(&former).await), Kind::Fenced, "start");
        trial.has_no_residue().await;
    }
    trial.server.remove(&trial.cx()).await.unwrap();
}
