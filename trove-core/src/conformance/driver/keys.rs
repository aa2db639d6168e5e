//! A key that was used is recognised: the same again is the same call, and with other arguments it is a conflict.

use super::{
    ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::cases,
    datastore::{Prepare, Release},
    error::Kind,
    model::{Flavor, NewDatabase, NewUser, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let accounts = cases![
        a_key_reused_for_another_prepare_is_a_conflict,
        keys_are_known_to_every_process,
        secrets_do_not_distinguish_requests,
    ];
    let settings = cases![a_key_reused_for_other_settings_is_a_conflict, a_key_is_distinct_for_each_step];
    let groups = vec![
        Group::shared("keys", &[], cases![a_call_with_the_same_key_is_repeated]),
        Group::shared("keys", &[Need::Accounts, Need::Databases], accounts),
        Group::shared("keys", &[Need::Configuration], settings),
        Group::shared("keys", &[Need::Upgrade], cases![a_key_reused_for_another_release_is_a_conflict]),
        Group::shared("keys", &[Need::Resize], cases![a_key_reused_for_another_flavor_is_a_conflict]),
    ];
    groups.into_iter().map(Group::shared_by_drivers).collect()
}

async fn a_call_with_the_same_key_is_repeated(fixture: &ServerFixture) {
    let cx = fixture.cx();
    for server in [fixture.server.clone(), fixture.server.clone(), fixture.reattach()] {
        server.prepare(&cx, &fixture.spec()).await.unwrap();
        server.start(&cx).await.unwrap();
    }
    fixture.assert_app_can_write().await;
}

async fn a_key_reused_for_another_prepare_is_a_conflict(fixture: &ServerFixture) {
    let cx = fixture.cx();
    fixture.server.prepare(&cx, &fixture.spec()).await.unwrap();
    let other = Prepare::new(vec![NewDatabase::new(fixture.unique_name("other"))], Vec::new());
    assert_eq!(error_kind(fixture.server.prepare(&cx, &other).await), Kind::Conflict);
    has_no_database(fixture, &fixture.unique_name("other")).await;
    fixture.assert_app_can_write().await;
}

async fn keys_are_known_to_every_process(fixture: &ServerFixture) {
    let cx = fixture.cx();
    fixture.server.prepare(&cx, &fixture.spec()).await.unwrap();
    let other = Prepare::new(vec![NewDatabase::new(fixture.unique_name("other"))], Vec::new());
    assert_eq!(error_kind(fixture.reattach().prepare(&cx, &other).await), Kind::Conflict);
    assert_eq!(error_kind(fixture.reattach().prepare(&fixture.resumed(&cx), &other).await), Kind::Conflict);
    has_no_database(fixture, &fixture.unique_name("other")).await;
}

async fn secrets_do_not_distinguish_requests(fixture: &ServerFixture) {
    // Whoever repeats a call may have made another password for it.
    let (cx, user) = (fixture.cx(), "app".into());
    let accounts = fixture.accounts();
    accounts.set_password(&cx, &user, &"another".to_owned().into()).await.unwrap();
    accounts.set_password(&cx, &user, &"secret".to_owned().into()).await.unwrap();
    fixture.assert_app_can_write().await;
    let spec = Prepare::new(vec![NewDatabase::new("app")], vec![NewUser::new("app", "secret").granted("app")]);
    fixture.server.prepare(&cx, &spec).await.unwrap();
}

async fn a_key_reused_for_other_settings_is_a_conflict(fixture: &ServerFixture) {
    let ((name, value, _), cx) = (fixture.dynamic_parameter(), fixture.cx());
    let (none, some) = (Settings::new(), Settings::from([(name, value)]));
    for _ in 0..2 {
        fixture.configuration().apply(&cx, &none).await.unwrap();
    }
    assert_eq!(error_kind(fixture.configuration().apply(&cx, &some).await), Kind::Conflict);
    let other = fixture.reattach();
    let configuration = other.abilities().configuration.expect("the ability was shown");
    assert_eq!(error_kind(configuration.apply(&fixture.resumed(&cx), &some).await), Kind::Conflict);
    assert_eq!(fixture.settings_state(&*other).await, Default::default());
}

async fn a_key_is_distinct_for_each_step(fixture: &ServerFixture) {
    let ((name, value, _), cx) = (fixture.dynamic_parameter(), fixture.cx());
    let some = Settings::from([(name, value)]);
    fixture.configuration().apply(&cx.clone().with_step("there"), &some).await.unwrap();
    fixture.configuration().apply(&cx.clone().with_step("back"), &Settings::new()).await.unwrap();
    assert_eq!(error_kind(fixture.configuration().apply(&cx.with_step("back"), &some).await), Kind::Conflict);
}

async fn a_key_reused_for_another_release_is_a_conflict(fixture: &ServerFixture) {
    let (cx, present) = (fixture.cx(), fixture.current_release());
    fixture.upgrade().upgrade(&cx, &present).await.unwrap();
    let other = Release::new(&present.version, fixture.missing_image().0);
    assert_eq!(error_kind(fixture.upgrade().upgrade(&cx, &other).await), Kind::Conflict);
    fixture.assert_app_can_write().await;
}

async fn a_key_reused_for_another_flavor_is_a_conflict(fixture: &ServerFixture) {
    let (cx, present) = (fixture.cx(), &fixture.host.flavor);
    fixture.resize().resize(&cx, present).await.unwrap();
    let more = Flavor::new("larger", present.memory, present.vcpus + 1);
    assert_eq!(error_kind(fixture.resize().resize(&cx, &more).await), Kind::Conflict);
    fixture.assert_app_can_write().await;
}

async fn has_no_database(fixture: &ServerFixture, name: &str) {
    let databases = fixture.accounts().databases(&fixture.cx(), &Default::default()).await.unwrap();
    assert!(databases.items.iter().all(|database| database.name != name), "{name} was made");
}
