//! Objects and calls that depend on a user when the user is dropped or renamed, on every engine.

use std::{sync::Arc, time::Duration};

use crate::common::{Fixture, cx, eventually};
use tokio::time::sleep;
use trove_core::{
    datastore::Datastore,
    error::Kind,
    model::{NewUser, PageRequest, User},
};

/// How often a scenario is set up that a busy machine may let pass too slowly.
const ATTEMPTS: u32 = 10;

pub async fn objects_outlive_the_user_who_created_them(fixture: &Fixture) {
    let accounts = fixture.accounts();
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
    assert_eq!(two.text("SELECT y FROM v").await.unwrap(), "2", "the view of the dropped user is unusable");
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["outsider", "two"]);
    // A new user of the same name does not inherit privileges.
    accounts.create_users(&cx(), &[NewUser::new("app", "new")]).await.unwrap();
    assert!(fixture.client("app", "new", "app").await.is_err());
    accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap();
    let mut app = fixture.client("app", "new", "app").await.unwrap();
    assert_eq!(app.text("SELECT y FROM v").await.unwrap(), "2");
    accounts.drop_database(&cx(), "app").await.unwrap();
    assert!(two.run("SELECT 1").await.is_err(), "a session survived its database");
}

pub async fn renamed_users_keep_their_privileges(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let rename = async |from: &str, to: &str| accounts.rename_user(&cx(), &from.into(), &to.into()).await;
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    for sql in ["CREATE TABLE a (x int)", "INSERT INTO a VALUES (7)", "CREATE VIEW v AS SELECT x FROM a"] {
        client.run(sql).await.unwrap();
    }
    rename("app", "o'ther`\"\\").await.unwrap();
    assert!(fixture.client("app", "secret", "app").await.is_err());
    let mut client = fixture.client("o'ther`\"\\", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
    assert_eq!(accounts.user(&cx(), &"o'ther`\"\\".into()).await.unwrap().databases, ["app"]);
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["o'ther`\"\\"]);
    rename("o'ther`\"\\", "app").await.unwrap();
    let mut client = fixture.client("app", "secret", "app").await.unwrap();
    assert_eq!(client.text("SELECT x FROM v").await.unwrap(), "7");
}

/// The server continues a statement whose call was dropped. The next call waits for it, also in
/// another process.
pub async fn an_abandoned_rename_completes_before_the_next_one(fixture: &Fixture) {
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
    let rename = async |server: Arc<dyn Datastore>| {
        server.abilities().accounts.unwrap().rename_user(&cx(), &"app".into(), &"later".into()).await
    };
    // The server ends a statement that is blocked for long, which it may be on a busy machine.
    let mut last = None;
    for _ in 0..ATTEMPTS {
        holder.run(block).await.unwrap();
        // Several times, so that the call has progressed as far as it can.
        let mut wait_for_sessions = async |wanted: fn(&str) -> bool| {
            for _ in 0..10 {
                let check =
                    async || admin.text(sessions).await.and_then(|found| wanted(&found).then_some(()).ok_or(found));
                eventually("the sessions", check).await;
                sleep(Duration::from_millis(20)).await;
            }
        };
        let blocked = tokio::select! {
            outcome = rename(fixture.server.clone()) => Err(outcome.expect_err("the rename was not blocked")),
            () = wait_for_sessions(|found| found == "Lock" || found.contains(" USER ")) => Ok(()),
        };
        let outcome = match blocked {
            Ok(()) => {
                let mut repeated = tokio::spawn(rename(fixture.reattach()));
                tokio::select! {
                    outcome = &mut repeated => Err(outcome.unwrap().expect_err("the second rename was not blocked")),
                    () = wait_for_sessions(|found| found.contains(';')) => {
                        holder.run(release).await.unwrap();
                        repeated.await.unwrap()
                    }
                }
            }
            Err(error) => Err(error),
        };
        holder.run(release).await.unwrap();
        match outcome {
            Err(error) if error.is_transient() => last = Some(error),
            outcome => {
                let kind = outcome.err().map(|error| error.kind());
                assert!(matches!(kind, None | Some(Kind::NotFound)), "neither call renamed the user: {kind:?}");
                assert!(fixture.client("later", "secret", "app").await.is_ok(), "neither call renamed the user");
                return;
            }
        }
    }
    panic!("the server never let a rename wait: {last:?}");
}

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}
