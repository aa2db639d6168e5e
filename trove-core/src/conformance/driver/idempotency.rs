//! A call whose reply was lost can be repeated, by another owner in another process, and has the
//! effect of one.

use super::{
    ServerFixture,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    model::{Health, NewDatabase, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let shared =
        cases![a_prepare_can_be_repeated_after_a_lost_reply, a_stop_and_a_start_can_be_repeated_after_a_lost_reply];
    let groups = vec![
        Group::shared("idempotency", &[], shared),
        Group::shared("idempotency", &[Need::Accounts], cases![account_changes_can_be_repeated_after_a_lost_reply]),
        Group::shared(
            "idempotency",
            &[Need::Configuration],
            cases![applying_settings_can_be_repeated_after_a_lost_reply],
        ),
        Group::shared("idempotency", &[Need::Resize], cases![a_resize_can_be_repeated_after_a_lost_reply]),
        Group::empty("idempotency", &[], cases![a_removal_can_be_repeated_after_a_lost_reply]),
        Group::empty(
            "idempotency",
            &[Need::Upgrade],
            cases![an_upgrade_and_its_commit_can_be_repeated_after_a_lost_reply],
        ),
        Group::shared("idempotency", &[Need::Upgrade], cases![a_revert_can_be_repeated_after_a_lost_reply]),
    ];
    groups.into_iter().map(Group::common).collect()
}

async fn a_prepare_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    fixture.repeat_after_lost_reply(async |server, cx| server.prepare(cx, &fixture.spec()).await).await;
    session.put("a", "b").await.expect("the session was terminated");
}

async fn a_stop_and_a_start_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    fixture.repeat_after_lost_reply(async |server, cx| server.stop(cx).await).await;
    assert_eq!(fixture.observe().await.health, Health::Stopped);
    fixture.repeat_after_lost_reply(async |server, cx| server.start(cx).await).await;
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before").await;
}

async fn account_changes_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    let (user, password) = ("app".into(), "secret".to_owned().into());
    let absent = fixture.unique_name("absent").as_str().into();
    fixture
        .repeat_after_lost_reply(async |server, cx| {
            let accounts = server.abilities().accounts.expect("the ability is present");
            if fixture.account_rules().is_some_and(|rules| rules.databases) {
                accounts.create_databases(cx, &[NewDatabase::new(fixture.unique_name("created"))]).await?;
                accounts.grant(cx, &user, &[fixture.unique_name("created")]).await?;
                accounts.revoke(cx, &user, &fixture.unique_name("created")).await?;
                accounts.drop_database(cx, &fixture.unique_name("created")).await?;
            }
            accounts.set_password(cx, &user, &password).await?;
            accounts.enable_root(cx, &password).await?;
            accounts.disable_root(cx).await?;
            accounts.drop_user(cx, &absent).await
        })
        .await;
    fixture.assert_app_can_write().await;
}

async fn applying_settings_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    let samples = fixture.testbed().sample_settings();
    let some: Settings = samples.dynamic.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect();
    for settings in [&some, &Settings::new()] {
        fixture
            .repeat_after_lost_reply(async |server, cx| {
                server.abilities().configuration.expect("the ability is present").apply(cx, settings).await
            })
            .await;
        assert_eq!(fixture.settings_state(&*fixture.reattach()).await, Default::default());
    }
    fixture.assert_app_can_write().await;
}

async fn a_resize_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    for flavor in [fixture.larger_flavor(), fixture.host.flavor.clone()] {
        fixture
            .repeat_after_lost_reply(async |server, cx| {
                server.abilities().resize.expect("the ability is present").resize(cx, &flavor).await
            })
            .await;
        fixture.assert_marker("before").await;
    }
}

async fn a_removal_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    fixture.prepare().await;
    fixture.repeat_after_lost_reply(async |server, cx| server.remove(cx).await).await;
    fixture.assert_no_leftovers().await;
}

async fn an_upgrade_and_its_commit_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    let (_, to) = fixture.releases();
    fixture.prepare().await;
    fixture.write_marker("before").await;
    fixture
        .repeat_after_lost_reply(async |server, cx| {
            server.abilities().upgrade.expect("the ability is present").upgrade(cx, &to).await
        })
        .await;
    fixture.assert_marker("before").await;
    fixture
        .repeat_after_lost_reply(async |server, cx| {
            server.abilities().upgrade.expect("the ability is present").commit(cx).await
        })
        .await;
    fixture.assert_marker("before").await;
}

async fn a_revert_can_be_repeated_after_a_lost_reply(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    fixture.write_marker("before").await;
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    fixture
        .repeat_after_lost_reply(async |server, cx| {
            server.abilities().upgrade.expect("the ability is present").revert(cx, &from).await
        })
        .await;
    fixture.assert_marker("before").await;
}
