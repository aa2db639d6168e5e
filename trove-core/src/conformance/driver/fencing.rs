//! A superseded owner cannot change anything, whichever process its successor called.

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
    let lifecycle = cases![
        a_stale_epoch_cannot_start_stop_or_remove,
        a_stale_epoch_may_read,
        the_current_owner_continues_after_a_stale_call,
        a_stale_epoch_cannot_start_a_stopped_server,
    ];
    let groups = vec![
        Group::shared("fencing", &[], lifecycle),
        Group::shared("fencing", &[Need::Configuration], cases![a_stale_epoch_cannot_change_settings]),
        Group::shared("fencing", &[Need::Upgrade], cases![a_stale_epoch_cannot_change_the_release]),
        Group::shared("fencing", &[Need::Resize], cases![a_stale_epoch_cannot_resize]),
        Group::empty("fencing", &[], cases![a_stale_epoch_cannot_recreate_a_removed_server]),
    ];
    groups.into_iter().map(Group::common).collect()
}

/// Lets a new owner take over. Returns the context of the superseded owner, and the datastore as
/// attached by the process that the new owner called and by another one.
async fn take_over(fixture: &ServerFixture) -> (Cx, [Arc<dyn Datastore>; 2]) {
    let superseded = fixture.cx();
    fixture.server.start(&fixture.successor()).await.unwrap();
    (superseded, [fixture.server.clone(), fixture.reattach()])
}

async fn a_stale_epoch_cannot_start_stop_or_remove(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    for server in servers {
        assert_eq!(error_kind(server.prepare(&superseded, &fixture.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(error_kind(server.start(&superseded).await), Kind::Fenced, "start");
        assert_eq!(error_kind(server.stop(&superseded).await), Kind::Fenced, "stop");
        assert_eq!(error_kind(server.remove(&superseded).await), Kind::Fenced, "remove");
        fixture.assert_app_can_write().await;
    }
}

async fn a_stale_epoch_may_read(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    for server in servers {
        assert_eq!(server.observe(&superseded).await.unwrap().health, Health::Healthy);
        if let Some(configuration) = server.abilities().configuration {
            configuration.digest(&superseded).await.unwrap();
        }
    }
}

async fn the_current_owner_continues_after_a_stale_call(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    let current = fixture.cx();
    for server in servers {
        assert_eq!(error_kind(server.stop(&superseded).await), Kind::Fenced);
        server.start(&current).await.expect("the current owner was rejected");
        server
            .prepare(&fixture.cx(), &fixture.spec())
            .await
            .expect("the second call of the current owner was rejected");
    }
}

async fn a_stale_epoch_cannot_start_a_stopped_server(fixture: &ServerFixture) {
    let superseded = fixture.cx();
    fixture.server.stop(&fixture.successor()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(error_kind(server.start(&superseded).await), Kind::Fenced, "start");
        assert_eq!(error_kind(server.prepare(&superseded, &fixture.spec()).await), Kind::Fenced, "prepare");
    }
    assert_eq!(fixture.observe().await.health, Health::Stopped);
    fixture.server.start(&fixture.cx()).await.unwrap();
}

async fn a_stale_epoch_cannot_change_settings(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    let samples = fixture.testbed().sample_settings();
    let settings: Settings = samples.dynamic.into_iter().map(|(name, value, _)| (name, value)).collect();
    for server in servers {
        let configuration = server.abilities().configuration.expect("the ability is present");
        assert_eq!(error_kind(configuration.apply(&superseded, &settings).await), Kind::Fenced);
        assert_eq!(fixture.settings_state(&*server).await, Default::default());
    }
}

async fn a_stale_epoch_cannot_change_the_release(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    let current = fixture.current_release();
    let target = fixture.testbed().upgrade_target().unwrap_or_else(|| current.clone());
    for server in servers {
        let upgrade = server.abilities().upgrade.expect("the ability is present");
        assert_eq!(error_kind(upgrade.upgrade(&superseded, &target).await), Kind::Fenced, "upgrade");
        assert_eq!(error_kind(upgrade.revert(&superseded, &current).await), Kind::Fenced, "revert");
        assert_eq!(error_kind(upgrade.commit(&superseded).await), Kind::Fenced, "commit");
    }
    fixture.assert_app_can_write().await;
}

async fn a_stale_epoch_cannot_resize(fixture: &ServerFixture) {
    let (superseded, servers) = take_over(fixture).await;
    let mut session = fixture.app_session().await;
    for server in servers {
        let resize = server.abilities().resize.expect("the ability is present");
        assert_eq!(error_kind(resize.resize(&superseded, &fixture.host.flavor).await), Kind::Fenced);
    }
    session.put("a", "b").await.expect("the session was terminated");
}

async fn a_stale_epoch_cannot_recreate_a_removed_server(fixture: &ServerFixture) {
    fixture.prepare().await;
    let superseded = fixture.cx();
    fixture.server.remove(&fixture.successor()).await.unwrap();
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(error_kind(server.prepare(&superseded, &fixture.spec()).await), Kind::Fenced, "prepare");
        assert_eq!(error_kind(server.start(&superseded).await), Kind::Fenced, "start");
        fixture.assert_no_leftovers().await;
    }
    fixture.server.remove(&fixture.cx()).await.unwrap();
}
