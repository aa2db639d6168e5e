//! As many sessions as a server accepts, all busy at once.

use crate::common::{Fixture, container_log, cx, eventually, mysql};
use futures_util::future::join_all;
use mysql_async::prelude::Queryable;

pub async fn postgresql_sessions_fit_into_the_memory(fixture: &Fixture) {
    let table = "CREATE TABLE t AS SELECT i, md5(i::text) AS word FROM generate_series(1, 100000) i; ANALYZE t";
    fixture.app().await.batch_execute(table).await.unwrap();
    let mut sessions = Vec::new();
    // All but those reserved for the administrator, which has one open as well.
    while sessions.len() < 14 {
        sessions.push(
            eventually("login", async || {
                fixture.login("app", "secret", "app").await.map_err(|error| error.to_string())
            })
            .await,
        );
    }
    let query = "SELECT count(*) FROM (SELECT a.word, count(*), max(b.word) FROM t a JOIN t b ON a.i = b.i \
                 GROUP BY a.word ORDER BY 3, 1) s";
    for row in join_all(sessions.iter().map(|session| session.query_one(query, &[]))).await {
        assert_eq!(row.unwrap().get::<_, i64>(0), 100_000);
    }
    assert_administrator_can_log_in(fixture).await;
    assert_eq!(container_log(&fixture.container()).await.matches("terminated by signal").count(), 0);
    drop(sessions);
    fixture.wait_until_disconnected("app").await;
}

pub async fn mysql_sessions_fit_into_the_memory(fixture: &Fixture) {
    let login = async || mysql::login(&fixture.host.endpoint, "app", "secret", "app").await;
    let mut sessions = vec![login().await.unwrap()];
    let table = "CREATE TABLE many (PRIMARY KEY (i)) AS WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 1000) \
                 SELECT a.i * 1000 + b.i AS i, SHA2(a.i * 1000 + b.i, 256) AS word FROM n a JOIN n b ON b.i <= 10";
    sessions[0].query_drop(table).await.unwrap();
    while let Ok(session) = login().await {
        sessions.push(session);
    }
    assert!(sessions.len() >= 18, "{}", sessions.len());
    assert_administrator_can_log_in(fixture).await;
    let query = "SELECT count(*) FROM (SELECT a.word, count(*) AS n, max(b.word) AS m FROM many a JOIN many b \
                 ON a.i = b.i GROUP BY a.word ORDER BY m, n) s";
    for count in join_all(sessions.iter_mut().map(|session| session.query_first::<u64, _>(query))).await {
        assert_eq!(count.unwrap(), Some(10_000));
    }
    fixture.wait_until_healthy().await;
    drop(sessions);
    fixture.wait_until_disconnected("app").await;
}

async fn assert_administrator_can_log_in(fixture: &Fixture) {
    fixture.wait_until_healthy().await;
    fixture.accounts().user(&cx(), &"app".into()).await.unwrap();
}
