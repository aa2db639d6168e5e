//! Parameters are told as they are, and settings are in force, wait for a restart, are refused or given up.

use std::collections::BTreeSet;

use super::{
    Harm, Trial,
    suite::{Group, Need},
    trial::refused,
};
use crate::{
    conformance::case::{cases, skip},
    datastore::{check_settings, in_units},
    error::Kind,
    model::{ParameterKind, Setting, Settings, SettingsState},
};

pub(super) fn groups() -> Vec<Group> {
    let shared = cases![
        every_parameter_is_told_once_and_in_order,
        what_a_parameter_takes_makes_sense,
        what_is_reserved_says_why,
        what_is_tried_here_is_in_the_catalog,
        the_digest_is_that_of_the_catalog,
        a_catalog_is_read_without_touching_the_server,
        a_live_change_is_in_force_at_once,
        what_is_taken_away_goes_back_to_its_default,
        the_same_settings_again_change_nothing,
        a_change_that_waits_for_a_restart_is_told_until_then,
        a_change_that_waits_is_taken_back,
        a_change_is_in_force_in_part_until_a_restart,
        a_value_that_is_refused_leaves_all_as_it_was,
        settings_survive_a_stop_and_a_kill,
        settings_of_a_stopped_server_are_in_force_when_it_starts,
        settings_of_a_killed_server_are_in_force_when_it_starts,
        settings_with_which_a_server_does_not_start_are_given_up,
    ];
    let empty = cases![
        settings_are_in_force_from_the_first_start,
        a_server_prepared_again_has_the_settings_it_is_prepared_with,
        a_prepare_with_fatal_settings_says_so_and_leaves_nothing,
    ];
    vec![
        Group::shared("configuration", &[Need::Configuration], shared),
        Group::empty("configuration", &[Need::Configuration], empty),
    ]
}

async fn every_parameter_is_told_once_and_in_order(trial: &Trial) {
    let catalog = trial.catalog().await;
    assert!(!catalog.parameters.is_empty() && !catalog.server_version.is_empty() && !catalog.digest.is_empty());
    let names: Vec<_> = catalog.parameters.iter().map(|parameter| &parameter.name).collect();
    assert!(names.is_sorted(), "they are not in order of name");
    let same: BTreeSet<_> = names.iter().map(|name| name.to_ascii_lowercase().replace('-', "_")).collect();
    assert_eq!(same.len(), names.len(), "one is told twice");
}

async fn what_a_parameter_takes_makes_sense(trial: &Trial) {
    for parameter in &trial.catalog().await.parameters {
        let unit = parameter.unit.as_deref();
        assert!(!parameter.name.is_empty() && !parameter.name.chars().any(char::is_control), "{parameter:?}");
        match &parameter.kind {
            ParameterKind::Integer { min, max } => assert!(i128::from(*min) <= i128::from(*max), "{parameter:?}"),
            ParameterKind::Float { min, max } => assert!(min <= max, "{parameter:?}"),
            // The empty word may be one of them.
            ParameterKind::Enum { values } => assert!(!values.is_empty(), "{parameter:?}"),
            ParameterKind::Set { values } => {
                assert!(!values.is_empty() && values.iter().all(|value| !value.is_empty()), "{parameter:?}");
            }
            ParameterKind::Boolean | ParameterKind::Text => {}
        }
        if let Some(unit) = unit {
            let known =
                ["B", "us"].iter().any(|small| in_units(&Setting::Text(format!("1000000{small}")), unit).is_some());
            assert!(known, "nobody knows the unit: {parameter:?}");
        }
    }
}

async fn what_is_reserved_says_why(trial: &Trial) {
    let catalog = trial.catalog().await;
    let reserved: Vec<_> = catalog.parameters.iter().filter(|parameter| parameter.reserved.is_some()).collect();
    assert!(!reserved.is_empty(), "a tenant may set all there is: the port, the place of the data");
    for parameter in reserved {
        let why = parameter.reserved.as_deref().unwrap_or_default();
        assert!(why.chars().any(char::is_alphabetic), "{parameter:?}");
        let set = Settings::from([(parameter.name.clone(), "1".into())]);
        assert_eq!(refused(check_settings(catalog, &set)), Kind::Invalid);
    }
}

async fn what_is_tried_here_is_in_the_catalog(trial: &Trial) {
    let (catalog, samples) = (trial.catalog().await, trial.testbed().samples());
    let fits = |name: &str, setting: &Setting, dynamic: Option<bool>| {
        let parameter = catalog.parameter(name).unwrap_or_else(|| panic!("there is no parameter {name}"));
        assert!(dynamic.is_none_or(|dynamic| dynamic == parameter.dynamic), "{parameter:?}");
        check_settings(catalog, &Settings::from([(name.to_owned(), setting.clone())])).unwrap();
    };
    let live = samples.live.into_iter().map(|sample| (sample, true));
    for ((name, one, other), dynamic) in live.chain(samples.restart.map(|sample| (sample, false))) {
        fits(&name, &one, Some(dynamic));
        fits(&name, &other, Some(dynamic));
    }
    for (name, value) in samples.refused.into_iter().chain(samples.fatal) {
        fits(&name, &value, None);
    }
}

