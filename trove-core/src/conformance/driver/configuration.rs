//! The parameter catalog is accurate, and settings take effect, wait for a restart, are rejected,
//! or are rolled back.

use std::collections::BTreeSet;

use super::{
    ServerFault, ServerFixture,
    fixture::error_kind,
    group::{Group, Need},
};
use crate::{
    conformance::case::{cases, skip},
    datastore::{check_settings, in_units},
    error::Kind,
    model::{ParameterKind, Setting, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        the_catalog_lists_each_parameter_once_in_order,
        parameter_constraints_are_consistent,
        reserved_parameters_state_a_reason,
        sample_settings_are_in_the_catalog,
        dynamic_parameters_take_effect_immediately,
        a_removed_setting_returns_to_its_default,
        a_pending_restart_is_reported_until_the_restart,
        a_rejected_value_leaves_all_settings_unchanged,
        fatal_settings_are_rolled_back_and_reported,
    ];
    let shared_common = cases![
        the_digest_matches_the_catalog,
        reading_the_catalog_leaves_the_server_alone,
        applying_the_same_settings_again_changes_nothing,
        a_pending_change_can_be_withdrawn,
        dynamic_parts_of_a_change_take_effect_before_the_restart,
        settings_survive_a_stop_and_a_kill,
        settings_applied_to_a_stopped_server_take_effect_at_start,
        settings_applied_to_a_killed_server_take_effect_at_start,
    ];
    let empty = cases![settings_take_effect_at_the_first_start, preparing_with_fatal_settings_fails_and_leaves_nothing];
    let empty_common = cases![a_server_prepared_again_has_the_new_settings];
    vec![
        Group::shared("configuration", &[Need::Configuration], shared),
        Group::shared("configuration", &[Need::Configuration], shared_common).common(),
        Group::empty("configuration", &[Need::Configuration], empty),
        Group::empty("configuration", &[Need::Configuration], empty_common).common(),
    ]
}

async fn the_catalog_lists_each_parameter_once_in_order(fixture: &ServerFixture) {
    let catalog = fixture.catalog().await;
    assert!(!catalog.parameters.is_empty() && !catalog.server_version.is_empty() && !catalog.digest.is_empty());
    let names: Vec<_> = catalog.parameters.iter().map(|parameter| &parameter.name).collect();
    assert!(names.is_sorted(), "the parameters are not sorted by name");
    let normalized: BTreeSet<_> = names.iter().map(|name| name.to_ascii_lowercase().replace('-', "_")).collect();
    assert_eq!(normalized.len(), names.len(), "a parameter is listed twice");
}

async fn parameter_constraints_are_consistent(fixture: &ServerFixture) {
    for parameter in &fixture.catalog().await.parameters {
        let unit = parameter.unit.as_deref();
        assert!(!parameter.name.is_empty() && !parameter.name.chars().any(char::is_control), "{parameter:?}");
        match &parameter.kind {
            ParameterKind::Integer { min, max } => assert!(i128::from(*min) <= i128::from(*max), "{parameter:?}"),
            ParameterKind::Float { min, max } => assert!(min <= max, "{parameter:?}"),
            // The empty string may be one of the values.
            ParameterKind::Enum { values } => assert!(!values.is_empty(), "{parameter:?}"),
            ParameterKind::Set { values } => {
                assert!(!values.is_empty() && values.iter().all(|value| !value.is_empty()), "{parameter:?}");
            }
            ParameterKind::Boolean | ParameterKind::Text => {}
        }
        if let Some(unit) = unit {
            let known =
                ["B", "us"].iter().any(|small| in_units(&Setting::Text(format!("1000000{small}")), unit).is_some());
            assert!(known, "unknown unit: {parameter:?}");
        }
    }
}

async fn reserved_parameters_state_a_reason(fixture: &ServerFixture) {
    let catalog = fixture.catalog().await;
    let reserved: Vec<_> = catalog.parameters.iter().filter(|parameter| parameter.reserved.is_some()).collect();
    assert!(!reserved.is_empty(), "no parameter is reserved, although the port and the data directory must be");
    for parameter in reserved {
        let reason = parameter.reserved.as_deref().unwrap_or_default();
        assert!(reason.chars().any(char::is_alphabetic), "{parameter:?}");
        let settings = Settings::from([(parameter.name.clone(), "1".into())]);
        assert_eq!(error_kind(check_settings(catalog, &settings)), Kind::Invalid);
    }
}

