//! Settings of PostgreSQL servers whose values need quoting, are rejected, or depend on each other.

use crate::common::{Fixture, POSTGRESQL_17, app_spec, cx};
use trove_core::{
    error::Kind,
    model::{Setting, Settings},
};

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_applied_literally_or_not_at_all() {
    let fixture = Fixture::new(POSTGRESQL_17).await;
    let quoted = r"it's \ a\\ # 'name' \'; port = 1";
    let initial = settings(&[("application_name", quoted), ("max_connections", "23"), ("work_mem", "1.5MB")]);
    fixture.server.prepare(&cx(), &app_spec().settings(initial)).await.unwrap();
    assert_eq!(current(&fixture, "application_name").await, quoted);
    assert_eq!(current(&fixture, "max_connections").await, "23");
    assert_eq!(current(&fixture, "work_mem").await, "1536kB");

    let configuration = fixture.server.abilities().configuration.unwrap();
    for (name, value) in [("lc_messages", "xx_YY"), ("DateStyle", "never"), ("default_tablespace", "nowhere")] {
        let rejected = configuration.apply(&cx(), &settings(&[(name, value), ("statement_timeout", "7s")])).await;
        let error = rejected.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error:?}");
        assert!(error.to_string().contains(name) && error.to_string().contains(value), "{error}");
        assert_eq!(current(&fixture, "statement_timeout").await, "0");
        assert_eq!(current(&fixture, "application_name").await, quoted);
    }

    // The server rejects both being on, also between two changes.
    configuration.apply(&cx(), &settings(&[("log_statement_stats", "on")])).await.unwrap();
    let swapped = settings(&[("log_parser_stats", "on"), ("log_statement_stats", "off")]);
    configuration.apply(&cx(), &swapped).await.unwrap();
    let stats = async || (current(&fixture, "log_parser_stats").await, current(&fixture, "log_statement_stats").await);
    assert_eq!(stats().await, ("on".into(), "off".into()));
    let both = settings(&[("log_parser_stats", "on"), ("log_statement_stats", "on")]);
    assert_eq!(configuration.apply(&cx(), &both).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(stats().await, ("on".into(), "off".into()));

    // Reserved parameters keep their values even if the settings were not checked against the catalog.
    let reserved = settings(&[("log_statement", "all"), ("listen_addresses", ""), ("allow_alter_system", "on")]);
    configuration.apply(&cx(), &reserved).await.unwrap();
    fixture.server.stop(&cx()).await.unwrap();
    fixture.server.start(&cx()).await.unwrap();
    assert_eq!(current(&fixture, "log_statement").await, "none");
    assert_eq!(current(&fixture, "allow_alter_system").await, "off");
    assert_eq!(current(&fixture, "max_connections").await, "20");
    fixture.remove().await;
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), Setting::from(*value))).collect()
}

async fn current(fixture: &Fixture, name: &str) -> String {
    fixture.app().await.query_one("SELECT current_setting($1::text)", &[&name]).await.unwrap().get(0)
}
