//! Operation keys are idempotency keys: a call with a used key is a repetition if its arguments are
//! the same, and a conflict otherwise.

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
        keys_are_visible_to_every_process,
        secrets_do_not_distinguish_requests,
    ];
    let settings = cases![a_key_reused_for_other_settings_is_a_conflict, a_key_is_distinct_for_each_step];
    let groups = vec![
        Group::shared("idempotency_keys", &[], cases![a_call_with_the_same_key_can_be_repeated]),
        Group::shared("idempotency_keys", &[Need::Accounts, Need::Databases], accounts),
        Group::shared("idempotency_keys", &[Need::Configuration], settings),
        Group::shared("idempotency_keys", &[Need::Upgrade], cases![a_key_reused_for_another_release_is_a_conflict]),
        Group::shared("idempotency_keys", &[Need::Resize], cases![a_key_reused_for_another_flavor_is_a_conflict]),
    ];
    groups.into_iter().map(Group::common).collect()
}

async fn a_call_with_the_same_key_can_be_repeated(fixture: &ServerFixture) {
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
    assert_no_database(fixture, &fixture.unique_name("other")).await;
    fixture.assert_app_can_write().await;
}

async fn keys_are_visible_to_every_process(fixture: &ServerFixture) {
    let cx = fixture.cx();
    fixture.server.prepare(&cx, &fixture.spec()).await.unwrap();
    let other = Prepare::new(vec![NewDatabase::new(fixture.unique_name("other"))], Vec::new());
    assert_eq!(error_kind(fixture.reattach().prepare(&cx, &other).await), Kind::Conflict);
    assert_eq!(error_kind(fixture.reattach().prepare(&fixture.resume(&cx), &other).await), Kind::Conflict);
    assert_no_database(fixture, &fixture.unique_name("other")).await;
}

async fn secrets_do_not_distinguish_requests(fixture: &ServerFixture) {
    // The owner that repeats a call may have generated another password.
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
    let (none, settings) = (Settings::new(), Settings::from([(name, value)]));
    for _ in 0..2 {
        fixture.configuration().apply(&cx, &none).await.unwrap();
    }
    assert_eq!(error_kind(fixture.configuration().apply(&cx, &settings).await), Kind::Conflict);
    let server = fixture.reattach();
    let configuration = server.abilities().configuration.expect("the ability is present");
    assert_eq!(error_kind(configuration.apply(&fixture.resume(&cx), &settings).await), Kind::Conflict);
    assert_eq!(fixture.settings_state(&*server).await, Default::default());
}

async fn a_key_is_distinct_for_each_step(fixture: &ServerFixture) {
    let ((name, value, _), cx) = (fixture.dynamic_parameter(), fixture.cx());
    let settings = Settings::from([(name, value)]);
    fixture.configuration().apply(&cx.clone().with_step("set"), &settings).await.unwrap();
    fixture.configuration().apply(&cx.clone().with_step("reset"), &Settings::new()).await.unwrap();
    assert_eq!(error_kind(fixture.configuration().apply(&cx.with_step("reset"), &settings).await), Kind::Conflict);
}

async fn a_key_reused_for_another_release_is_a_conflict(fixture: &ServerFixture) {
    let (cx, current) = (fixture.cx(), fixture.current_release());
    fixture.upgrade().upgrade(&cx, &current).await.unwrap();
    let other = Release::new(&current.version, fixture.missing_image().0);
    assert_eq!(error_kind(fixture.upgrade().upgrade(&cx, &other).await), Kind::Conflict);
    fixture.assert_app_can_write().await;
}

async fn a_key_reused_for_another_flavor_is_a_conflict(fixture: &ServerFixture) {
    let (cx, current) = (fixture.cx(), &fixture.host.flavor);
    fixture.resize().resize(&cx, current).await.unwrap();
    let larger = Flavor::new("larger", current.memory, current.vcpus + 1);
    assert_eq!(error_kind(fixture.resize().resize(&cx, &larger).await), Kind::Conflict);
    fixture.assert_app_can_write().await;
}

async fn assert_no_database(fixture: &ServerFixture, name: &str) {
    let databases = fixture.accounts().databases(&fixture.cx(), &Default::default()).await.unwrap();
    assert!(databases.items.iter().all(|database| database.name != name), "database {name} was created");
}
