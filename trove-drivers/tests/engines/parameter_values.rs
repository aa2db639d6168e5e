//! Sets every parameter of every engine to another value, and checks what the catalog says about
//! it: whether the value takes effect immediately or after a restart, and that the default returns
//! without the setting.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{
    EngineVersion, Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, cx,
    mysql,
};
use mysql_async::prelude::Queryable;
use trove_core::{
    datastore::check_settings,
    model::{Parameter, ParameterCatalog, ParameterKind, Setting, Settings, SettingsState},
    secret::SecretString,
};

/// How to choose values where the catalog does not say enough.
struct ValueRules {
    /// Values for parameters that reject most values.
    values: &'static [(&'static str, &'static str)],
    /// Parameters that are not tested, and why.
    skipped: &'static [(&'static str, &'static str)],
    /// Parameters that conflict with others, tested one at a time.
    conflicting: &'static [&'static str],
    /// Whether sizes are rounded to blocks, whose size is a power of two.
    blocks: bool,
    /// The minimum numbers of dynamic parameters, and of those that need a restart.
    min_counts: (usize, usize),
}

/// Declares a test for each engine version, with its memory in MiB.
macro_rules! catalog_tests {
    ($($name:ident: $engine:ident with $memory:literal MiB, $rules:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        #[ignore = "full tier"]
        async fn $name() {
            check_all($engine.memory($memory), &$rules).await;
        }
    )*};
}

catalog_tests! {
    postgresql_15_parameters_behave_as_the_catalog_says: POSTGRESQL_15 with 1024 MiB, POSTGRESQL;
    postgresql_17_parameters_behave_as_the_catalog_says: POSTGRESQL_17 with 1024 MiB, POSTGRESQL;
    postgresql_18_parameters_behave_as_the_catalog_says: POSTGRESQL_18 with 1024 MiB, POSTGRESQL;
    mysql_9_7_parameters_behave_as_the_catalog_says: MYSQL_9_7 with 3072 MiB, MYSQL;
    mariadb_10_11_parameters_behave_as_the_catalog_says: MARIADB_10_11 with 2048 MiB, MARIADB;
    mariadb_11_8_parameters_behave_as_the_catalog_says: MARIADB_11_8 with 2048 MiB, MARIADB;
}

const POSTGRESQL: ValueRules = ValueRules {
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
        // Long enough for the sessions of this test.
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
        ("client_encoding", "every client sets its own"),
        ("default_table_access_method", "other values need an extension"),
    ],
    conflicting: &["log_statement_stats"],
    blocks: false,
    min_counts: (180, 20),
};

const MYSQL: ValueRules = ValueRules {
    values: &[
        ("character_set_filesystem", "utf8mb4"),
        ("character_set_server", "latin1"),
        ("collation_server", "latin1_german1_ci"),
        ("default_storage_engine", "MyISAM"),
        ("default_tmp_storage_engine", "MEMORY"),
        ("ft_boolean_syntax", "+ -><()~*:\"\"&^"),
        ("innodb_change_buffering", "none"),
        ("innodb_default_row_format", "compact"),
        ("innodb_log_writer_threads", "ON"),
        ("innodb_stats_method", "nulls_unequal"),
        ("lc_messages", "de_DE"),
        ("lc_time_names", "de_DE"),
        ("myisam_recover_options", "BACKUP"),
        ("myisam_stats_method", "nulls_equal"),
        ("optimizer_switch", "index_merge=off"),
        ("optimizer_trace", "enabled=on"),
        ("optimizer_trace_features", "greedy_search=off"),
        ("session_track_system_variables", "autocommit"),
        ("max_user_connections", "20"),
        ("innodb_buffer_pool_size", "1744830464"),
        ("innodb_redo_log_capacity", "34603008"),
        ("key_cache_age_threshold", "400"),
        ("key_cache_block_size", "1536"),
        ("max_execution_time", "60001"),
        ("innodb_ft_sort_pll_degree", "4"),
    ],
    skipped: &[
        ("innodb_ft_server_stopword_table", "the table must exist"),
        ("innodb_ft_user_stopword_table", "the table must exist"),
    ],
    conflicting: &[],
    blocks: true,
    min_counts: (150, 20),
};

