//! Roles and databases of PostgreSQL that a tenant's own statements changed.

use crate::common::{Fixture, container_log, cx};
use trove_core::{
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest},
    secret::SecretString,
};

const OWNER_OF_APP: &str = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'app'";

pub async fn objects_belong_to_all_users_of_a_database(fixture: &Fixture) {
    fixture.accounts().create_users(&cx(), &[NewUser::new("two", "2").granted("app")]).await.unwrap();
    let (one, two) = (fixture.app().await, fixture.login("two", "2", "app").await.unwrap());
    one.batch_execute("CREATE SCHEMA s; CREATE SEQUENCE s.q").await.unwrap();
    two.batch_execute("SELECT nextval('s.q'); CREATE TABLE s.b (x int)").await.unwrap();
    one.batch_execute("INSERT INTO s.b VALUES (1); DROP TABLE s.b").await.unwrap();
}

pub async fn failed_statements_do_not_log_passwords(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let password = "correct-horse-battery";
    accounts.create_users(&cx(), &[NewUser::new("quiet", password)]).await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from(password)).await.unwrap();
    let root = fixture.login("root", password, "postgres").await.unwrap();
    assert!(root.batch_execute(&format!("CREATE ROLE quiet PASSWORD '{password}'")).await.is_err());
    let log = container_log(&fixture.container()).await;
    assert!(log.contains("already exists"), "{log}");
    assert!(!log.contains(password) && !log.contains("SCRAM-SHA-256$"), "{log}");
}

pub async fn database_settings_do_not_affect_the_administrator(fixture: &Fixture) {
    let accounts = fixture.accounts();
    accounts.create_users(&cx(), &[NewUser::new("other", "o").granted("app")]).await.unwrap();
    let client = fixture.app().await;
    client
        .batch_execute(
            "ALTER DATABASE app SET role = 'app'; ALTER DATABASE app SET search_path = public;
         ALTER DATABASE app SET default_transaction_read_only = on; ALTER DATABASE app SET statement_timeout = 1;
         ALTER DATABASE app SET standard_conforming_strings = off;
         CREATE FUNCTION public.quote_ident(text) RETURNS text LANGUAGE sql AS 'SELECT ''evil''';",
        )
        .await
        .unwrap();
    client.batch_execute("RESET ROLE; SET SESSION AUTHORIZATION app; CREATE SCHEMA mine").await.unwrap();
    drop(client);
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    accounts.revoke(&cx(), &"other".into(), "app").await.unwrap();
    accounts.drop_database(&cx(), "app").await.unwrap();
}

pub async fn large_objects_in_a_database_of_the_server_are_dropped_with_their_owner(fixture: &Fixture) {
    fixture.accounts().create_users(&cx(), &[NewUser::new("large", "l")]).await.unwrap();
    let admin = fixture.admin().await;
    admin.batch_execute("GRANT CONNECT ON DATABASE postgres TO large").await.unwrap();
    let large = fixture.login("large", "l", "postgres").await.unwrap();
    large.batch_execute("SELECT lo_from_bytea(0, 'mine')").await.unwrap();
    fixture.accounts().drop_user(&cx(), &"large".into()).await.unwrap();
    let left = admin.query_one("SELECT count(*) FROM pg_largeobject_metadata", &[]).await.unwrap();
    assert_eq!(left.get::<_, i64>(0), 0);
}

