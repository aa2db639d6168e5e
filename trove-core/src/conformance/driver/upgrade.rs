//! Upgrades run another release on the same data, and can be reverted until they are committed.

use super::{
    ServerFault, ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::Release,
    error::Kind,
    model::{Health, NewUser, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        an_image_of_another_version_is_rejected,
        a_failed_upgrade_can_be_reverted,
        a_reverted_upgrade_restores_the_previous_state,
    ];
    let shared_common = cases![
        a_check_changes_nothing,
        a_missing_image_is_rejected_before_any_change,
        upgrading_to_the_current_release_changes_nothing,
        reverting_without_an_upgrade_is_ok,
        committing_without_an_upgrade_is_ok,
        an_unfinished_upgrade_blocks_another,
    ];
    let empty_common = cases![the_release_is_known_to_every_process, removing_during_an_upgrade_leaves_nothing];
    vec![
        Group::shared("upgrade", &[Need::Upgrade], shared),
        Group::shared("upgrade", &[Need::Upgrade], shared_common).common(),
        Group::empty("upgrade", &[Need::Upgrade], cases![an_upgrade_keeps_data_users_and_settings]),
        Group::empty("upgrade", &[Need::Upgrade], empty_common).common(),
    ]
}

async fn a_check_changes_nothing(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    let mut session = fixture.app_session().await;
    let before = fixture.leftovers().await;
    for release in [&to, &from, &to] {
        fixture.upgrade().check(&fixture.cx(), release).await.unwrap();
    }
    session.put("a", "b").await.expect("the session was terminated");
    assert_eq!(fixture.leftovers().await, before, "the check left resources behind");
}

async fn a_missing_image_is_rejected_before_any_change(fixture: &ServerFixture) {
    let ((image, known_missing), mut session) = (fixture.missing_image(), fixture.app_session().await);
    let missing = Release::new(&fixture.host.version, image);
    let is_expected = |kind: Kind| kind == Kind::NotFound || (!known_missing && kind == Kind::Unavailable);
    let kind = error_kind(fixture.upgrade().check(&fixture.cx(), &missing).await);
    assert!(is_expected(kind), "check: {kind:?}");
    let kind = error_kind(fixture.upgrade().upgrade(&fixture.cx(), &missing).await);
    assert!(is_expected(kind), "upgrade: {kind:?}");
    session.put("a", "b").await.expect("the session was terminated");
}

async fn an_image_of_another_version_is_rejected(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    let mismatched = Release::new("999999", &fixture.host.image);
    for _ in 0..2 {
        let kind = error_kind(fixture.upgrade().check(&fixture.cx(), &mismatched).await);
        assert!(matches!(kind, Kind::Conflict | Kind::Unsupported), "{kind:?}");
    }
    session.put("a", "b").await.expect("the session was terminated");
}

async fn upgrading_to_the_current_release_changes_nothing(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    fixture.upgrade().upgrade(&fixture.cx(), &fixture.current_release()).await.unwrap();
    fixture.upgrade().commit(&fixture.cx()).await.unwrap();
    session.put("a", "b").await.expect("the session was terminated");
}

async fn reverting_without_an_upgrade_is_ok(fixture: &ServerFixture) {
    let mut session = fixture.app_session().await;
    for _ in 0..2 {
        fixture.upgrade().revert(&fixture.cx(), &fixture.current_release()).await.unwrap();
    }
    session.put("a", "b").await.expect("the session was terminated");
}

async fn committing_without_an_upgrade_is_ok(fixture: &ServerFixture) {
    for _ in 0..2 {
        fixture.upgrade().commit(&fixture.cx()).await.unwrap();
    }
    fixture.assert_app_can_write().await;
}

async fn a_failed_upgrade_can_be_reverted(fixture: &ServerFixture) {
    fixture.write_marker("before").await;
    let missing = Release::new(&fixture.host.version, fixture.missing_image().0);
    error_kind(fixture.upgrade().upgrade(&fixture.cx(), &missing).await);
    fixture.upgrade().revert(&fixture.cx(), &fixture.current_release()).await.unwrap();
    assert_eq!(fixture.observe().await.health, Health::Healthy);
    fixture.assert_marker("before").await;
}

async fn a_reverted_upgrade_restores_the_previous_state(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    fixture.write_marker("before").await;
    let (version, leftovers) = (fixture.observe().await.server_version, fixture.leftovers().await);
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    fixture.assert_marker("before").await;
    fixture.inject(ServerFault::Kill).await;
    let server = fixture.reattach();
    let upgrade = server.abilities().upgrade.expect("the ability is present");
    upgrade.revert(&fixture.cx(), &from).await.unwrap();
    let observed = server.observe(&fixture.cx()).await.unwrap();
    assert_eq!((observed.health, observed.server_version), (Health::Healthy, version));
    fixture.assert_marker("before").await;
    assert_eq!(fixture.leftovers().await.len(), leftovers.len(), "the upgrade left resources behind");
}

async fn an_unfinished_upgrade_blocks_another(fixture: &ServerFixture) {
    let (from, to) = fixture.releases();
    fixture.write_marker("before").await;
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    let third = Release::new(&to.version, fixture.missing_image().0);
    assert_eq!(error_kind(fixture.upgrade().upgrade(&fixture.cx(), &third).await), Kind::Conflict);
    fixture.assert_marker("before").await;
    fixture.upgrade().revert(&fixture.cx(), &from).await.unwrap();
    fixture.assert_marker("before").await;
}

async fn an_upgrade_keeps_data_users_and_settings(fixture: &ServerFixture) {
    let ((_, to), (name, value, _)) = (fixture.releases(), fixture.dynamic_parameter());
    let settings = Settings::from([(name.clone(), value.clone())]);
    fixture.server.prepare(&fixture.cx(), &fixture.spec().settings(settings)).await.unwrap();
    fixture.write_marker("before").await;
    let other = NewUser::new("other", "x");
    if fixture.account_rules().is_some() {
        fixture.accounts().create_users(&fixture.cx(), std::slice::from_ref(&other)).await.unwrap();
    }
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    if fixture.account_rules().is_some() {
        fixture.accounts().user(&fixture.cx(), &other.user).await.expect("the upgrade lost a user");
    }
    let observed = fixture.observe().await;
    assert_eq!(observed.health, Health::Healthy, "upgrade returned before the server was healthy");
    assert!(observed.server_version.is_some_and(|version| version.starts_with(&to.version)));
    fixture.assert_marker("before").await;
    assert_eq!(fixture.effective_value(&name).await, value.to_string());
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    fixture.upgrade().commit(&fixture.cx()).await.unwrap();
    fixture.restart().await;
    fixture.assert_marker("before").await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn the_release_is_known_to_every_process(fixture: &ServerFixture) {
    let (_, to) = fixture.releases();
    fixture.prepare().await;
    fixture.write_marker("before").await;
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    fixture.upgrade().commit(&fixture.cx()).await.unwrap();
    let version = fixture.observe().await.server_version;
    // The owner may have died before it persisted the new release.
    let server = fixture.reattach();
    server.stop(&fixture.cx()).await.unwrap();
    server.start(&fixture.cx()).await.unwrap();
    assert_eq!(server.observe(&fixture.cx()).await.unwrap().server_version, version);
    fixture.assert_marker("before").await;
}

async fn removing_during_an_upgrade_leaves_nothing(fixture: &ServerFixture) {
    let (_, to) = fixture.releases();
    fixture.prepare().await;
    fixture.upgrade().upgrade(&fixture.cx(), &to).await.unwrap();
    fixture.reattach().remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}
