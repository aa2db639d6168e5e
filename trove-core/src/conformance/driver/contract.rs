//! What a driver tells of itself before there is any server, and what it does for a caller who says as little as can be.

use super::{Trial, suite::Group};
use crate::{
    conformance::case::cases,
    datastore::Prepare,
    model::{ByteSize, Flavor, Health, PageRequest, Settings, mib},
};

/// Nobody watches a call that is silent for longer.
const LONGEST_SILENCE_SECONDS: u64 = 600;

pub(super) fn groups() -> Vec<Group> {
    let told = cases![
        a_datastore_has_a_name_a_port_and_a_scheme,
        every_version_on_offer_can_be_run,
        a_version_of_no_series_is_refused,
        the_longest_silence_is_one_that_can_be_waited_for,
        what_is_reserved_is_refused,
        nothing_is_asked_of_a_server_without_settings,
        the_manifest_declares_exactly_the_abilities_of_the_datastore,
        the_abilities_are_the_same_each_time,
    ];
    let empty = cases![attaching_makes_nothing, a_caller_who_asks_for_nothing_gets_a_server];
    // What is only told needs no server, and so no place of its own.
    vec![Group::shared("contract", &[], told), Group::empty("contract", &[], empty)]
}

async fn a_datastore_has_a_name_a_port_and_a_scheme(trial: &Trial) {
    let manifest = trial.testbed().driver().manifest();
    let name = &manifest.name;
    let plain = |text: &str, also: &str| {
        text.starts_with(|letter: char| letter.is_ascii_lowercase())
            && text.chars().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || also.contains(it))
    };
    assert!(plain(name, "-_"), "{name:?} is no name of lower-case letters");
    assert!(plain(&manifest.uri_scheme, "+-."), "{:?} is no scheme", manifest.uri_scheme);
    assert_ne!(manifest.port, 0);
    assert!(manifest.min_memory > ByteSize::default(), "a server needs memory");
    assert!(trial.host.flavor.memory >= manifest.min_memory, "the testbed's places are too small");
}

async fn every_version_on_offer_can_be_run(trial: &Trial) {
    let manifest = trial.testbed().driver().manifest();
    assert_eq!(manifest.version(None).unwrap(), &manifest.versions[0], "the first is the default");
    for (number, version) in manifest.versions.iter().enumerate() {
        manifest.check_version(&version.name).unwrap();
        assert!(!version.image.is_empty(), "version {} has no image", version.name);
        let twice = manifest.versions[..number].iter().any(|other| other.name == version.name);
        assert!(!twice, "version {} is on offer twice", version.name);
    }
    manifest.check_version(&trial.host.version).expect("the testbed's places are of a version that can be run");
}

async fn a_version_of_no_series_is_refused(trial: &Trial) {
    let manifest = trial.testbed().driver().manifest();
    for version in ["", "999999.1", "latest", "1; rm"] {
        assert!(manifest.check_version(version).is_err(), "{version:?}");
    }
}

async fn the_longest_silence_is_one_that_can_be_waited_for(trial: &Trial) {
    let seconds = trial.testbed().driver().manifest().max_silence.as_secs();
    assert!((1..=LONGEST_SILENCE_SECONDS).contains(&seconds), "{seconds} s");
}

async fn what_is_reserved_is_refused(trial: &Trial) {
    let Some(rules) = trial.rules() else { return };
    assert!(rules.max_user_bytes > 0 && rules.max_password_bytes >= 22, "there is no room for names or passwords");
    assert!(
        rules.reserved_prefixes.iter().any(|prefix| prefix == "trove_"),
        "the service's own names are not reserved"
    );
    for name in rules.reserved_users.iter().chain(&rules.reserved_prefixes) {
        assert!(rules.check_user(&name.as_str().into()).is_err(), "user {name:?}");
        let other_case = name.to_ascii_uppercase();
        assert!(rules.check_user(&other_case.as_str().into()).is_err(), "user {other_case:?}");
    }
    for name in rules.reserved_databases.iter().filter(|_| rules.databases) {
        assert!(rules.check_database(name).is_err(), "database {name:?}");
        assert!(rules.check_database(&name.to_ascii_uppercase()).is_err(), "database {name:?} in capitals");
    }
}

async fn nothing_is_asked_of_a_server_without_settings(trial: &Trial) {
    let driver = trial.testbed().driver();
    let least = driver.manifest().min_memory;
    for memory in [least, trial.host.flavor.memory, mib(1 << 20)] {
        driver.check_settings(&Flavor::new("any", memory, 1), &Settings::new()).unwrap();
    }
}

async fn attaching_makes_nothing(trial: &Trial) {
    for _ in 0..2 {
        let seen = trial.reattached().observe(&trial.cx()).await.unwrap();
        assert!(!matches!(seen.health, Health::Healthy | Health::Starting | Health::Impaired(_)), "{seen:?}");
    }
    assert_eq!(trial.testbed().residue(&trial.host).await.unwrap(), [""; 0]);
}

async fn the_manifest_declares_exactly_the_abilities_of_the_datastore(trial: &Trial) {
    let declared = trial.testbed().driver().manifest().abilities();
    let present = trial.server.abilities().set();
    assert_eq!(declared, present, "the manifest (left) and Datastore::abilities (right) disagree");
}

async fn the_abilities_are_the_same_each_time(trial: &Trial) {
    let known = trial.server.abilities().set();
    assert_eq!(known, trial.server.abilities().set());
    assert_eq!(known, trial.reattached().abilities().set());
}

async fn a_caller_who_asks_for_nothing_gets_a_server(trial: &Trial) {
    trial.server.prepare(&trial.cx(), &Prepare::default()).await.unwrap();
    trial.sees_healthy().await;
    let state = trial.observe().await.settings.unwrap_or_default();
    assert!(state.restart_required.is_empty() && state.rejected.is_none(), "{state:?}");
    // Nobody it did not ask for may use it.
    if trial.rules().is_some() {
        let users = trial.accounts().users(&trial.cx(), &PageRequest::default()).await.unwrap();
        assert_eq!(users.items.len(), 0, "{users:?}");
    }
}
