//! The store's suite on SQLite; that on PostgreSQL runs beside the drivers, on a server of theirs.

use trove_core::{conformance::store::certify, error::Kind, store::Store};

#[tokio::test]
async fn sqlite_in_memory_keeps_the_contract() {
    let report = certify("SQLite in memory", &Store::connect("sqlite::memory:").await.unwrap()).await;
    assert!(report.passed(), "{report}");
}

#[tokio::test]
async fn sqlite_on_disk_keeps_the_contract_and_keeps_others_out() {
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
async fn urls_that_are_none_are_refused_without_showing_a_password() {
    for url in
        ["", "host=db password=hunter2", "mysql://app:hunter2@host/db", "postgres://app:hunter2@host:notaport/db"]
    {
        let error = Store::connect(url).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{url}");
        assert!(!error.report().contains("hunter2"), "{error:?}");
    }
}