async fn sample_settings_are_in_the_catalog(fixture: &ServerFixture) {
    let (catalog, samples) = (fixture.catalog().await, fixture.testbed().sample_settings());
    let check = |name: &str, setting: &Setting, dynamic: Option<bool>| {
        let parameter = catalog.parameter(name).unwrap_or_else(|| panic!("the catalog has no parameter {name}"));
        assert!(dynamic.is_none_or(|dynamic| dynamic == parameter.dynamic), "{parameter:?}");
        check_settings(catalog, &Settings::from([(name.to_owned(), setting.clone())])).unwrap();
    };
    let dynamic = samples.dynamic.into_iter().map(|sample| (sample, true));
    for ((name, first, second), dynamic) in dynamic.chain(samples.restart.map(|sample| (sample, false))) {
        check(&name, &first, Some(dynamic));
        check(&name, &second, Some(dynamic));
    }
    for (name, value) in samples.rejected.into_iter().chain(samples.fatal) {
        check(&name, &value, None);
    }
}

async fn the_digest_matches_the_catalog(fixture: &ServerFixture) {
    let expected = &fixture.catalog().await.digest;
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(&fixture.configuration_of(&*server).digest(&fixture.cx()).await.unwrap(), expected);
    }
}

async fn reading_the_catalog_leaves_the_server_alone(fixture: &ServerFixture) {
    let first = fixture.catalog().await;
    let mut session = fixture.app_session().await;
    let before = fixture.leftovers().await;
    assert_eq!(&fixture.configuration().catalog(&fixture.cx()).await.unwrap(), first, "the second catalog differs");
    session.put("a", "b").await.expect("the session was terminated");
    assert_eq!(fixture.leftovers().await, before, "reading the catalog left resources behind");
}

async fn dynamic_parameters_take_effect_immediately(fixture: &ServerFixture) {
    let (name, first, second) = fixture.dynamic_parameter();
    let mut session = fixture.app_session().await;
    for value in [&first, &second] {
        apply(fixture, &[(&name, value)]).await;
        assert_eq!(fixture.effective_value(&name).await, value.to_string());
        assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    }
    session.put("a", "b").await.expect("the session was terminated");
    apply(fixture, &[]).await;
}

async fn a_removed_setting_returns_to_its_default(fixture: &ServerFixture) {
    let (name, value, _) = fixture.dynamic_parameter();
    let before = fixture.effective_value(&name).await;
    assert_ne!(before, value.to_string(), "the sample of the testbed is the default");
    apply(fixture, &[(&name, &value)]).await;
    assert_ne!(fixture.effective_value(&name).await, before);
    apply(fixture, &[]).await;
    assert_eq!(fixture.effective_value(&name).await, before);
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
}

async fn applying_the_same_settings_again_changes_nothing(fixture: &ServerFixture) {
    let (name, value, _) = fixture.dynamic_parameter();
    let mut session = fixture.app_session().await;
    for _ in 0..2 {
        apply(fixture, &[(&name, &value)]).await;
    }
    let server = fixture.reattach();
    let settings = Settings::from([(name.clone(), value.clone())]);
    fixture.configuration_of(&*server).apply(&fixture.cx(), &settings).await.unwrap();
    assert_eq!(fixture.effective_value(&name).await, value.to_string());
    session.put("a", "b").await.expect("the session was terminated");
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn a_pending_restart_is_reported_until_the_restart(fixture: &ServerFixture) {
    let (name, first, second) = fixture.static_parameter();
    let before = fixture.effective_value(&name).await;
    apply(fixture, &[(&name, &first)]).await;
    assert_eq!(fixture.effective_value(&name).await, before);
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(fixture.settings_state(&*server).await.restart_required, [name.as_str()]);
    }
    fixture.restart().await;
    assert_eq!(fixture.effective_value(&name).await, first.to_string());
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    apply(fixture, &[(&name, &second)]).await;
    assert_eq!(fixture.settings_state(&*fixture.server).await.restart_required, [name.as_str()]);
    apply(fixture, &[]).await;
    fixture.restart().await;
    assert_eq!(fixture.effective_value(&name).await, before);
}

