//! A MariaDB server of a later series on the data of an earlier one, and back.

use crate::common::{Fixture, MARIADB_10_11, MARIADB_11_8, cx};
use trove_core::{datastore::Release, error::Kind};

#[tokio::test(flavor = "multi_thread")]
async fn a_series_becomes_the_next_and_goes_back() {
    let fixture = Fixture::prepared(MARIADB_10_11).await;
    let mut app = fixture.client("app", "secret", "app").await.unwrap();
    for sql in ["CREATE TABLE t (x int)", "INSERT INTO t VALUES (7)"] {
        app.run(sql).await.unwrap();
    }
    drop(app);
    let (old, new) = [MARIADB_10_11, MARIADB_11_8].map(|it| Release::new(it.version, it.image())).into();
    let upgrade = fixture.server.upgrade().unwrap();
    upgrade.check(&cx(), &new).await.unwrap();
    upgrade.upgrade(&cx(), &new).await.unwrap();
    let seen = async || fixture.server.observe(&cx()).await.unwrap().server_version.unwrap();
    assert!(seen().await.starts_with("11.8."));
    let mut app = fixture.client("app", "secret", "app").await.unwrap();
    assert_eq!(app.text("SELECT x FROM t").await.unwrap(), "7");
    app.run("INSERT INTO t VALUES (8)").await.unwrap();
    assert!(fixture.client("server", "", "").await.is_err());
    let users = fixture.server.accounts().unwrap().users(&cx(), &Default::default()).await.unwrap().items;
    assert_eq!(users.len(), 1);
    drop(app);

    upgrade.revert(&cx(), &old).await.unwrap();
    assert!(seen().await.starts_with("10.11."));
    let mut app = fixture.client("app", "secret", "app").await.unwrap();
    assert_eq!(app.text("SELECT SUM(x) FROM t").await.unwrap(), "7");
    upgrade.conclude(&cx()).await.unwrap();

    upgrade.upgrade(&cx(), &new).await.unwrap();
    upgrade.conclude(&cx()).await.unwrap();
    assert_eq!(upgrade.check(&cx(), &old).await.unwrap_err().kind(), Kind::Unsupported);
    fixture.removed().await;
}
