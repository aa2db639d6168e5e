//! The store on SQLite. Its suite runs in memory with the others, and on PostgreSQL with the drivers.

use trove_core::{conformance::store::certify, error::Kind, store::Store};

#[tokio::test]
async fn sqlite_on_disk_passes_the_suite_and_is_locked() {
    let directory = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", directory.path().join("trove.db").display());
    let store = Store::connect(&url).await.unwrap();
    let report = certify("SQLite on disk", &store).await;
    assert!(report.passed(), "{report}");
    assert_eq!(Store::connect(&url).await.unwrap_err().kind(), Kind::Conflict);
    store.close().await;
    Store::connect(&url).await.unwrap();
}

#[tokio::test]
async fn invalid_urls_are_rejected_without_showing_a_password() {
    for url in
        ["", "host=db password=hunter2", "mysql://app:hunter2@host/db", "postgres://app:hunter2@host:notaport/db"]
    {
        let error = Store::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{url}");
        assert!(!error.report().contains("hunter2"), "{error:?}");
    }
}