pub async fn database_settings_do_not_prevent_dropping_users(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let users = ["two", "three", "four"].map(|name| NewUser::new(name, "x").granted("app"));
    accounts.create_users(&cx(), &users).await.unwrap();
    for name in ["two", "three", "four"] {
        // The privilege depends on the role itself.
        let schema = format!("CREATE SCHEMA s_{name}; GRANT USAGE ON SCHEMA s_{name} TO {name}");
        fixture.app().await.batch_execute(&schema).await.unwrap();
    }
    accounts.create_databases(&cx(), &[NewDatabase::new("other")]).await.unwrap();
    accounts.grant(&cx(), &"app".into(), &["other".to_owned()]).await.unwrap();
    let (client, elsewhere) = (fixture.app().await, fixture.login("app", "secret", "other").await.unwrap());
    for hostile in [
        "ALTER DATABASE app SET local_preload_libraries = 'nope'",
        "ALTER DATABASE app SET transaction_timeout = 1",
        "ALTER DATABASE app SET idle_session_timeout = 1",
        "ALTER DATABASE app SET idle_in_transaction_session_timeout = 1",
    ] {
        client.batch_execute(hostile).await.unwrap();
    }
    assert!(fixture.login("app", "secret", "app").await.is_err(), "the settings have no effect on other users");
    accounts.drop_user(&cx(), &"two".into()).await.unwrap();
    elsewhere.batch_execute("SET ROLE NONE").await.unwrap();
    elsewhere.batch_execute("ALTER DATABASE app ALLOW_CONNECTIONS false").await.unwrap();
    accounts.drop_user(&cx(), &"three".into()).await.unwrap();
    let admin = fixture.admin().await;
    let allows_connections = "SELECT datallowconn FROM pg_database WHERE datname = 'app'";
    let allows_connections: bool = admin.query_one(allows_connections, &[]).await.unwrap().get(0);
    assert!(!allows_connections, "the setting of the owner was not restored");

    // An interrupted drop locked the user out; setting its password unlocks it.
    admin.batch_execute("ALTER ROLE four CONNECTION LIMIT 0; ALTER DATABASE app ALLOW_CONNECTIONS true").await.unwrap();
    admin.batch_execute("ALTER DATABASE app RESET ALL").await.unwrap();
    assert!(fixture.login("four", "x", "app").await.is_err());
    accounts.set_password(&cx(), &"four".into(), &SecretString::from("y")).await.unwrap();
    fixture.login("four", "y", "app").await.unwrap();
}

pub async fn a_half_dropped_database_counts_as_absent(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let admin = fixture.admin().await;
    let half_drop = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'app'";
    let count = async || accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items.len();
    fixture.app().await.batch_execute("CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO app").await.unwrap();
    admin.batch_execute(half_drop).await.unwrap();
    assert_eq!(count().await, 0);
    assert_eq!(accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    accounts.create_databases(&cx(), &[NewDatabase::new("app")]).await.unwrap();
    assert_eq!(count().await, 1);
    accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap();
    fixture.app().await.batch_execute("CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO app").await.unwrap();
    admin.batch_execute(half_drop).await.unwrap();
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    accounts.drop_database(&cx(), "app").await.unwrap();
}

pub async fn owner_roles_cannot_be_dropped_or_renamed(fixture: &Fixture) {
    let accounts = fixture.accounts();
    let admin = fixture.admin().await;
    let owner: String = admin.query_one(OWNER_OF_APP, &[]).await.unwrap().get(0);
    admin.batch_execute("CREATE ROLE team NOLOGIN").await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("r")).await.unwrap();
    let rename = async |from: &str, to: &str| {
        accounts.rename_user(&cx(), &from.into(), &to.into()).await.map_err(|error| error.kind())
    };
    for (from, to, kind) in [
        ("app", "team", Kind::Conflict),
        ("app", owner.as_str(), Kind::Conflict),
        ("root", "mine", Kind::NotFound),
        ("pg_monitor", "mine", Kind::NotFound),
        ("team", "mine", Kind::NotFound),
        (owner.as_str(), "mine", Kind::NotFound),
    ] {
        assert_eq!(rename(from, to).await, Err(kind), "{from} {to}");
    }
    // With LOGIN, the role looks like a user.
    let root = fixture.login("root", "r", "postgres").await.unwrap();
    root.batch_execute(&format!("ALTER ROLE {owner} LOGIN")).await.unwrap();
    assert_eq!(accounts.drop_user(&cx(), &owner.as_str().into()).await.unwrap_err().kind(), Kind::Conflict);
    assert_eq!(rename(&owner, "mine").await, Err(Kind::Conflict));
    fixture.app().await;
    admin.batch_execute(&format!("ALTER ROLE {owner} NOLOGIN; DROP ROLE team")).await.unwrap();
}

pub async fn sessions_survive_a_rename(fixture: &Fixture) {
    let client = fixture.app().await;
    client.batch_execute("CREATE TABLE t (x int)").await.unwrap();
    fixture.accounts().rename_user(&cx(), &"app".into(), &"renamed".into()).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let renamed = fixture.login("renamed", "secret", "app").await.unwrap();
    renamed.batch_execute("INSERT INTO t VALUES (2); CREATE TABLE created_later (x int)").await.unwrap();
    fixture.accounts().create_users(&cx(), &[NewUser::new("two", "2").granted("app")]).await.unwrap();
    let two = fixture.login("two", "2", "app").await.unwrap();
    two.batch_execute("INSERT INTO created_later VALUES (1)").await.unwrap();
}
