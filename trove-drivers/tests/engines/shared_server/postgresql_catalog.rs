use crate::common::{Fixture, cx};
use trove_core::{
    datastore::check_settings,
    model::{ParameterKind, Settings},
};

pub async fn the_catalog_has_the_defaults_of_an_unconfigured_server(fixture: &Fixture) {
    let catalog = fixture.server.abilities().configuration.unwrap().catalog(&cx()).await.unwrap();
    for (name, unit, default, dynamic) in [
        ("shared_buffers", Some("8kB"), "16384", false),
        ("work_mem", Some("kB"), "4096", true),
        ("max_connections", None, "100", false),
        // Not the value of the administrator's sessions.
        ("statement_timeout", Some("ms"), "0", true),
        // Set by the driver for servers of every size.
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
    for name in ["archive_command", "data_directory", "fsync", "ssl_key_file", "log_statement", "primary_conninfo"] {
        let error = check_settings(&catalog, &Settings::from([(name.to_owned(), "x".into())])).unwrap_err();
        assert!(error.to_string().contains("cannot be set"), "{error}");
    }
}