const MARIADB: ValueRules = ValueRules {
    values: &[
        ("character_set_collations", "utf8mb4=utf8mb4_general_ci"),
        ("character_set_filesystem", "utf8mb4"),
        ("character_set_server", "latin1"),
        ("collation_server", "latin1_german1_ci"),
        ("default_storage_engine", "Aria"),
        ("default_tmp_storage_engine", "MEMORY"),
        ("enforce_storage_engine", "InnoDB"),
        ("ft_boolean_syntax", "+ -><()~*:\"\"&^"),
        ("lc_messages", "de_DE"),
        ("lc_time_names", "de_DE"),
        ("optimizer_switch", "index_merge=off"),
        ("optimizer_trace", "enabled=on"),
        ("session_track_system_variables", "autocommit"),
        ("max_user_connections", "20"),
        ("key_cache_age_threshold", "400"),
        ("key_cache_block_size", "1536"),
        ("max_session_mem_used", "134217728"),
        ("max_statement_time", "60.5"),
        ("aria_pagecache_age_threshold", "400"),
        ("innodb_ft_sort_pll_degree", "4"),
        ("myisam_block_size", "2048"),
        ("myisam_recover_options", "QUICK"),
        ("table_open_cache_instances", "4"),
        ("thread_cache_size", "100"),
        ("log_slow_filter", "admin"),
    ],
    skipped: &[
        ("innodb_ft_server_stopword_table", "the table must exist"),
        ("innodb_ft_user_stopword_table", "the table must exist"),
    ],
    conflicting: &[],
    blocks: true,
    min_counts: (150, 20),
};

async fn check_all(engine: EngineVersion, rules: &ValueRules) {
    let check = ParameterCheck::start(engine).await;
    let open = check.catalog.parameters.iter().filter(|parameter| parameter.reserved.is_none());
    let (mut dynamic, mut restart, mut conflicting, mut unknown) =
        (Settings::new(), Settings::new(), Vec::new(), Vec::new());
    for parameter in open.filter(|parameter| rules.skipped.iter().all(|(name, _)| *name != parameter.name)) {
        let value = match check.other_value(parameter, rules) {
            Ok(value) => value,
            Err(name) => {
                unknown.push(name);
                continue;
            }
        };
        let batch = match rules.conflicting.contains(&parameter.name.as_str()) {
            true => {
                conflicting.push(Settings::new());
                conflicting.last_mut().unwrap()
            }
            false if parameter.dynamic => &mut dynamic,
            false => &mut restart,
        };
        batch.insert(parameter.name.clone(), value);
    }
    assert!(unknown.is_empty(), "no other values are known for: {unknown:#?}");
    assert!(
        dynamic.len() >= rules.min_counts.0 && restart.len() >= rules.min_counts.1,
        "{} {}",
        dynamic.len(),
        restart.len()
    );

    for batch in [&dynamic].into_iter().chain(&conflicting) {
        check.apply(batch).await;
        check.assert_effective(batch).await;
        assert_eq!(check.state().await, SettingsState::default());
    }
    check.apply(&dynamic).await;
    check.restart().await;
    check.assert_effective(&dynamic).await;
    assert_eq!(check.state().await, SettingsState::default());
    check.apply(&Settings::new()).await;
    check.assert_unchanged(|name| dynamic.contains_key(name)).await;

    check.apply(&restart).await;
    let pending: BTreeSet<_> = check.state().await.restart_required.into_iter().collect();
    assert_eq!(pending, restart.keys().cloned().collect());
    check.restart().await;
    check.assert_effective(&restart).await;
    assert_eq!(check.state().await, SettingsState::default());
    check.apply(&Settings::new()).await;
    let pending: BTreeSet<_> = check.state().await.restart_required.into_iter().collect();
    assert_eq!(pending, restart.keys().cloned().collect());
    check.restart().await;
    assert_eq!(check.state().await, SettingsState::default());
    check.assert_unchanged(|_| true).await;
    check.fixture.remove().await;
}

/// A server, and its parameter values before any setting was applied.
struct ParameterCheck {
    fixture: Fixture,
    catalog: ParameterCatalog,
    before: BTreeMap<String, String>,
}

impl ParameterCheck {
    async fn start(engine: EngineVersion) -> Self {
        let fixture = Fixture::prepared(engine).await;
        fixture.accounts().enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
        let catalog = fixture.server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
        let mut check = Self { fixture, catalog, before: BTreeMap::new() };
        check.before = check.values().await;
        check
    }

