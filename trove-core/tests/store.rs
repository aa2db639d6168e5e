//! The store on SQLite files. The suite also runs in memory with the other suites, and on PostgreSQL
//! with the drivers.

use trove_core::{conformance::store::certify, error::Kind, store::Store};

#[tokio::test]
async fn a_sqlite_file_passes_the_suite_and_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("trove.db").display());
    let store = Store::connect(&url).await.unwrap();
    let report = certify("SQLite file", &store).await;
    assert!(report.passed(), "{report}");
    assert_eq!(Store::connect(&url).await.unwrap_err().kind(), Kind::Conflict);
    store.close().await;
    Store::connect(&url).await.unwrap();
}

#[tokio::test]
async fn errors_for_invalid_urls_contain_no_password() {
    for url in
        ["", "host=db password=hunter2", "mysql://app:hunter2@host/db", "postgres://app:hunter2@host:notaport/db"]
    {
        let error = Store::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{url}");
        assert!(!error.report().contains("hunter2"), "{error:?}");
    }
}