async fn the_digest_is_that_of_the_catalog(trial: &Trial) {
    let known = &trial.catalog().await.digest;
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(&trial.configuration_of(&*server).digest(&trial.cx()).await.unwrap(), known);
    }
}

async fn a_catalog_is_read_without_touching_the_server(trial: &Trial) {
    let known = trial.catalog().await;
    let mut session = trial.app().await;
    let before = trial.residue().await;
    assert_eq!(&trial.configuration().catalog(&trial.cx()).await.unwrap(), known, "it is another one each time");
    session.put("a", "b").await.expect("the session was cut");
    assert_eq!(trial.residue().await, before, "something is left of the reading");
}

async fn a_live_change_is_in_force_at_once(trial: &Trial) {
    let (name, one, other) = trial.live();
    let mut session = trial.app().await;
    for value in [&one, &other] {
        apply(trial, &[(&name, value)]).await;
        assert_eq!(trial.in_force(&name).await, value.to_string());
        assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    }
    session.put("a", "b").await.expect("the session was cut");
    apply(trial, &[]).await;
}

async fn what_is_taken_away_goes_back_to_its_default(trial: &Trial) {
    let (name, one, _) = trial.live();
    let before = trial.in_force(&name).await;
    assert_ne!(before, one.to_string(), "the testbed's sample is the default");
    apply(trial, &[(&name, &one)]).await;
    assert_ne!(trial.in_force(&name).await, before);
    apply(trial, &[]).await;
    assert_eq!(trial.in_force(&name).await, before);
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
}

async fn the_same_settings_again_change_nothing(trial: &Trial) {
    let (name, one, _) = trial.live();
    let mut session = trial.app().await;
    for _ in 0..2 {
        apply(trial, &[(&name, &one)]).await;
    }
    let server = trial.reattached();
    let settings = Settings::from([(name.clone(), one.clone())]);
    trial.configuration_of(&*server).apply(&trial.cx(), &settings).await.unwrap();
    assert_eq!(trial.in_force(&name).await, one.to_string());
    session.put("a", "b").await.expect("the session was cut");
    trial.configuration_of(&*server).apply(&trial.cx(), &Settings::new()).await.unwrap();
}

async fn a_change_that_waits_for_a_restart_is_told_until_then(trial: &Trial) {
    let (name, one, other) = trial.restarting();
    let before = trial.in_force(&name).await;
    apply(trial, &[(&name, &one)]).await;
    assert_eq!(trial.in_force(&name).await, before);
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(trial.settings(&*server).await.restart_required, [name.as_str()]);
    }
    trial.restart().await;
    assert_eq!(trial.in_force(&name).await, one.to_string());
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    apply(trial, &[(&name, &other)]).await;
    assert_eq!(trial.settings(&*trial.server).await.restart_required, [name.as_str()]);
    apply(trial, &[]).await;
    trial.restart().await;
    assert_eq!(trial.in_force(&name).await, before);
}

async fn a_change_that_waits_is_taken_back(trial: &Trial) {
    let (name, one, _) = trial.restarting();
    let mut session = trial.app().await;
    apply(trial, &[(&name, &one)]).await;
    apply(trial, &[]).await;
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
    session.put("a", "b").await.expect("the session was cut");
}

async fn a_change_is_in_force_in_part_until_a_restart(trial: &Trial) {
    let ((live, now, _), (later, then, _)) = (trial.live(), trial.restarting());
    let before = trial.in_force(&later).await;
    apply(trial, &[(&live, &now), (&later, &then)]).await;
    assert_eq!((trial.in_force(&live).await, trial.in_force(&later).await), (now.to_string(), before));
    assert_eq!(trial.settings(&*trial.server).await.restart_required, [later]);
    apply(trial, &[]).await;
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default());
}

async fn a_value_that_is_refused_leaves_all_as_it_was(trial: &Trial) {
    let (live, one, other) = trial.live();
    let wrong = trial.testbed().samples().refused;
    let (name, value) = wrong.unwrap_or_else(|| skip("the testbed names no value that a running server refuses"));
    apply(trial, &[(&live, &one)]).await;
    let before = trial.in_force(&name).await;
    let settings = Settings::from([(live.clone(), other), (name.clone(), value)]);
    for server in [trial.server.clone(), trial.reattached()] {
        let configuration = trial.configuration_of(&*server);
        assert_eq!(refused(configuration.apply(&trial.cx(), &settings).await), Kind::Invalid);
        assert_eq!((trial.in_force(&live).await, trial.in_force(&name).await), (one.to_string(), before.clone()));
        assert_eq!(trial.settings(&*server).await, SettingsState::default());
    }
    let server = trial.reattached();
    trial.configuration_of(&*server).apply(&trial.cx(), &Settings::new()).await.unwrap();
}

