//! That every parameter of every engine does what its catalog says of it: each one that may be set is set to another
//! value on a server that runs, is in force at once or after a restart as was told, and goes back with its setting.

use std::collections::{BTreeMap, BTreeSet};

use crate::common::{
    Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject, cx,
    is_quick_tier, mysql,
};
use mysql_async::prelude::Queryable;
use trove_core::{
    datastore::check_settings,
    model::{Parameter, ParameterCatalog, ParameterKind, Setting, Settings, SettingsState},
    secret::SecretString,
};

/// What has to be known of an engine's parameters that its catalog does not say.
struct Engine {
    /// Values for those of which any other one would not do.
    values: &'static [(&'static str, &'static str)],
    /// Those that are not tried, and why.
    skipped: &'static [(&'static str, &'static str)],
    /// Those that do not go together with others, tried each by itself.
    alone: &'static [&'static str],
    /// Whether sizes are counted in blocks, of which each is a power of two.
    blocks: bool,
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
    blocks: false,
    least: (180, 20),
};

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_15_does_what_is_told() {
    try_all(POSTGRESQL_15.memory(1024), &POSTGRESQL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_17_does_what_is_told() {
    try_all(POSTGRESQL_17.memory(1024), &POSTGRESQL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_postgresql_18_does_what_is_told() {
    try_all(POSTGRESQL_18.memory(1024), &POSTGRESQL).await;
}

const MYSQL: Engine = Engine {
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
        ("innodb_ft_server_stopword_table", "the table has to exist"),
        ("innodb_ft_user_stopword_table", "the table has to exist"),
    ],
    alone: &[],
    blocks: true,
    least: (150, 20),
};

const MARIADB: Engine = Engine {
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
        ("innodb_ft_server_stopword_table", "the table has to exist"),
        ("innodb_ft_user_stopword_table", "the table has to exist"),
    ],
    alone: &[],
    blocks: true,
    least: (150, 20),
};

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_mysql_9_7_does_what_is_told() {
    try_all(MYSQL_9_7.memory(3072), &MYSQL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_mariadb_10_11_does_what_is_told() {
    try_all(MARIADB_10_11.memory(2048), &MARIADB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_parameter_of_mariadb_11_8_does_what_is_told() {
    try_all(MARIADB_11_8.memory(2048), &MARIADB).await;
}

async fn try_all(subject: Subject, engine: &Engine) {
    if is_quick_tier() {
        return;
    }
    let check = ParameterCheck::begin(subject).await;
    let open = check.catalog.parameters.iter().filter(|parameter| parameter.reserved.is_none());
    let (mut dynamic, mut restart, mut alone, mut unknown) = (Settings::new(), Settings::new(), Vec::new(), Vec::new());
    for parameter in open.filter(|parameter| engine.skipped.iter().all(|(name, _)| *name != parameter.name)) {
        let value = match check.another(parameter, engine) {
            Ok(value) => value,
            Err(name) => {
                unknown.push(name);
                continue;
            }
        };
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
    assert!(unknown.is_empty(), "nobody knows other values for these: {unknown:#?}");
    assert!(dynamic.len() >= engine.least.0 && restart.len() >= engine.least.1, "{} {}", dynamic.len(), restart.len());

    for batch in [&dynamic].into_iter().chain(&alone) {
        check.apply(batch).await;
        check.assert_in_force(batch).await;
        assert_eq!(check.state().await, SettingsState::default());
    }
    check.apply(&dynamic).await;
    check.restart().await;
    check.assert_in_force(&dynamic).await;
    assert_eq!(check.state().await, SettingsState::default());
    check.apply(&Settings::new()).await;
    check.assert_as_before(|name| dynamic.contains_key(name)).await;

    check.apply(&restart).await;
    let waiting: BTreeSet<_> = check.state().await.restart_required.into_iter().collect();
    assert_eq!(waiting, restart.keys().cloned().collect());
    check.restart().await;
    check.assert_in_force(&restart).await;
    assert_eq!(check.state().await, SettingsState::default());
    check.apply(&Settings::new()).await;
    let waiting: BTreeSet<_> = check.state().await.restart_required.into_iter().collect();
    assert_eq!(waiting, restart.keys().cloned().collect());
    check.restart().await;
    assert_eq!(check.state().await, SettingsState::default());
    check.assert_as_before(|_| true).await;
    check.fixture.removed().await;
}

/// One server, and what it was like before anything was set.
struct ParameterCheck {
    fixture: Fixture,
    catalog: ParameterCatalog,
    before: BTreeMap<String, String>,
}

impl ParameterCheck {
    async fn begin(subject: Subject) -> Self {
        let fixture = Fixture::prepared(subject).await;
        let accounts = fixture.server.abilities().accounts.unwrap();
        accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
        let catalog = fixture.server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
        let mut check = Self { fixture, catalog, before: BTreeMap::new() };
        check.before = check.values().await;
        check
    }

    /// All values of a session that has just begun, in the units of the catalog.
    async fn values(&self) -> BTreeMap<String, String> {
        if self.fixture.subject.datastore != "postgresql" {
            let mut client = mysql::login(&self.fixture.host.endpoint, "root", "r00t", "").await.unwrap();
            let rows: Vec<(String, String)> = client.query("SHOW GLOBAL VARIABLES").await.unwrap();
            return rows.into_iter().collect();
        }
        let client = self.fixture.login("root", "r00t", "postgres").await.unwrap();
        let rows = client.query("SELECT name, setting FROM pg_settings", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get::<_, Option<String>>(1).unwrap_or_default())).collect()
    }

    /// A value that the parameter may have and has not.
    fn another(&self, parameter: &Parameter, engine: &Engine) -> Result<Setting, String> {
        let name = &parameter.name;
        let present = &self.before[name];
        if let Some((_, value)) = engine.values.iter().find(|(of, _)| of == name)
            && parameter.kind != ParameterKind::Boolean
        {
            return Ok((*value).into());
        }
        Ok(match &parameter.kind {
            ParameterKind::Boolean => (present != "on" && present != "ON" && present != "1").into(),
            ParameterKind::Integer { min, max } => {
                let present: i128 = present.parse().unwrap_or_else(|_| panic!("{name} is {present:?}"));
                let (min, max) = (i128::from(*min), i128::from(*max));
                let step = match present {
                    ..4096 => 1,
                    _ if !engine.blocks => 1,
                    4096..131_072 => present & -present,
                    131_072..67_108_864 => (present & -present).min(1 << 14),
                    _ => (present & -present).min(1 << 20),
                };
                let near = [present + step, present - step, present + 1, present - 1];
                let other = near.into_iter().find(|other| (min..=max).contains(other)).unwrap();
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
            ParameterKind::Text => return Err(format!("{name} = {present:?}")),
        })
    }

    async fn apply(&self, settings: &Settings) {
        let checked = check_settings(&self.catalog, settings).unwrap();
        assert_eq!(checked, *settings);
        self.fixture.subject.driver().check_settings(&self.fixture.host.flavor, settings).unwrap();
        let configuration = self.fixture.server.abilities().configuration.unwrap();
        let Err(refused) = configuration.apply(&cx(), settings).await else { return };
        // Which ones they are is told at once.
        let mut each = vec![refused.report()];
        for (name, setting) in settings {
            let alone = Settings::from([(name.clone(), setting.clone())]);
            if let Err(refused) = configuration.apply(&cx(), &alone).await {
                each.push(refused.report());
            }
        }
        panic!("refused: {each:#?}");
    }

    async fn assert_in_force(&self, settings: &Settings) {
        let values = self.values().await;
        let is = |name: &String, setting: &Setting| {
            let (wanted, found) = (setting.to_string(), &values[name]);
            let number = |text: &str| text.parse::<f64>().ok();
            match (number(&wanted), number(found)) {
                (Some(wanted), Some(found)) => (wanted - found).abs() <= wanted.abs() * 1e-5,
                // Pairs that are not told stay as they are.
                _ if wanted.contains('=') => found.split(',').any(|pair| pair == wanted),
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

    /// That these parameters are what they were, with those that cannot be set left out: some tell where the server is.
    async fn assert_as_before(&self, of: impl Fn(&str) -> bool) {
        let after = self.values().await;
        let open =
            |name: &&String| of(name) && self.catalog.parameter(name).is_some_and(|found| found.reserved.is_none());
        let names = self.before.keys().filter(open).filter(|name| self.before.get(*name) != after.get(*name));
        let differ: BTreeMap<_, _> = names.map(|name| (name, (&self.before[name], &after[name]))).collect();
        assert!(differ.is_empty(), "not as before: {differ:#?}");
    }

    async fn state(&self) -> SettingsState {
        self.fixture.server.observe(&cx()).await.unwrap().settings.unwrap()
    }

    async fn restart(&self) {
        self.fixture.server.stop(&cx()).await.unwrap();
        self.fixture.server.start(&cx()).await.unwrap();
    }
}
