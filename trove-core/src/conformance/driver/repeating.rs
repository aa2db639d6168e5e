//! A call whose reply was lost is made again, by another owner in another process, and ends where one does.

use super::{
    Trial,
    suite::{Group, Need},
};
use crate::{
    conformance::case::cases,
    model::{Health, NewDatabase, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![a_prepare_is_made_again, a_stop_and_a_start_are_made_again];
    vec![
        Group::shared("repeating", &[], shared),
        Group::shared("repeating", &[Need::Accounts], cases![changes_of_accounts_are_made_again]),
        Group::shared("repeating", &[Need::Configuration], cases![a_change_of_settings_is_made_again]),
        Group::shared("repeating", &[Need::Resize], cases![a_change_of_the_size_is_made_again]),
        Group::empty("repeating", &[], cases![a_removal_is_made_again]),
        Group::empty("repeating", &[Need::Upgrade], cases![an_upgrade_and_its_end_are_made_again]),
        Group::shared("repeating", &[Need::Upgrade], cases![the_way_back_is_gone_again]),
    ]
}

async fn a_prepare_is_made_again(trial: &Trial) {
    let mut session = trial.app().await;
    trial.with_its_reply_lost(async |server, cx| server.prepare(cx, &trial.spec()).await).await;
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_stop_and_a_start_are_made_again(trial: &Trial) {
    trial.note("before").await;
    trial.with_its_reply_lost(async |server, cx| server.stop(cx).await).await;
    assert_eq!(trial.observe().await.health, Health::Stopped);
    trial.with_its_reply_lost(async |server, cx| server.start(cx).await).await;
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.has_note("before").await;
}

async fn changes_of_accounts_are_made_again(trial: &Trial) {
    let (user, password) = ("app".into(), "secret".to_owned().into());
    let absent = trial.name("absent").as_str().into();
    trial
        .with_its_reply_lost(async |server, cx| {
            let accounts = server.abilities().accounts.expect("the ability was shown");
            if trial.rules().is_some_and(|rules| rules.databases) {
                accounts.create_databases(cx, &[NewDatabase::new(trial.name("made"))]).await?;
                accounts.grant(cx, &user, &[trial.name("made")]).await?;
                accounts.revoke(cx, &user, &trial.name("made")).await?;
                accounts.drop_database(cx, &trial.name("made")).await?;
            }
            accounts.set_password(cx, &user, &password).await?;
            accounts.enable_root(cx, &password).await?;
            accounts.disable_root(cx).await?;
            accounts.drop_user(cx, &absent).await
        })
        .await;
    trial.app_serves().await;
}

async fn a_change_of_settings_is_made_again(trial: &Trial) {
    let samples = trial.testbed().samples();
    let one: Settings = samples.live.iter().map(|(name, value, _)| (name.clone(), value.clone())).collect();
    for settings in [&one, &Settings::new()] {
        trial
            .with_its_reply_lost(async |server, cx| {
                server.abilities().configuration.expect("the ability was shown").apply(cx, settings).await
            })
            .await;
        assert_eq!(trial.settings(&*trial.reattached()).await, Default::default());
    }
    trial.app_serves().await;
}

async fn a_change_of_the_size_is_made_again(trial: &Trial) {
    trial.note("before").await;
    for flavor in [trial.larger(), trial.host.flavor.clone()] {
        trial
            .with_its_reply_lost(async |server, cx| {
                server.abilities().resize.expect("the ability was shown").resize(cx, &flavor).await
            })
            .await;
        trial.has_note("before").await;
    }
}

async fn a_removal_is_made_again(trial: &Trial) {
    trial.prepare().await;
    trial.with_its_reply_lost(async |server, cx| server.remove(cx).await).await;
    trial.has_no_residue().await;
}

async fn an_upgrade_and_its_end_are_made_again(trial: &Trial) {
    let (_, to) = trial.releases();
    trial.prepare().await;
    trial.note("before").await;
    trial
        .with_its_reply_lost(async |server, cx| {
            server.abilities().upgrade.expect("the ability was shown").upgrade(cx, &to).await
        })
        .await;
    trial.has_note("before").await;
    trial
        .with_its_reply_lost(async |server, cx| {
            server.abilities().upgrade.expect("the ability was shown").commit(cx).await
        })
        .await;
    trial.has_note("before").await;
}

async fn the_way_back_is_gone_again(trial: &Trial) {
    let (from, to) = trial.releases();
    trial.note("before").await;
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    trial
        .with_its_reply_lost(async |server, cx| {
            server.abilities().upgrade.expect("the ability was shown").revert(cx, &from).await
        })
        .await;
    trial.has_note("before").await;
}