async fn settings_survive_a_stop_and_a_kill(trial: &Trial) {
    let ((live, now, _), (later, then, _)) = (trial.live(), trial.restarting());
    apply(trial, &[(&live, &now), (&later, &then)]).await;
    trial.restart().await;
    let are_in_force = async || {
        assert_eq!((trial.in_force(&live).await, trial.in_force(&later).await), (now.to_string(), then.to_string()));
    };
    are_in_force().await;
    trial.harm(Harm::Kill).await;
    let server = trial.reattached();
    server.start(&trial.cx()).await.unwrap();
    are_in_force().await;
    assert_eq!(trial.settings(&*server).await, SettingsState::default());
    trial.configuration_of(&*server).apply(&trial.cx(), &Settings::new()).await.unwrap();
    server.stop(&trial.cx()).await.unwrap();
    server.start(&trial.cx()).await.unwrap();
}

async fn settings_of_a_stopped_server_are_in_force_when_it_starts(trial: &Trial) {
    let ((live, now, _), (later, then, _)) = (trial.live(), trial.restarting());
    trial.server.stop(&trial.cx()).await.unwrap();
    apply(trial, &[(&live, &now), (&later, &then)]).await;
    let server = trial.reattached();
    server.start(&trial.cx()).await.unwrap();
    assert_eq!((trial.in_force(&live).await, trial.in_force(&later).await), (now.to_string(), then.to_string()));
    assert_eq!(trial.settings(&*server).await, SettingsState::default());
    server.stop(&trial.cx()).await.unwrap();
    trial.configuration_of(&*server).apply(&trial.cx(), &Settings::new()).await.unwrap();
    server.start(&trial.cx()).await.unwrap();
    assert_ne!(trial.in_force(&live).await, now.to_string());
}

async fn settings_of_a_killed_server_are_in_force_when_it_starts(trial: &Trial) {
    let (live, now, _) = trial.live();
    trial.harm(Harm::Kill).await;
    trial.sees("that it is down", |seen| seen.health.problem().is_some()).await;
    apply(trial, &[(&live, &now)]).await;
    trial.server.start(&trial.cx()).await.unwrap();
    assert_eq!(trial.in_force(&live).await, now.to_string());
    apply(trial, &[]).await;
}

async fn settings_with_which_a_server_does_not_start_are_given_up(trial: &Trial) {
    let ((live, one, other), (name, fatal)) = (trial.live(), trial.fatal());
    trial.note("before").await;
    apply(trial, &[(&live, &one)]).await;
    trial.server.stop(&trial.cx()).await.unwrap();
    apply(trial, &[(&live, &other), (&name, &fatal)]).await;
    trial.server.start(&trial.cx()).await.expect("it starts with the last ones with which it did");
    assert_eq!(trial.in_force(&live).await, one.to_string(), "all that changed since is given up");
    for server in [trial.server.clone(), trial.reattached()] {
        let state = trial.settings(&*server).await;
        assert!(state.rejected.is_some_and(|why| !why.is_empty()), "it is not told");
        assert!(state.restart_required.is_empty(), "{:?}", state.restart_required);
    }
    trial.has_note("before").await;
    apply(trial, &[(&live, &other)]).await;
    assert_eq!(trial.in_force(&live).await, other.to_string());
    assert_eq!(trial.settings(&*trial.server).await, SettingsState::default(), "there are others now");
    apply(trial, &[]).await;
}

async fn settings_are_in_force_from_the_first_start(trial: &Trial) {
    let ((live, now, _), (later, then, _)) = (trial.live(), trial.restarting());
    let settings = Settings::from([(live.clone(), now.clone()), (later.clone(), then.clone())]);
    trial.server.prepare(&trial.cx(), &trial.spec().settings(settings)).await.unwrap();
    assert_eq!((trial.in_force(&live).await, trial.in_force(&later).await), (now.to_string(), then.to_string()));
    for server in [trial.server.clone(), trial.reattached()] {
        assert_eq!(trial.settings(&*server).await, SettingsState::default());
    }
}

async fn a_server_prepared_again_has_the_settings_it_is_prepared_with(trial: &Trial) {
    let (live, now, _) = trial.live();
    trial.prepare().await;
    trial.server.remove(&trial.cx()).await.unwrap();
    let settings = Settings::from([(live.clone(), now.clone())]);
    trial.reattached().prepare(&trial.cx(), &trial.spec().settings(settings)).await.unwrap();
    assert_eq!(trial.in_force(&live).await, now.to_string());
}

async fn a_prepare_with_fatal_settings_says_so_and_leaves_nothing(trial: &Trial) {
    let (name, fatal) = trial.fatal();
    let spec = trial.spec().settings(Settings::from([(name, fatal)]));
    assert_eq!(refused(trial.server.prepare(&trial.cx(), &spec).await), Kind::Invalid);
    trial.server.remove(&trial.cx()).await.unwrap();
    trial.has_no_residue().await;
}

async fn apply(trial: &Trial, settings: &[(&String, &Setting)]) {
    let settings: Settings = settings.iter().map(|(name, value)| ((*name).clone(), (*value).clone())).collect();
    let applied = trial.configuration().apply(&trial.cx(), &settings).await;
    applied.unwrap_or_else(|error| panic!("{settings:?}: {error:?}"));
}
