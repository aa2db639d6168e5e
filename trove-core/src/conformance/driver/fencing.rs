//! A former owner changes nothing any more, whichever process heard of the next one.

use std::sync::Arc;

use super::{
    ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::{Cx, Datastore},
    error::Kind,
    model::{Health, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let life = cases![
        a_stale_epoch_cannot_start_stop_or_remove,
        a_stale_epoch_may_read,
        the_current_owner_continues_after_a_stale_call,
        a_stale_epoch_cannot_start_a_stopped_server,
    ];
    let groups = vec![
        Group::shared("fencing", &[], life),
        Group::shared("fencing", &[Need::Configuration], cases![a_stale_epoch_cannot_change_settings]),
        Group::shared("fencing", &[Need::Upgrade], cases![a_stale_epoch_cannot_change_the_release]),
        Group::shared("fencing", &[Need::Resize], cases![a_stale_epoch_cannot_resize]),
        Group::empty("fencing", &[], cases![a_stale_epoch_cannot_recreate_a_removed_server]),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

/// A former owner's context, the server as the process knows it that heard of the next owner, and as another one does.
async fn taken_over(fixture: &ServerFixture) -> (Cx, [Arc<dyn Datastore>; 2]) {
    let former = fixture.cx();
    fixture.server.start(&fixture.successor()).await.unwrap();
    (former, [fixture.server.clone(), fixture.reattach()])
}

async fn a_stale_epoch_cannot_start_stop_or_remove(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    for server in servers {
        assert_eq!(error_kind(server.prepare(&former, &fixture.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(error_kind(server.start(&former).await), Kind::Fenced, "start");
        assert_eq!(error_kind(server.stop(&former).await), Kind::Fenced, "stop");
        assert_eq!(error_kind(server.remove(&former).await), Kind::Fenced, "remove");
        fixture.assert_app_can_write().await;
    }
}

async fn a_stale_epoch_may_read(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    for server in servers {
        assert_eq!(server.observe(&former).await.unwrap().health, Health::Healthy);
        if let Some(configuration) = server.abilities().configuration {
            configuration.digest(&former).await.unwrap();
        }
    }
}

async fn the_current_owner_continues_after_a_stale_call(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    let present = fixture.cx();
    for server in servers {
        assert_eq!(error_kind(server.stop(&former).await), Kind::Fenced);
        server.start(&present).await.expect("the owner was refused with the former one");
        server.prepare(&fixture.cx(), &fixture.spec()).await.expect("an owner makes more than one call");
    }
}

async fn a_stale_epoch_cannot_start_a_stopped_server(fixture: &ServerFixture) {
    let former = fixture.cx();
    fixture.server.stop(&fixture.successor()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(error_kind(server.start(&former).await), Kind::Fenced, "start");
        assert_eq!(error_kind(server.prepare(&former, &fixture.spec()).await), Kind::Fenced, "prepare");
    }
    assert_eq!(fixture.observe().await.health, Health::Stopped);
    fixture.server.start(&fixture.cx()).await.unwrap();
}

async fn a_stale_epoch_cannot_change_settings(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    let samples = fixture.testbed().sample_settings();
    let some: Settings = samples.dynamic.into_iter().map(|(name, value, _)| (name, value)).collect();
    for server in servers {
        let configuration = server.abilities().configuration.expect("the ability was shown");
        assert_eq!(error_kind(configuration.apply(&former, &some).await), Kind::Fenced);
        assert_eq!(fixture.settings_state(&*server).await, Default::default());
    }
}

async fn a_stale_epoch_cannot_change_the_release(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    let present = fixture.current_release();
    let other = fixture.testbed().upgrade_target().unwrap_or_else(|| present.clone());
    for server in servers {
        let upgrade = server.abilities().upgrade.expect("the ability was shown");
        assert_eq!(error_kind(upgrade.upgrade(&former, &other).await), Kind::Fenced, "upgrade");
        assert_eq!(error_kind(upgrade.revert(&former, &present).await), Kind::Fenced, "revert");
        assert_eq!(error_kind(upgrade.commit(&former).await), Kind::Fenced, "conclude");
    }
    fixture.assert_app_can_write().await;
}

async fn a_stale_epoch_cannot_resize(fixture: &ServerFixture) {
    let (former, servers) = taken_over(fixture).await;
    let mut session = fixture.app_session().await;
    for server in servers {
        let resize = server.abilities().resize.expect("the ability was shown");
        assert_eq!(error_kind(resize.resize(&former, &fixture.host.flavor).await), Kind::Fenced);
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_stale_epoch_cannot_recreate_a_removed_server(fixture: &ServerFixture) {
    fixture.prepare().await;
    let former = fixture.cx();
    fixture.server.remove(&fixture.successor()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(error_kind(server.prepare(&former, &fixture.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(error_kind(server.start(&former).await), Kind::Fenced, "start");
        fixture.assert_no_leftovers().await;
    }
    fixture.server.remove(&fixture.cx()).await.unwrap();
}
