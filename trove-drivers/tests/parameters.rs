//! That every parameter of every engine does what its catalogue says of it: each one that may be set is set to another
//! value on a server that runs, is in force at once or after a restart as was told, and goes back with its setting.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{Fixture, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject, cx};
use trove_core::{
    datastore::check_settings,
    model::{Catalogue, Parameter, ParameterKind, Setting, Settings, SettingsState},
    secret::SecretString,
};

/// What has to be known of an engine's parameters that its catalogue does not say.
struct Engine {
    /// Values for those of which any other one would not do.
    values: &'static [(&'static str, &'static str)],
    /// Those that are not tried, and why.
    skipped: &'static [(&'static str, &'static str)],
    /// Those that do not go together with others, tried each by itself.
    alone: &'static [&'static str],
    /// How many there are at least that may be set while the server runs, and with a restart.
    least: (usize, usize),
}

const POSTGRESQL: Engine = Engine {
    values: &[
        ("DateStyle", "SQL, DMY"),
        ("TimeZone", "America/New_York"),
        ("application_name", "configured"),
        ("createrole_self_grant", "set, inherit"),
        ("default_tablespace", "pg_default"),
        ("default_text_search_config", "pg_catalog.german"),
        ("lc_messages", "C"),
        ("lc_monetary", "C.UTF-8"),
        ("lc_numeric", "C.UTF-8"),
        ("lc_time", "C.UTF-8"),
        ("log_connections", "receipt"),
        ("restrict_nonsystem_relation_kind", "view"),
        ("search_path", "pg_catalog, public"),
        ("temp_tablespaces", "pg_default"),
        ("timezone_abbreviations", "Australia"),
        // Long enough for the session that looks.
        ("statement_timeout", "600001"),
        ("transaction_timeout", "600001"),
        ("idle_session_timeout", "600001"),
        // Multiples of 16.
        ("commit_timestamp_buffers", "48"),
        ("multixact_member_buffers", "48"),
        ("multixact_offset_buffers", "48"),
        ("notify_buffers", "48"),
        ("serializable_buffers", "48"),
        ("subtransaction_buffers", "48"),
        ("transaction_buffers", "48"),
    ],
    skipped: &[
        ("client_encoding", "every client says its own"),
        ("default_table_access_method", "there is no other without an extension"),
    ],
    alone: &["log_statement_stats"],
    least: (180, 20),
};

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_15_does_what_is_told() {
    try_all(POSTGRESQL_15, &POSTGRESQL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_17_does_what_is_told() {
    try_all(POSTGRESQL_17, &POSTGRESQL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_18_does_what_is_told() {
    try_all(POSTGRESQL_18, &POSTGRESQL).await;
}

async fn try_all(subject: Subject, engine: &Engine) {
    let trial = Trial::begin(subject.memory(1024)).await;
    let open = trial.catalogue.parameters.iter().filter(|parameter| parameter.reserved.is_none());
    let (mut dynamic, mut restart, mut alone) = (Settings::new(), Settings::new(), Vec::new());
    for parameter in open.filter(|parameter| engine.skipped.iter().all(|(name, _)| *name != parameter.name)) {
        let value = trial.another(parameter, engine);
        let batch = match engine.alone.contains(&parameter.name.as_str()) {
            true => {
                alone.push(Settings::new());
                alone.last_mut().unwrap()
            }
            false if parameter.dynamic => &mut dynamic,
            false => &mut restart,
        };
        batch.insert(parameter.name.clone(), value);
    }
    assert!(dynamic.len() >= engine.least.0 && restart.len() >= engine.least.1, "{} {}", dynamic.len(), restart.len());

    for batch in [&dynamic].into_iter().chain(&alone) {
        trial.apply(batch).await;
        trial.assert_in_force(batch).await;
        assert_eq!(trial.state().await, SettingsState::default());
    }
    trial.apply(&Settings::new()).await;
    assert_eq!(differences(&trial.before, &trial.values().await), BTreeMap::new());

    trial.apply(&restart).await;
    let waiting: BTreeSet<_> = trial.state().await.restart_required.into_iter().collect();
    assert_eq!(waiting, restart.keys().cloned().collect());
    trial.restart().await;
    trial.assert_in_force(&restart).await;
    assert_eq!(trial.state().await, SettingsState::default());
    trial.apply(&Settings::new()).await;
    let waiting: BTreeSet<_> = trial.state().await.restart_required.into_iter().collect();
    assert_eq!(waiting, restart.keys().cloned().collect());
    trial.restart().await;
    assert_eq!(trial.state().await, SettingsState::default());
    assert_eq!(differences(&trial.before, &trial.values().await), BTreeMap::new());
    trial.fixture.removed().await;
}

/// One server, and what it was like before anything was set.
struct Trial {
    fixture: Fixture,
    catalogue: Catalogue,
    before: BTreeMap<String, String>,
}

impl Trial {
    async fn begin(subject: Subject) -> Self {
        let fixture = Fixture::prepared(subject).await;
        let accounts = fixture.server.accounts().unwrap();
        accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
        let catalogue = fixture.server.configuration().unwrap().catalogue(&cx()).await.unwrap();
        let mut trial = Self { fixture, catalogue, before: BTreeMap::new() };
        trial.before = trial.values().await;
        trial
    }

    /// All values of a session that has just begun, in the units of the catalogue.
    async fn values(&self) -> BTreeMap<String, String> {
        let client = self.fixture.login("root", "r00t", "postgres").await.unwrap();
        let rows = client.query("SELECT name, setting FROM pg_settings", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect()
    }

    /// A value that the parameter may have and has not.
    fn another(&self, parameter: &Parameter, engine: &Engine) -> Setting {
        let name = &parameter.name;
        let present = &self.before[name];
        if let Some((_, value)) = engine.values.iter().find(|(of, _)| of == name)
            && (parameter.kind == ParameterKind::Text || matches!(parameter.kind, ParameterKind::Integer { .. }))
        {
            return (*value).into();
        }
        match &parameter.kind {
            ParameterKind::Boolean => (present != "on" && present != "ON" && present != "1").into(),
            ParameterKind::Integer { min, max } => {
                let present: i128 = present.parse().unwrap_or_else(|_| panic!("{name} is {present:?}"));
                let (min, max) = (i128::from(*min), i128::from(*max));
                let other = if present < max { present + 1 } else { present - 1 };
                assert!((min..=max).contains(&other), "{name} is {present} of {min} to {max}");
                other.to_string().into()
            }
            ParameterKind::Float { min, max } => {
                let present: f64 = present.parse().unwrap();
                let near = [present + 0.5, present - 0.5, f64::midpoint(present, *max)];
                near.into_iter().find(|other| (*min..=*max).contains(other)).unwrap().into()
            }
            ParameterKind::Enum { values } => {
                let other = values.iter().find(|value| !value.eq_ignore_ascii_case(present));
                other.unwrap_or_else(|| panic!("{name} can only be {present:?}")).as_str().into()
            }
            ParameterKind::Set { values } => {
                if present.is_empty() {
                    values[0].as_str().into()
                } else {
                    "".into()
                }
            }
            ParameterKind::Text => panic!("nobody knows another value for {name} than {present:?}"),
        }
    }

    async fn apply(&self, settings: &Settings) {
        let checked = check_settings(&self.catalogue, settings).unwrap();
        assert_eq!(checked, *settings);
        self.fixture.subject.driver().check_settings(&self.fixture.host.flavor, settings).unwrap();
        let applied = self.fixture.server.configuration().unwrap().apply(&cx(), settings).await;
        applied.unwrap_or_else(|error| panic!("{}", error.report()));
    }

    async fn assert_in_force(&self, settings: &Settings) {
        let values = self.values().await;
        let is = |name: &String, setting: &Setting| {
            let (wanted, found) = (setting.to_string(), &values[name]);
            let number = |text: &str| text.parse::<f64>().ok();
            match (number(&wanted), number(found)) {
                (Some(wanted), Some(found)) => (wanted - found).abs() <= wanted.abs() * 1e-5,
                _ => wanted.eq_ignore_ascii_case(found),
            }
        };
        let not: BTreeMap<_, _> = settings
            .iter()
            .filter(|(name, setting)| !is(name, setting))
            .map(|(name, setting)| (name, (setting, &values[name])))
            .collect();
        assert!(not.is_empty(), "not in force: {not:#?}");
    }

    async fn state(&self) -> SettingsState {
        self.fixture.server.observe(&cx()).await.unwrap().settings.unwrap()
    }

    async fn restart(&self) {
        self.fixture.server.stop(&cx()).await.unwrap();
        self.fixture.server.start(&cx()).await.unwrap();
    }
}

fn differences<'a>(
    before: &'a BTreeMap<String, String>,
    after: &'a BTreeMap<String, String>,
) -> BTreeMap<&'a String, (&'a String, Option<&'a String>)> {
    let differs = before.iter().filter(|(name, value)| after.get(*name) != Some(*value));
    differs.map(|(name, value)| (name, (value, after.get(name)))).collect()
}