async fn a_pending_change_can_be_withdrawn(fixture: &ServerFixture) {
    let (name, value, _) = fixture.static_parameter();
    let mut session = fixture.app_session().await;
    apply(fixture, &[(&name, &value)]).await;
    apply(fixture, &[]).await;
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
    session.put("a", "b").await.expect("the session was terminated");
}

async fn dynamic_parts_of_a_change_take_effect_before_the_restart(fixture: &ServerFixture) {
    let ((dynamic, dynamic_value, _), (restart, restart_value, _)) =
        (fixture.dynamic_parameter(), fixture.static_parameter());
    let before = fixture.effective_value(&restart).await;
    apply(fixture, &[(&dynamic, &dynamic_value), (&restart, &restart_value)]).await;
    assert_eq!(
        (fixture.effective_value(&dynamic).await, fixture.effective_value(&restart).await),
        (dynamic_value.to_string(), before)
    );
    assert_eq!(fixture.settings_state(&*fixture.server).await.restart_required, [restart]);
    apply(fixture, &[]).await;
    assert_eq!(fixture.settings_state(&*fixture.server).await, SettingsState::default());
}

async fn a_rejected_value_leaves_all_settings_unchanged(fixture: &ServerFixture) {
    let (dynamic, first, second) = fixture.dynamic_parameter();
    let rejected = fixture.testbed().sample_settings().rejected;
    let (name, value) = rejected.unwrap_or_else(|| skip("the testbed has no sample of a rejected value"));
    apply(fixture, &[(&dynamic, &first)]).await;
    let before = fixture.effective_value(&name).await;
    let settings = Settings::from([(dynamic.clone(), second), (name.clone(), value)]);
    for server in [fixture.server.clone(), fixture.reattach()] {
        let configuration = fixture.configuration_of(&*server);
        assert_eq!(error_kind(configuration.apply(&fixture.cx(), &settings).await), Kind::Invalid);
        assert_eq!(
            (fixture.effective_value(&dynamic).await, fixture.effective_value(&name).await),
            (first.to_string(), before.clone())
        );
        assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    }
    let server = fixture.reattach();
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
}

async fn settings_survive_a_stop_and_a_kill(fixture: &ServerFixture) {
    let ((dynamic, dynamic_value, _), (restart, restart_value, _)) =
        (fixture.dynamic_parameter(), fixture.static_parameter());
    apply(fixture, &[(&dynamic, &dynamic_value), (&restart, &restart_value)]).await;
    fixture.restart().await;
    let assert_effective = async || {
        assert_eq!(
            (fixture.effective_value(&dynamic).await, fixture.effective_value(&restart).await),
            (dynamic_value.to_string(), restart_value.to_string())
        );
    };
    assert_effective().await;
    fixture.inject(ServerFault::Kill).await;
    let server = fixture.reattach();
    server.start(&fixture.cx()).await.unwrap();
    assert_effective().await;
    assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
    server.stop(&fixture.cx()).await.unwrap();
    server.start(&fixture.cx()).await.unwrap();
}

async fn settings_applied_to_a_stopped_server_take_effect_at_start(fixture: &ServerFixture) {
    let ((dynamic, dynamic_value, _), (restart, restart_value, _)) =
        (fixture.dynamic_parameter(), fixture.static_parameter());
    fixture.server.stop(&fixture.cx()).await.unwrap();
    apply(fixture, &[(&dynamic, &dynamic_value), (&restart, &restart_value)]).await;
    let server = fixture.reattach();
    server.start(&fixture.cx()).await.unwrap();
    assert_eq!(
        (fixture.effective_value(&dynamic).await, fixture.effective_value(&restart).await),
        (dynamic_value.to_string(), restart_value.to_string())
    );
    assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    server.stop(&fixture.cx()).await.unwrap();
    fixture.configuration_of(&*server).apply(&fixture.cx(), &Settings::new()).await.unwrap();
    server.start(&fixture.cx()).await.unwrap();
    assert_ne!(fixture.effective_value(&dynamic).await, dynamic_value.to_string());
}

