//! The life of MySQL and MariaDB servers, from nothing to nothing.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, Subject, app, cx, mysql};
use mysql_async::prelude::Queryable;
use trove_core::model::Health;

async fn lives(subject: Subject) {
    let fixture = Fixture::new(subject).await;
    let begun = std::time::Instant::now();
    let prepared = fixture.server.prepare(&cx(), &app()).await;
    if let Err(error) = &prepared {
        panic!("{}\n{}", error.report(), common::log(&fixture.container()).await);
    }
    println!("{} prepared in {:?}", subject.datastore, begun.elapsed());
    let observed = fixture.server.observe(&cx()).await.unwrap();
    assert_eq!(observed.health, Health::Healthy);
    println!("{:?}", observed.server_version);
    let mut client = mysql::login(&fixture.host.endpoint, "app", "secret", "app").await.unwrap();
    client.query_drop("CREATE TABLE t (x int)").await.unwrap();
    if std::env::var("LOOK").is_ok() {
        println!("{}", fixture.container());
        println!("{}", common::log(&fixture.container()).await);
        std::io::stdin().read_line(&mut String::new()).unwrap();
    }
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql_lives() {
    lives(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_lives() {
    lives(MARIADB_11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_of_a_series_before_lives() {
    lives(MARIADB_10_11).await;
}
