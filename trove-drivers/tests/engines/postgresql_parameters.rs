//! Settings of PostgreSQL servers: what a catalog says of them, and what the server makes of values that do not fit.

use crate::common::{Fixture, POSTGRESQL_15, POSTGRESQL_17, app, cx};
use trove_core::{
    datastore::check_settings,
    error::Kind,
    model::{ParameterKind, Setting, Settings},
};

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect()
}

async fn shown(fixture: &Fixture, name: &str) -> String {
    fixture.app().await.query_one(&format!("SHOW \"{name}\""), &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn values_are_taken_as_they_are_and_wrong_ones_leave_all_as_it_was() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let hostile = r"it's \ a\\ # 'name' \'; port = 1";
    let first = settings(&[("application_name", hostile), ("max_connections", "23"), ("work_mem", "1.5MB")]);
    fixture.server.prepare(&cx(), &app().settings(first.clone())).await.unwrap();
    assert_eq!(shown(&fixture, "application_name").await, hostile);
    assert_eq!(shown(&fixture, "max_connections").await, "23");
    assert_eq!(shown(&fixture, "work_mem").await, "1536kB");

    let configuration = fixture.server.abilities().configuration.unwrap();
    for (name, value) in [("lc_messages", "xx_YY"), ("DateStyle", "never"), ("default_tablespace", "nowhere")] {
        let refused = configuration.apply(&cx(), &settings(&[(name, value), ("statement_timeout", "7s")])).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), Kind::Invalid, "{refused:?}");
        assert!(refused.to_string().contains(name) && refused.to_string().contains(value), "{refused}");
        assert_eq!(shown(&fixture, "statement_timeout").await, "0");
        assert_eq!(shown(&fixture, "application_name").await, hostile);
    }

    // Values that go together only when all are as they should be.
    configuration.apply(&cx(), &settings(&[("log_statement_stats", "on")])).await.unwrap();
    let other = settings(&[("log_parser_stats", "on"), ("log_statement_stats", "off")]);
    configuration.apply(&cx(), &other).await.unwrap();
    let admin = async |name: &str| {
        let row = fixture.app().await.query_one("SELECT current_setting($1::text)", &[&name]).await.unwrap();
        row.get::<_, String>(0)
    };
    assert_eq!((admin("log_parser_stats").await, admin("log_statement_stats").await), ("on".into(), "off".into()));
    let both = settings(&[("log_parser_stats", "on"), ("log_statement_stats", "on")]);
    assert_eq!(configuration.apply(&cx(), &both).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!((admin("log_parser_stats").await, admin("log_statement_stats").await), ("on".into(), "off".into()));

    // What is fixed stays, even where nobody has asked the catalog.
    let fixed = settings(&[("log_statement", "all"), ("listen_addresses", ""), ("allow_alter_system", "on")]);
    configuration.apply(&cx(), &fixed).await.unwrap();
    fixture.server.stop(&cx()).await.unwrap();
    fixture.server.start(&cx()).await.unwrap();
    assert_eq!((admin("log_statement").await, admin("allow_alter_system").await), ("none".into(), "off".into()));
    assert_eq!(shown(&fixture, "max_connections").await, "20");
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalog_is_what_an_unconfigured_server_has() {
    for subject in [POSTGRESQL_17, POSTGRESQL_15] {
        let fixture = Fixture::new(subject).await;
        let catalog = fixture.server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
        for (name, unit, default, dynamic) in [
            ("shared_buffers", Some("8kB"), "16384", false),
            ("work_mem", Some("kB"), "4096", true),
            ("max_connections", None, "100", false),
            // The administrator's sessions have their own.
            ("statement_timeout", Some("ms"), "0", true),
            // What is the service's for servers of every size.
            ("random_page_cost", None, "1.1", true),
            ("TimeZone", None, "UTC", true),
            ("log_connections", None, "off", true),
        ] {
            let found = catalog.parameter(name).unwrap();
            assert_eq!((found.unit.as_deref(), found.default.as_deref()), (unit, Some(default)), "{name}");
            assert_eq!((found.dynamic, &found.reserved), (dynamic, &None), "{name}");
            assert!(!found.description.is_empty());
        }
        let level = &catalog.parameter("wal_level").unwrap().kind;
        assert_eq!(*level, ParameterKind::Enum { values: vec!["replica".to_owned(), "logical".to_owned()] });
        assert!(catalog.parameter("server_version").is_none() && catalog.parameter("role").is_none());
        for name in ["archive_command", "data_directory", "fsync", "ssl_key_file", "log_statement", "primary_conninfo"]
        {
            let refused = check_settings(&catalog, &settings(&[(name, "x")])).unwrap_err();
            assert!(refused.to_string().contains("cannot be set"), "{refused}");
        }
        fixture.removed().await;
    }
}