async fn settings_applied_to_a_killed_server_take_effect_at_start(fixture: &ServerFixture) {
    let (dynamic, value, _) = fixture.dynamic_parameter();
    fixture.inject(ServerFault::Kill).await;
    fixture.wait_for("the server is down", |observed| observed.health.problem().is_some()).await;
    apply(fixture, &[(&dynamic, &value)]).await;
    fixture.server.start(&fixture.cx()).await.unwrap();
    assert_eq!(fixture.effective_value(&dynamic).await, value.to_string());
    apply(fixture, &[]).await;
}

async fn fatal_settings_are_rolled_back_and_reported(fixture: &ServerFixture) {
    let ((dynamic, first, second), (name, fatal)) = (fixture.dynamic_parameter(), fixture.fatal_setting());
    fixture.write_marker("before").await;
    apply(fixture, &[(&dynamic, &first)]).await;
    fixture.server.stop(&fixture.cx()).await.unwrap();
    apply(fixture, &[(&dynamic, &second), (&name, &fatal)]).await;
    fixture.server.start(&fixture.cx()).await.expect("the server should start with the previous settings");
    assert_eq!(
        fixture.effective_value(&dynamic).await,
        first.to_string(),
        "all changes since the last start should be rolled back"
    );
    for server in [fixture.server.clone(), fixture.reattach()] {
        let state = fixture.settings_state(&*server).await;
        assert!(state.rejected.is_some_and(|reason| !reason.is_empty()), "the rollback is not reported");
        assert!(state.restart_required.is_empty(), "{:?}", state.restart_required);
    }
    fixture.assert_marker("before").await;
    apply(fixture, &[(&dynamic, &second)]).await;
    assert_eq!(fixture.effective_value(&dynamic).await, second.to_string());
    assert_eq!(
        fixture.settings_state(&*fixture.server).await,
        SettingsState::default(),
        "a report outlived its settings"
    );
    apply(fixture, &[]).await;
}

async fn settings_take_effect_at_the_first_start(fixture: &ServerFixture) {
    let ((dynamic, dynamic_value, _), (restart, restart_value, _)) =
        (fixture.dynamic_parameter(), fixture.static_parameter());
    let settings = Settings::from([(dynamic.clone(), dynamic_value.clone()), (restart.clone(), restart_value.clone())]);
    fixture.server.prepare(&fixture.cx(), &fixture.spec().settings(settings)).await.unwrap();
    assert_eq!(
        (fixture.effective_value(&dynamic).await, fixture.effective_value(&restart).await),
        (dynamic_value.to_string(), restart_value.to_string())
    );
    for server in [fixture.server.clone(), fixture.reattach()] {
        assert_eq!(fixture.settings_state(&*server).await, SettingsState::default());
    }
}

async fn a_server_prepared_again_has_the_new_settings(fixture: &ServerFixture) {
    let (dynamic, value, _) = fixture.dynamic_parameter();
    fixture.prepare().await;
    fixture.server.remove(&fixture.cx()).await.unwrap();
    let settings = Settings::from([(dynamic.clone(), value.clone())]);
    fixture.reattach().prepare(&fixture.cx(), &fixture.spec().settings(settings)).await.unwrap();
    assert_eq!(fixture.effective_value(&dynamic).await, value.to_string());
}

async fn preparing_with_fatal_settings_fails_and_leaves_nothing(fixture: &ServerFixture) {
    let (name, fatal) = fixture.fatal_setting();
    let spec = fixture.spec().settings(Settings::from([(name, fatal)]));
    assert_eq!(error_kind(fixture.server.prepare(&fixture.cx(), &spec).await), Kind::Invalid);
    fixture.server.remove(&fixture.cx()).await.unwrap();
    fixture.assert_no_leftovers().await;
}

async fn apply(fixture: &ServerFixture, settings: &[(&String, &Setting)]) {
    let settings: Settings = settings.iter().map(|(name, value)| ((*name).clone(), (*value).clone())).collect();
    let applied = fixture.configuration().apply(&fixture.cx(), &settings).await;
    applied.unwrap_or_else(|error| panic!("{settings:?}: {error:?}"));
}