    /// Returns all values in a new session, in the units of the catalog.
    async fn values(&self) -> BTreeMap<String, String> {
        if self.fixture.engine.datastore != "postgresql" {
            let mut client = mysql::login(&self.fixture.host.endpoint, "root", "r00t", "").await.unwrap();
            let rows: Vec<(String, String)> = client.query("SHOW GLOBAL VARIABLES").await.unwrap();
            return rows.into_iter().collect();
        }
        let client = self.fixture.login("root", "r00t", "postgres").await.unwrap();
        let rows = client.query("SELECT name, setting FROM pg_settings", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect()
    }

    /// Returns a valid value that differs from the current one.
    fn other_value(&self, parameter: &Parameter, rules: &ValueRules) -> Result<Setting, String> {
        let name = &parameter.name;
        let current = &self.before[name];
        if let Some((_, value)) = rules.values.iter().find(|(of, _)| of == name)
            && parameter.kind != ParameterKind::Boolean
        {
            return Ok((*value).into());
        }
        Ok(match &parameter.kind {
            ParameterKind::Boolean => (current != "on" && current != "ON" && current != "1").into(),
            ParameterKind::Integer { min, max } => {
                let current: i128 = current.parse().unwrap_or_else(|_| panic!("{name} is {current:?}"));
                let (min, max) = (i128::from(*min), i128::from(*max));
                let step = match current {
                    ..4096 => 1,
                    _ if !rules.blocks => 1,
                    4096..131_072 => current & -current,
                    131_072..67_108_864 => (current & -current).min(1 << 14),
                    _ => (current & -current).min(1 << 20),
                };
                let near = [current + step, current - step, current + 1, current - 1];
                let other = near.into_iter().find(|other| (min..=max).contains(other)).unwrap();
                other.to_string().into()
            }
            ParameterKind::Float { min, max } => {
                let current: f64 = current.parse().unwrap();
                let near = [current + 0.5, current - 0.5, f64::midpoint(current, *max)];
                near.into_iter().find(|other| (*min..=*max).contains(other)).unwrap().into()
            }
            ParameterKind::Enum { values } => {
                let other = values.iter().find(|value| !value.eq_ignore_ascii_case(current));
                other.unwrap_or_else(|| panic!("{name} can only be {current:?}")).as_str().into()
            }
            ParameterKind::Set { values } => {
                if current.is_empty() {
                    values[0].as_str().into()
                } else {
                    "".into()
                }
            }
            ParameterKind::Text => return Err(format!("{name} = {current:?}")),
        })
    }

    async fn apply(&self, settings: &Settings) {
        let checked = check_settings(&self.catalog, settings).unwrap();
        assert_eq!(checked, *settings);
        self.fixture.engine.driver().check_settings(&self.fixture.host.flavor, settings).unwrap();
        let configuration = self.fixture.server.abilities().configuration.unwrap();
        let Err(error) = configuration.apply(&cx(), settings).await else { return };
        // Apply each alone, to report all that are rejected.
        let mut rejected = vec![error.report()];
        for (name, setting) in settings {
            let alone = Settings::from([(name.clone(), setting.clone())]);
            if let Err(error) = configuration.apply(&cx(), &alone).await {
                rejected.push(error.report());
            }
        }
        panic!("rejected: {rejected:#?}");
    }

    async fn assert_effective(&self, settings: &Settings) {
        let values = self.values().await;
        let matches = |name: &String, setting: &Setting| {
            let (wanted, found) = (setting.to_string(), &values[name]);
            let number = |text: &str| text.parse::<f64>().ok();
            match (number(&wanted), number(found)) {
                (Some(wanted), Some(found)) => (wanted - found).abs() <= wanted.abs() * 1e-5,
                // Pairs that are not in the setting keep their values.
                _ if wanted.contains('=') => found.split(',').any(|pair| pair == wanted),
                _ => wanted.eq_ignore_ascii_case(found),
            }
        };
        let differing: BTreeMap<_, _> = settings
            .iter()
            .filter(|(name, setting)| !matches(name, setting))
            .map(|(name, setting)| (name, (setting, &values[name])))
            .collect();
        assert!(differing.is_empty(), "not in effect: {differing:#?}");
    }

    /// Asserts that the selected parameters have their initial values. Reserved ones may depend on
    /// the host.
    async fn assert_unchanged(&self, selected: impl Fn(&str) -> bool) {
        let after = self.values().await;
        let open = |name: &&String| {
            selected(name) && self.catalog.parameter(name).is_some_and(|found| found.reserved.is_none())
        };
        let names = self.before.keys().filter(open).filter(|name| self.before.get(*name) != after.get(*name));
        let changed: BTreeMap<_, _> = names.map(|name| (name, (&self.before[name], &after[name]))).collect();
        assert!(changed.is_empty(), "changed: {changed:#?}");
    }

    async fn state(&self) -> SettingsState {
        self.fixture.server.observe(&cx()).await.unwrap().settings.unwrap()
    }

    async fn restart(&self) {
        self.fixture.server.stop(&cx()).await.unwrap();
        self.fixture.server.start(&cx()).await.unwrap();
    }
}
