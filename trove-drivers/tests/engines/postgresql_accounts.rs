//! Databases, users and rights, used over the network as a tenant would.

use crate::common::{Fixture, POSTGRESQL_15, POSTGRESQL_17, POSTGRESQL_18, Subject, app, cx};
use tokio_postgres::error::SqlState;
use trove_core::{
    datastore::Prepare,
    error::Kind,
    model::{NewDatabase, NewUser, PageRequest, User},
    secret::SecretString,
};

fn names(users: &[User]) -> Vec<&str> {
    users.iter().map(|user| user.user.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_user_makes_belongs_to_all_of_the_database() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let users = [NewUser::new("two", "2").granted("app"), NewUser::new("outsider", "3")];
    accounts.create_users(&cx(), &users).await.unwrap();
    let (one, two) = (fixture.app().await, fixture.login("two", "2", "app").await.unwrap());
    one.batch_execute("CREATE TABLE a (x int); CREATE SCHEMA s; CREATE SEQUENCE s.q; INSERT INTO a VALUES (1)")
        .await
        .unwrap();
    two.batch_execute("ALTER TABLE a ADD y int; UPDATE a SET y = 2; SELECT nextval('s.q'); CREATE TABLE s.b (x int)")
        .await
        .unwrap();
    one.batch_execute("INSERT INTO s.b VALUES (1); DROP TABLE s.b").await.unwrap();
    assert!(fixture.login("outsider", "3", "app").await.is_err());

    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    assert!(one.query("SELECT 1", &[]).await.is_err());
    assert_eq!(two.query_one("SELECT x + y FROM a", &[]).await.unwrap().get::<_, i32>(0), 3);

    // All or none.
    let twice = [NewUser::new("three", "3"), NewUser::new("two", "2")];
    assert_eq!(accounts.create_users(&cx(), &twice).await.unwrap_err().kind(), Kind::Conflict);
    let lost = [NewUser::new("three", "3"), NewUser::new("four", "4").granted("nowhere")];
    assert_eq!(accounts.create_users(&cx(), &lost).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(names(&accounts.users(&cx(), &PageRequest::default()).await.unwrap().items), ["outsider", "two"]);
    assert_eq!(accounts.user(&cx(), &"three".into()).await.unwrap_err().kind(), Kind::NotFound);
    let password = SecretString::from("x");
    assert_eq!(accounts.set_password(&cx(), &"three".into(), &password).await.unwrap_err().kind(), Kind::NotFound);
    assert_eq!(accounts.grant(&cx(), &"two".into(), &["nowhere".to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    for own in ["trove_admin", "postgres", "pg_monitor", "root"] {
        assert_eq!(accounts.user(&cx(), &own.into()).await.unwrap_err().kind(), Kind::NotFound);
        assert_eq!(accounts.set_password(&cx(), &own.into(), &password).await.unwrap_err().kind(), Kind::NotFound);
    }
    for own in ["postgres", "template0", "template1"] {
        assert_eq!(accounts.drop_database(&cx(), own).await.unwrap_err().kind(), Kind::Invalid);
        assert_eq!(accounts.grant(&cx(), &"two".into(), &[own.to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    }

    // What was prepared with is taken up again by a repeated preparation.
    let again = Prepare::new(
        vec![NewDatabase::new("app"), NewDatabase::new("more")],
        vec![NewUser::new("two", "new").granted("more")],
    );
    fixture.server.prepare(&cx(), &again).await.unwrap();
    fixture.login("two", "new", "more").await.unwrap();
    assert_eq!(accounts.user(&cx(), &"two".into()).await.unwrap().databases, ["app", "more"]);
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_never_reach_the_server_or_its_log() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let password = "correct-horse-battery";
    accounts.create_users(&cx(), &[NewUser::new("quiet", password)]).await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from(password)).await.unwrap();
    let root = fixture.login("root", password, "postgres").await.unwrap();
    // A tenant's own clear password in a statement that fails.
    let failing = format!("CREATE ROLE quiet PASSWORD '{password}'");
    assert!(root.batch_execute(&failing).await.is_err());
    fixture
        .server
        .abilities()
        .accounts
        .unwrap()
        .set_password(&cx(), &"quiet".into(), &SecretString::from(password))
        .await
        .unwrap();
    let log = crate::common::log(&fixture.container()).await;
    assert!(log.contains("already exists"), "{log}");
    assert!(!log.contains(password) && !log.contains("SCRAM-SHA-256$"), "{log}");
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_rules_the_tenants_and_nothing_else() {
    for subject in [POSTGRESQL_17, POSTGRESQL_15, POSTGRESQL_18] {
        rule_the_tenants(subject).await;
    }
}

/// What root may not do where the right to make roles is one over all of them.
const REFUSED_BEFORE_16: [&str; 8] = [
    "CREATE ROLE mine",
    "ALTER ROLE app PASSWORD 'x'",
    "ALTER ROLE app RENAME TO mine",
    "DROP ROLE app",
    "GRANT pg_execute_server_program TO app",
    "GRANT pg_read_server_files TO app WITH ADMIN OPTION",
    "ALTER ROLE root CREATEROLE",
    "ALTER ROLE app IN DATABASE app SET role = 'trove_admin'",
];

async fn rule_the_tenants(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let makes_roles = subject.version != "15";
    let accounts = fixture.server.abilities().accounts.unwrap();
    assert!(!accounts.root_enabled(&cx()).await.unwrap());
    accounts.disable_root(&cx()).await.unwrap();
    assert_eq!(accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap(), "root");
    assert!(accounts.root_enabled(&cx()).await.unwrap());
    // As it was once given.
    if makes_roles {
        fixture.admin().await.batch_execute("GRANT pg_maintain TO root").await.unwrap();
    }
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let root = fixture.login("root", "r00t", "postgres").await.unwrap();

    for refused in [
        "ALTER ROLE trove_admin PASSWORD 'x'",
        "ALTER ROLE trove_admin RENAME TO mine",
        "DROP ROLE trove_admin",
        "GRANT trove_admin TO root",
        "SET ROLE trove_admin",
        "SET SESSION AUTHORIZATION trove_admin",
        "ALTER ROLE root SUPERUSER",
        "ALTER ROLE root REPLICATION",
        "ALTER ROLE root BYPASSRLS",
        "CREATE ROLE evil SUPERUSER",
        "CREATE ROLE evil REPLICATION LOGIN",
        "GRANT pg_read_server_files TO root",
        "GRANT pg_write_server_files TO root",
        "GRANT pg_execute_server_program TO root",
        "GRANT pg_create_subscription TO root",
        "ALTER SYSTEM SET log_statement = 'all'",
        "SET log_statement = 'all'",
        "ALTER DATABASE postgres SET search_path = evil",
        "ALTER ROLE ALL SET search_path = evil",
        "CREATE TABLE trap (x int)",
        "CREATE SCHEMA trap",
        "CREATE TEMPORARY TABLE trap (x int)",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "COPY (SELECT 1) TO '/tmp/x'",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT rolpassword FROM pg_authid",
        "DELETE FROM pg_database",
        "DROP DATABASE template1",
        "ALTER DATABASE template1 OWNER TO root",
        "CREATE EXTENSION file_fdw",
        "SELECT pg_reload_conf()",
        "SELECT pg_switch_wal()",
        "DO $$ BEGIN LOCK TABLE pg_catalog.pg_authid IN ACCESS EXCLUSIVE MODE; END $$",
        "DO $$ BEGIN LOCK TABLE pg_catalog.pg_database IN SHARE MODE; END $$",
        "LOAD '/tmp/x'",
    ]
    .iter()
    .chain(REFUSED_BEFORE_16.iter().filter(|_| !makes_roles))
    {
        let error = root.batch_execute(refused).await.expect_err(refused);
        let code = error.code().unwrap_or_else(|| panic!("{refused}: {error:?}"));
        let reasons = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::WRONG_OBJECT_TYPE,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_FILE,
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            // A right that only later versions have.
            SqlState::UNDEFINED_OBJECT,
        ];
        assert!(reasons.contains(code), "{refused}: {error:?}");
    }

    // What root makes is the tenant's like all else.
    root.batch_execute("CREATE DATABASE \"ro'ot\"").await.unwrap();
    if makes_roles {
        root.batch_execute("CREATE ROLE bob LOGIN PASSWORD 'b'; CREATE ROLE eve LOGIN PASSWORD 'e'").await.unwrap();
        root.batch_execute("GRANT bob TO root; ALTER ROLE app CONNECTION LIMIT 50").await.unwrap();
    } else {
        accounts.create_users(&cx(), &[NewUser::new("bob", "b"), NewUser::new("eve", "e")]).await.unwrap();
        root.batch_execute("GRANT bob TO eve; REVOKE bob FROM eve").await.unwrap();
    }
    root.batch_execute("CREATE DATABASE bobs OWNER bob").await.unwrap();
    let listed = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["app", "bobs", "ro'ot"]);
    let bob = accounts.user(&cx(), &"bob".into()).await.unwrap();
    assert_eq!(bob.databases, ["bobs", "ro'ot"], "as everybody may use what root left open");
    let bobs = fixture.login("bob", "b", "bobs").await.unwrap();
    bobs.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (7)").await.unwrap();
    accounts.grant(&cx(), &"bob".into(), &["app".to_owned()]).await.unwrap();
    fixture.login("bob", "b", "app").await.unwrap().batch_execute("CREATE TABLE by_bob (x int)").await.unwrap();
    fixture.app().await.batch_execute("INSERT INTO by_bob VALUES (1)").await.unwrap();
    accounts.revoke(&cx(), &"bob".into(), "ro'ot").await.unwrap();
    assert!(fixture.login("bob", "b", "ro'ot").await.is_err());
    fixture.login("eve", "e", "ro'ot").await.unwrap();
    fixture.login("root", "r00t", "ro'ot").await.unwrap().batch_execute("CREATE TABLE r (x int)").await.unwrap();
    accounts.drop_user(&cx(), &"bob".into()).await.unwrap();
    let root_in_bobs = fixture.login("root", "r00t", "bobs").await.unwrap();
    assert_eq!(root_in_bobs.query_one("SELECT x FROM t", &[]).await.unwrap().get::<_, i32>(0), 7);

    // What the service makes later is root's too.
    accounts.create_databases(&cx(), &[NewDatabase::new("later")]).await.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("late", "l").granted("later")]).await.unwrap();
    fixture.login("late", "l", "later").await.unwrap().batch_execute("CREATE TABLE l (x int)").await.unwrap();
    let later = fixture.login("root", "r00t", "later").await.unwrap();
    later.batch_execute("INSERT INTO l VALUES (1)").await.unwrap();
    if makes_roles {
        later.batch_execute("ALTER ROLE late PASSWORD 'n'").await.unwrap();
        fixture.login("late", "n", "later").await.unwrap();
    }

    accounts.disable_root(&cx()).await.unwrap();
    accounts.disable_root(&cx()).await.unwrap();
    assert!(!accounts.root_enabled(&cx()).await.unwrap());
    assert!(later.query("SELECT 1", &[]).await.is_err());
    assert!(fixture.login("root", "r00t", "postgres").await.is_err());
    for database in ["bobs", "ro'ot", "later"] {
        accounts.drop_database(&cx(), database).await.unwrap();
    }
    accounts.enable_root(&cx(), &SecretString::from("again")).await.unwrap();
    fixture.login("root", "again", "app").await.unwrap().batch_execute("DROP TABLE by_bob").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_cannot_turn_against_the_administrator() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
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
    fixture.server.prepare(&cx(), &app()).await.unwrap();
    fixture.app().await.batch_execute("CREATE TABLE t (x int)").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_cannot_keep_its_users_from_being_dropped() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let users = ["two", "three", "four"].map(|name| NewUser::new(name, "x").granted("app"));
    accounts.create_users(&cx(), &users).await.unwrap();
    for name in ["two", "three", "four"] {
        // Things that name the user itself.
        let own = format!("CREATE SCHEMA s_{name}; GRANT USAGE ON SCHEMA s_{name} TO {name}");
        fixture.app().await.batch_execute(&own).await.unwrap();
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
    assert!(fixture.login("app", "secret", "app").await.is_err(), "the setting counts for others");
    accounts.drop_user(&cx(), &"two".into()).await.unwrap();
    elsewhere.batch_execute("SET ROLE NONE").await.unwrap();
    elsewhere.batch_execute("ALTER DATABASE app ALLOW_CONNECTIONS false").await.unwrap();
    accounts.drop_user(&cx(), &"three".into()).await.unwrap();
    let admin = fixture.admin().await;
    let open = "SELECT datallowconn FROM pg_database WHERE datname = 'app'";
    assert!(!admin.query_one(open, &[]).await.unwrap().get::<_, bool>(0), "it is as its owner wants it");

    // A drop that broke off shut the user out; a new password lets it in again.
    admin.batch_execute("ALTER ROLE four CONNECTION LIMIT 0; ALTER DATABASE app ALLOW_CONNECTIONS true").await.unwrap();
    admin.batch_execute("ALTER DATABASE app RESET ALL").await.unwrap();
    assert!(fixture.login("four", "x", "app").await.is_err());
    accounts.set_password(&cx(), &"four".into(), &SecretString::from("y")).await.unwrap();
    fixture.login("four", "y", "app").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drop_that_broke_off_left_no_database() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let admin = fixture.admin().await;
    let broken = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'app'";
    let listed = async || accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items.len();
    fixture.app().await.batch_execute("CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO app").await.unwrap();
    admin.batch_execute(broken).await.unwrap();
    assert_eq!(listed().await, 0);
    assert_eq!(accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap_err().kind(), Kind::NotFound);
    accounts.create_databases(&cx(), &[NewDatabase::new("app")]).await.unwrap();
    assert_eq!(listed().await, 1);
    accounts.grant(&cx(), &"app".into(), &["app".to_owned()]).await.unwrap();
    fixture.app().await.batch_execute("CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO app").await.unwrap();
    admin.batch_execute(broken).await.unwrap();
    accounts.drop_user(&cx(), &"app".into()).await.unwrap();
    accounts.drop_database(&cx(), "app").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_database_is_not_dropped_as_a_user() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    fixture.app().await.batch_execute("CREATE TABLE t (x int); INSERT INTO t VALUES (1)").await.unwrap();
    let admin = fixture.admin().await;
    let owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'app'";
    let owner: String = admin.query_one(owner, &[]).await.unwrap().get(0);
    accounts.enable_root(&cx(), &SecretString::from("r")).await.unwrap();
    let root = fixture.login("root", "r", "postgres").await.unwrap();
    root.batch_execute(&format!("ALTER ROLE {owner} LOGIN")).await.unwrap();
    assert_eq!(accounts.drop_user(&cx(), &owner.as_str().into()).await.unwrap_err().kind(), Kind::Conflict);
    fixture.app().await.query_one("SELECT x FROM t", &[]).await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_keeps_all_but_its_name() {
    let fixture = Fixture::prepared(POSTGRESQL_17).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    let client = fixture.app().await;
    client.batch_execute("CREATE TABLE t (x int)").await.unwrap();
    accounts.rename_user(&cx(), &"app".into(), &"o'brien \"x\"".into()).await.unwrap();
    client.batch_execute("INSERT INTO t VALUES (1)").await.unwrap();
    let renamed = fixture.login("o'brien \"x\"", "secret", "app").await.unwrap();
    renamed.batch_execute("INSERT INTO t VALUES (2); CREATE TABLE made_later (x int)").await.unwrap();
    assert!(fixture.login("app", "secret", "app").await.is_err());
    assert_eq!(accounts.user(&cx(), &"o'brien \"x\"".into()).await.unwrap().databases, ["app"]);
    accounts.rename_user(&cx(), &"o'brien \"x\"".into(), &"app".into()).await.unwrap();
    accounts.rename_user(&cx(), &"app".into(), &"app".into()).await.unwrap();

    accounts.create_users(&cx(), &[NewUser::new("two", "2").granted("app")]).await.unwrap();
    fixture.login("two", "2", "app").await.unwrap().batch_execute("INSERT INTO made_later VALUES (1)").await.unwrap();
    let admin = fixture.admin().await;
    admin.batch_execute("CREATE ROLE team NOLOGIN").await.unwrap();
    let owner = "SELECT datdba::regrole::text FROM pg_database WHERE datname = 'app'";
    let owner: String = admin.query_one(owner, &[]).await.unwrap().get(0);
    accounts.enable_root(&cx(), &SecretString::from("r")).await.unwrap();
    for (from, to, kind) in [
        ("app", "two", Kind::Conflict),
        ("app", "team", Kind::Conflict),
        ("app", owner.as_str(), Kind::Conflict),
        ("nobody", "somebody", Kind::NotFound),
        ("root", "mine", Kind::NotFound),
        ("trove_admin", "mine", Kind::NotFound),
        ("pg_monitor", "mine", Kind::NotFound),
        ("team", "mine", Kind::NotFound),
        (owner.as_str(), "mine", Kind::NotFound),
    ] {
        assert_eq!(
            accounts.rename_user(&cx(), &from.into(), &to.into()).await.unwrap_err().kind(),
            kind,
            "{from} {to}"
        );
    }
    let root = fixture.login("root", "r", "postgres").await.unwrap();
    root.batch_execute(&format!("ALTER ROLE {owner} LOGIN")).await.unwrap();
    let refused = accounts.rename_user(&cx(), &owner.as_str().into(), &"mine".into()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Conflict);
    fixture.app().await;
    fixture.removed().await;
}
