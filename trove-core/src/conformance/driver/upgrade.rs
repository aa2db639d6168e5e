//! Another release on the same data, and the way back.

use super::{
    Harm, Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    datastore::Release,
    error::Kind,
    model::{Health, NewUser, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        a_check_changes_nothing,
        an_image_that_does_not_exist_is_found_out_before_anything_is_changed,
        a_version_that_the_image_does_not_hold_is_refused,
        the_present_release_is_nothing_new,
        there_is_nothing_to_revert_where_nothing_was_begun,
        what_was_not_begun_is_concluded,
        an_upgrade_that_failed_is_reverted,
        a_reverted_upgrade_leaves_what_was_before,
        an_upgrade_that_has_begun_is_ended_before_another,
    ];
    let empty = cases![
        an_upgrade_keeps_data_users_and_settings,
        every_process_knows_what_an_instance_was_upgraded_to,
        nothing_is_left_of_an_upgrade_that_is_under_way,
    ];
    vec![Group::shared("upgrade", &[Need::Upgrade], shared), Group::empty("upgrade", &[Need::Upgrade], empty)]
}

async fn a_check_changes_nothing(trial: &Trial) {
    let (from, to) = trial.releases();
    let mut session = trial.app().await;
    let before = trial.residue().await;
    for release in [&to, &from, &to] {
        trial.upgrade().check(&trial.cx(), release).await.unwrap();
    }
    session.put("a", "b").await.expect("the session was cut");
    assert_eq!(trial.residue().await, before, "something is left of the check");
}

async fn an_image_that_does_not_exist_is_found_out_before_anything_is_changed(trial: &Trial) {
    let ((image, known), mut session) = (trial.missing_image(), trial.app().await);
    let missing = Release::new(&trial.host.version, image);
    let told = |kind: Kind| kind == Kind::NotFound || (!known && kind == Kind::Unavailable);
    let kind = refused(trial.upgrade().check(&trial.cx(), &missing).await);
    assert!(told(kind), "check: {kind:?}");
    let kind = refused(trial.upgrade().upgrade(&trial.cx(), &missing).await);
    assert!(told(kind), "upgrade: {kind:?}");
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_version_that_the_image_does_not_hold_is_refused(trial: &Trial) {
    let mut session = trial.app().await;
    let wrong = Release::new("999999", &trial.host.image);
    for _ in 0..2 {
        let kind = refused(trial.upgrade().check(&trial.cx(), &wrong).await);
        assert!(matches!(kind, Kind::Conflict | Kind::Unsupported), "{kind:?}");
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn the_present_release_is_nothing_new(trial: &Trial) {
    let mut session = trial.app().await;
    trial.upgrade().upgrade(&trial.cx(), &trial.release()).await.unwrap();
    trial.upgrade().commit(&trial.cx()).await.unwrap();
    session.put("a", "b").await.expect("the session was cut");
}

async fn there_is_nothing_to_revert_where_nothing_was_begun(trial: &Trial) {
    let mut session = trial.app().await;
    for _ in 0..2 {
        trial.upgrade().revert(&trial.cx(), &trial.release()).await.unwrap();
    }
    session.put("a", "b").await.expect("the session was cut");
}

async fn what_was_not_begun_is_concluded(trial: &Trial) {
    for _ in 0..2 {
        trial.upgrade().commit(&trial.cx()).await.unwrap();
    }
    trial.app_serves().await;
}

async fn an_upgrade_that_failed_is_reverted(trial: &Trial) {
    trial.note("before").await;
    let missing = Release::new(&trial.host.version, trial.missing_image().0);
    refused(trial.upgrade().upgrade(&trial.cx(), &missing).await);
    trial.upgrade().revert(&trial.cx(), &trial.release()).await.unwrap();
    assert_eq!(trial.observe().await.health, Health::Healthy);
    trial.has_note("before").await;
}

async fn a_reverted_upgrade_leaves_what_was_before(trial: &Trial) {
    let (from, to) = trial.releases();
    trial.note("before").await;
    let before = (trial.observe().await.server_version, trial.residue().await);
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    trial.has_note("before").await;
    trial.harm(Harm::Kill).await;
    let server = trial.reattached();
    let upgrade = server.abilities().upgrade.expect("the ability was shown");
    upgrade.revert(&trial.cx(), &from).await.unwrap();
    let seen = server.observe(&trial.cx()).await.unwrap();
    assert_eq!((seen.health, seen.server_version), (Health::Healthy, before.0));
    trial.has_note("before").await;
    assert_eq!(trial.residue().await.len(), before.1.len(), "something is left of the upgrade");
}

async fn an_upgrade_that_has_begun_is_ended_before_another(trial: &Trial) {
    let (from, to) = trial.releases();
    trial.note("before").await;
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    let third = Release::new(&to.version, trial.missing_image().0);
    assert_eq!(refused(trial.upgrade().upgrade(&trial.cx(), &third).await), Kind::Conflict);
    trial.has_note("before").await;
    trial.upgrade().revert(&trial.cx(), &from).await.unwrap();
    trial.has_note("before").await;
}

async fn an_upgrade_keeps_data_users_and_settings(trial: &Trial) {
    let ((_, to), (live, now, _)) = (trial.releases(), trial.live());
    let settings = Settings::from([(live.clone(), now.clone())]);
    trial.server.prepare(&trial.cx(), &trial.spec().settings(settings)).await.unwrap();
    trial.note("before").await;
    let other = NewUser::new("other", "x");
    if trial.rules().is_some() {
        trial.accounts().create_users(&trial.cx(), std::slice::from_ref(&other)).await.unwrap();
    }
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    if trial.rules().is_some() {
        trial.accounts().user(&trial.cx(), &other.user).await.expect("a user was lost");
    }
    let seen = trial.observe().await;
    assert_eq!(seen.health, Health::Healthy, "an upgrade ends when the server answers");
    assert!(seen.server_version.is_some_and(|version| version.starts_with(&to.version)));
    trial.has_note("before").await;
    assert_eq!(trial.in_force(&live).await, now.to_string());
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    trial.upgrade().commit(&trial.cx()).await.unwrap();
    trial.restart().await;
    trial.has_note("before").await;
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn every_process_knows_what_an_instance_was_upgraded_to(trial: &Trial) {
    let (_, to) = trial.releases();
    trial.prepare().await;
    trial.note("before").await;
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    trial.upgrade().commit(&trial.cx()).await.unwrap();
    let version = trial.observe().await.server_version;
    // Whoever asked may have died before it wrote down what the instance is.
    let server = trial.reattached();
    server.stop(&trial.cx()).await.unwrap();
    server.start(&trial.cx()).await.unwrap();
    assert_eq!(server.observe(&trial.cx()).await.unwrap().server_version, version);
    trial.has_note("before").await;
}

async fn nothing_is_left_of_an_upgrade_that_is_under_way(trial: &Trial) {
    let (_, to) = trial.releases();
    trial.prepare().await;
    trial.upgrade().upgrade(&trial.cx(), &to).await.unwrap();
    trial.reattached().remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}
