//! The manifest is consistent and matches the datastore, and defaults suffice to create a server.

use super::{ServerFixture, group::Group};
use crate::{
    conformance::case::cases,
    datastore::Prepare,
    model::{ByteSize, Flavor, Health, PageRequest, Settings, mib},
};

/// The longest maximum silence that a manifest may declare.
const MAX_SILENCE_SECONDS: u64 = 600;

pub(super) fn groups() -> Vec<Group> {
    let manifest = cases![
        the_manifest_has_a_name_a_port_and_a_scheme,
        every_offered_version_is_supported,
        versions_outside_the_series_are_rejected,
        the_maximum_silence_is_bounded,
        reserved_names_are_rejected,
        empty_settings_fit_any_flavor,
        the_manifest_declares_exactly_the_abilities_of_the_datastore,
        abilities_do_not_change_between_attaches,
    ];
    let empty = cases![attaching_creates_nothing, preparing_with_defaults_creates_a_server];
    // The cases about the manifest need no server, so they share one.
    vec![Group::shared("contract", &[], manifest), Group::empty("contract", &[], empty)]
}

async fn the_manifest_has_a_name_a_port_and_a_scheme(fixture: &ServerFixture) {
    let manifest = fixture.testbed().driver().manifest();
    let name = &manifest.name;
    let is_identifier = |text: &str, punctuation: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || punctuation.contains(c))
    };
    assert!(is_identifier(name, "-_"), "{name:?} is not a lower-case identifier");
    assert!(is_identifier(&manifest.uri_scheme, "+-."), "{:?} is not a URI scheme", manifest.uri_scheme);
    assert_ne!(manifest.port, 0);
    assert!(manifest.min_memory > ByteSize::default(), "the manifest requires no memory");
    assert!(fixture.host.flavor.memory >= manifest.min_memory, "the hosts of the testbed have too little memory");
}

async fn every_offered_version_is_supported(fixture: &ServerFixture) {
    let manifest = fixture.testbed().driver().manifest();
    assert_eq!(manifest.version(None).unwrap(), &manifest.versions[0], "the first version should be the default");
    for (number, version) in manifest.versions.iter().enumerate() {
        manifest.check_version(&version.name).unwrap();
        assert!(!version.image.is_empty(), "version {} has no image", version.name);
        let duplicate = manifest.versions[..number].iter().any(|other| other.name == version.name);
        assert!(!duplicate, "version {} is offered twice", version.name);
    }
    manifest
        .check_version(&fixture.host.version)
        .expect("the driver does not support the version of the testbed's hosts");
}

async fn versions_outside_the_series_are_rejected(fixture: &ServerFixture) {
    let manifest = fixture.testbed().driver().manifest();
    for version in ["", "999999.1", "latest", "1; rm"] {
        assert!(manifest.check_version(version).is_err(), "{version:?} was accepted");
    }
}

async fn the_maximum_silence_is_bounded(fixture: &ServerFixture) {
    let seconds = fixture.testbed().driver().manifest().max_silence.as_secs();
    assert!((1..=MAX_SILENCE_SECONDS).contains(&seconds), "{seconds} s");
}

async fn reserved_names_are_rejected(fixture: &ServerFixture) {
    let Some(rules) = fixture.account_rules() else { return };
    assert!(rules.max_user_bytes > 0 && rules.max_password_bytes >= 22, "names or passwords may not be long enough");
    assert!(
        rules.reserved_prefixes.iter().any(|prefix| prefix == "trove_"),
        "the prefix of the service's own names is not reserved"
    );
    for name in rules.reserved_users.iter().chain(&rules.reserved_prefixes) {
        assert!(rules.check_user(&name.as_str().into()).is_err(), "user {name:?} was accepted");
        let other_case = name.to_ascii_uppercase();
        assert!(rules.check_user(&other_case.as_str().into()).is_err(), "user {other_case:?} was accepted");
    }
    for name in rules.reserved_databases.iter().filter(|_| rules.databases) {
        assert!(rules.check_database(name).is_err(), "database {name:?} was accepted");
        assert!(
            rules.check_database(&name.to_ascii_uppercase()).is_err(),
            "database {name:?} was accepted in upper case"
        );
    }
}

async fn empty_settings_fit_any_flavor(fixture: &ServerFixture) {
    let driver = fixture.testbed().driver();
    let minimum = driver.manifest().min_memory;
    for memory in [minimum, fixture.host.flavor.memory, mib(1 << 20)] {
        driver.check_settings(&Flavor::new("any", memory, 1), &Settings::new()).unwrap();
    }
}

async fn attaching_creates_nothing(fixture: &ServerFixture) {
    for _ in 0..2 {
        let observed = fixture.reattach().observe(&fixture.cx()).await.unwrap();
        assert!(!matches!(observed.health, Health::Healthy | Health::Starting | Health::Impaired(_)), "{observed:?}");
    }
    assert_eq!(fixture.testbed().leftovers(&fixture.host).await.unwrap(), [""; 0]);
}

async fn the_manifest_declares_exactly_the_abilities_of_the_datastore(fixture: &ServerFixture) {
    let declared = fixture.testbed().driver().manifest().abilities();
    let present = fixture.server.abilities().set();
    assert_eq!(declared, present, "the manifest (left) and Datastore::abilities (right) disagree");
}

async fn abilities_do_not_change_between_attaches(fixture: &ServerFixture) {
    let initial = fixture.server.abilities().set();
    assert_eq!(initial, fixture.server.abilities().set());
    assert_eq!(initial, fixture.reattach().abilities().set());
}

async fn preparing_with_defaults_creates_a_server(fixture: &ServerFixture) {
    fixture.server.prepare(&fixture.cx(), &Prepare::default()).await.unwrap();
    fixture.wait_until_healthy().await;
    let state = fixture.observe().await.settings.unwrap_or_default();
    assert!(state.restart_required.is_empty() && state.rejected.is_none(), "{state:?}");
    // No user may exist that the call did not request.
    if fixture.account_rules().is_some() {
        let users = fixture.accounts().users(&fixture.cx(), &PageRequest::default()).await.unwrap();
        assert_eq!(users.items.len(), 0, "{users:?}");
    }
}
