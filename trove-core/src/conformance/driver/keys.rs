//! A key that was used is recognised: the same again is the same call, and with other arguments it is a conflict.

use super::{
    Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::cases,
    datastore::{Prepare, Release},
    error::Kind,
    model::{Flavor, NewDatabase, NewUser, Settings},
};

pub(super) fn groups() -> Vec<Group> {
    let accounts = cases![
        a_prepare_of_the_same_key_for_others_is_a_conflict,
        a_key_is_known_to_another_process,
        a_secret_is_no_part_of_what_was_asked,
    ];
    let settings = cases![a_key_of_settings_is_not_used_for_others, another_step_is_another_call];
    vec![
        Group::shared("keys", &[], cases![the_same_call_of_the_same_key_is_made_again]),
        Group::shared("keys", &[Need::Accounts, Need::Databases], accounts),
        Group::shared("keys", &[Need::Configuration], settings),
        Group::shared("keys", &[Need::Upgrade], cases![a_key_of_a_release_is_not_used_for_others]),
        Group::shared("keys", &[Need::Resize], cases![a_key_of_a_size_is_not_used_for_others]),
    ]
}

async fn the_same_call_of_the_same_key_is_made_again(trial: &Trial) {
    let cx = trial.cx();
    for server in [trial.server.clone(), trial.server.clone(), trial.reattached()] {
        server.prepare(&cx, &trial.spec()).await.unwrap();
        server.start(&cx).await.unwrap();
    }
    trial.app_serves().await;
}

async fn a_prepare_of_the_same_key_for_others_is_a_conflict(trial: &Trial) {
    let cx = trial.cx();
    trial.server.prepare(&cx, &trial.spec()).await.unwrap();
    let other = Prepare::new(vec![NewDatabase::new(trial.name("other"))], Vec::new());
    assert_eq!(refused(trial.server.prepare(&cx, &other).await), Kind::Conflict);
    has_no_database(trial, &trial.name("other")).await;
    trial.app_serves().await;
}

async fn a_key_is_known_to_another_process(trial: &Trial) {
    let cx = trial.cx();
    trial.server.prepare(&cx, &trial.spec()).await.unwrap();
    let other = Prepare::new(vec![NewDatabase::new(trial.name("other"))], Vec::new());
    assert_eq!(refused(trial.reattached().prepare(&cx, &other).await), Kind::Conflict);
    assert_eq!(refused(trial.reattached().prepare(&trial.resumed(&cx), &other).await), Kind::Conflict);
    has_no_database(trial, &trial.name("other")).await;
}

async fn a_secret_is_no_part_of_what_was_asked(trial: &Trial) {
    // Whoever repeats a call may have made another password for it.
    let (cx, user) = (trial.cx(), "app".into());
    let accounts = trial.accounts();
    accounts.set_password(&cx, &user, &"another".to_owned().into()).await.unwrap();
    accounts.set_password(&cx, &user, &"secret".to_owned().into()).await.unwrap();
    trial.app_serves().await;
    let spec = Prepare::new(vec![NewDatabase::new("app")], vec![NewUser::new("app", "secret").granted("app")]);
    trial.server.prepare(&cx, &spec).await.unwrap();
}

async fn a_key_of_settings_is_not_used_for_others(trial: &Trial) {
    let ((name, value, _), cx) = (trial.live(), trial.cx());
    let (none, some) = (Settings::new(), Settings::from([(name, value)]));
    for _ in 0..2 {
        trial.configuration().apply(&cx, &none).await.unwrap();
    }
    assert_eq!(refused(trial.configuration().apply(&cx, &some).await), Kind::Conflict);
    let other = trial.reattached();
    let configuration = other.abilities().configuration.expect("the ability was shown");
    assert_eq!(refused(configuration.apply(&trial.resumed(&cx), &some).await), Kind::Conflict);
    assert_eq!(trial.settings(&*other).await, Default::default());
}

async fn another_step_is_another_call(trial: &Trial) {
    let ((name, value, _), cx) = (trial.live(), trial.cx());
    let some = Settings::from([(name, value)]);
    trial.configuration().apply(&cx.clone().with_step("there"), &some).await.unwrap();
    trial.configuration().apply(&cx.clone().with_step("back"), &Settings::new()).await.unwrap();
    assert_eq!(refused(trial.configuration().apply(&cx.with_step("back"), &some).await), Kind::Conflict);
}

async fn a_key_of_a_release_is_not_used_for_others(trial: &Trial) {
    let (cx, present) = (trial.cx(), trial.release());
    trial.upgrade().upgrade(&cx, &present).await.unwrap();
    let other = Release::new(&present.version, trial.missing_image().0);
    assert_eq!(refused(trial.upgrade().upgrade(&cx, &other).await), Kind::Conflict);
    trial.app_serves().await;
}

async fn a_key_of_a_size_is_not_used_for_others(trial: &Trial) {
    let (cx, present) = (trial.cx(), &trial.host.flavor);
    trial.resize().resize(&cx, present).await.unwrap();
    let more = Flavor::new("larger", present.memory, present.vcpus + 1);
    assert_eq!(refused(trial.resize().resize(&cx, &more).await), Kind::Conflict);
    trial.app_serves().await;
}

async fn has_no_database(trial: &Trial, name: &str) {
    let databases = trial.accounts().databases(&trial.cx(), &Default::default()).await.unwrap();
    assert!(databases.items.iter().all(|database| database.name != name), "{name} was made");
}
