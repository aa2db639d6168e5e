//! What runs as a user of any engine, when the user goes or is called otherwise. The suite of drivers tries the rest.

use std::{sync::Arc, time::Duration};

use crate::common::{
    Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, POSTGRESQL_17, Subject, cx, eventually, is_quick_tier,
};
use tokio::time::sleep;
use trove_core::{
    datastore::Datastore,
    error::Kind,
    model::{NewUser, PageRequest, User},
};

/// Every behaviour on every engine, each in a test of its own.
macro_rules! on_every_engine {
    ($($behaviour:ident),* $(,)?) => {
        on_every_engine!(@ postgresql POSTGRESQL_17 $($behaviour)*);
        on_every_engine!(@ mysql MYSQL_9_7 $($behaviour)*);
        on_every_engine!(@ mariadb MARIADB_11_8 $($behaviour)*);
        on_every_engine!(@ mariadb_10_11 MARIADB_10_11 $($behaviour)*);
    };
    (@ $engine:ident $subject:ident $($behaviour:ident)*) => {
        mod $engine {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $behaviour() {
                    if stringify!($engine) == "mariadb_10_11" && super::is_quick_tier() {
                        return;
                    }
                    super::$behaviour(super::$subject).await;
                }
            )*
        }
    };
}

on_every_engine!(what_one_user_makes_outlives_it, a_user_is_called_otherwise);

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}

async fn what_one_user_makes_outlives_it(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let users = [NewUser::new("two", "2").granted("app"), NewUser::new("outsider", "3")];
    accounts.create_users(&cx(), &users).await.unwrap();
    let mut one = fixture.client("app", "secret", "app").await.unwrap();
    let mut two = fixture.client("two", "2", "app").await.unwrap();
    for sql in ["CREATE TABLE a (x int)", "INSERT INTO a VALUES (1)", "CREATE VIEW v AS SELECT x + 1 AS y FROM a"] {
        one.run(sql).await.unwrap();
    }
    for sql in ["ALTER TABLE a ADD y int", "UPDATE a SET y = 2", "CREATE TABLE b (x int)"] {
        two.run(sql).await.unwrap();
    }
    one.run("DROP TABLE b").await.unwrap();
    assert!(fixture.client("outsider", "3", "app").await.is_err());
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    assert!(one.run("SELECT 1").await.is_err());
    assert!(fixture.client("app", "secret", "app").await.is_err());
    assert_eq!(two.text("SELECT x + y FROM a").await.unwrap(), "3");
    assert_eq!(two.text("SELECT y FROM v").await.unwrap(), "2", "what ran as the user still runs");
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["outsider", "two"]);
    // Another of its name is nobody who was there before.
    accounts.create_users(&cx(), &[NewUser::new("app", "new")]).await.unwrap();
    assert!(fixture.client("app", "new", "app").await.is_err());
    accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap();
    let mut app = fixture.client("app", "new", "app").await.unwrap();
    assert_eq!(app.text("SELECT y FROM v").await.unwrap(), "2");
    accounts.drop_database(&cx(), "app").await.unwrap();
    assert!(two.run("SELECT 1").await.is_err(), "the session goes with the database");
    fixture.removed().await;
}

async fn a_user_is_called_otherwise(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("taken", "t")]).await.unwrap();
    let rename = async |from: &str, to: &str| accounts.rename_user(&cx(), &from.into(), &to.into()).await;
    assert_eq!(rename("app", "taken").await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(rename("nobody", "some").await.unwrap_err().kind(), Kind::NotFound);
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    for sql in ["CREATE TABLE a (x int)", "INSERT INTO a VALUES (7)", "CREATE VIEW v AS SELECT x FROM a"] {
        client.run(sql).await.unwrap();
    }
    rename("app", "o'ther`\"\\").await.unwrap();
    assert!(fixture.client("app", "secret", "app").await.is_err());
    let mut client = fixture.client("o'ther`\"\\", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
    assert_eq!(accounts.user(&cx(), &"o'ther`\"\\".into()).await.unwrap().databases, ["app"]);
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["o'ther`\"\\", "taken"]);
    rename("o'ther`\"\\", "app").await.unwrap();
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
    a_change_that_was_given_up_comes_first(&fixture).await;
    fixture.removed().await;
}

/// A server goes on with the statement of a call that was dropped: the next waits for it, in whatever process.
async fn a_change_that_was_given_up_comes_first(fixture: &Fixture) {
    let (mut admin, mut holder) = (fixture.administrator().await, fixture.administrator().await);
    let (block, release, sessions) = match fixture.is_postgresql() {
        true => (
            "BEGIN; CREATE ROLE later",
            "ROLLBACK",
            "SELECT string_agg(coalesce(wait_event_type, ''), '; ' ORDER BY backend_start, pid) FROM pg_stat_activity \
             WHERE application_name = 'trove'",
        ),
        false => (
            "FLUSH TABLES WITH READ LOCK",
            "UNLOCK TABLES",
            "SELECT coalesce(group_concat(coalesce(info, '-') ORDER BY id SEPARATOR '; '), '') FROM information_schema.processlist \
             WHERE user = 'trove_admin' AND db IS NULL",
        ),
    };
    let renamed = async |server: Arc<dyn Datastore>| {
        server.abilities().accounts.unwrap().rename_user(&cx(), &"app".into(), &"later".into()).await
    };
    holder.run(block).await.unwrap();
    // Seen often enough that it has come as far as it can.
    let mut seen = async |wanted: fn(&str) -> bool| {
        for _ in 0..10 {
            let look = async || admin.text(sessions).await.and_then(|found| wanted(&found).then_some(()).ok_or(found));
            eventually("the sessions", look).await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        outcome = renamed(fixture.server.clone()) => panic!("{outcome:?}"),
        () = seen(|found| found == "Lock" || found.contains(" USER ")) => {}
    }
    let again = tokio::spawn(renamed(fixture.reattached()));
    seen(|found| found.contains(';')).await;
    holder.run(release).await.unwrap();
    if let Err(error) = again.await.unwrap() {
        assert_eq!(error.kind(), Kind::NotFound, "the call that was given up did it: {error:?}");
    }
    assert!(fixture.client("later", "secret", "app").await.is_ok());
}
