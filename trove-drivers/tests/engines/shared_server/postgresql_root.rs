//! The privileges of the tenant's root user on PostgreSQL.

use crate::common::{Fixture, cx};
use tokio_postgres::error::SqlState;
use trove_core::{
    model::{NewDatabase, NewUser, PageRequest},
    secret::SecretString,
};

/// Statements denied before PostgreSQL 16, where `CREATEROLE` is a privilege on all roles.
const DENIED_BEFORE_16: [&str; 8] = [
    "CREATE ROLE mine",
    "ALTER ROLE app PASSWORD 'x'",
    "ALTER ROLE app RENAME TO mine",
    "DROP ROLE app",
    "GRANT pg_execute_server_program TO app",
    "GRANT pg_read_server_files TO app WITH ADMIN OPTION",
    "ALTER ROLE root CREATEROLE",
    "ALTER ROLE app IN DATABASE app SET role = 'trove_admin'",
];

pub async fn root_administers_only_what_belongs_to_the_tenant(fixture: &Fixture) {
    let creates_roles = fixture.engine.version != "15";
    let accounts = fixture.accounts();
    assert_eq!(accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap(), "root");
    // Enabling root again revokes what an earlier version granted.
    if creates_roles {
        fixture.admin().await.batch_execute("GRANT pg_maintain TO root").await.unwrap();
    }
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let root = fixture.login("root", "r00t", "postgres").await.unwrap();

    for sql in [
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
    .chain(DENIED_BEFORE_16.iter().filter(|_| !creates_roles))
    {
        let error = root.batch_execute(sql).await.expect_err(sql);
        let code = error.code().unwrap_or_else(|| panic!("{sql}: {error:?}"));
        let expected = [
            SqlState::INSUFFICIENT_PRIVILEGE,
            SqlState::WRONG_OBJECT_TYPE,
            SqlState::FEATURE_NOT_SUPPORTED,
            SqlState::UNDEFINED_FILE,
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            // A privilege that only later versions have.
            SqlState::UNDEFINED_OBJECT,
        ];
        assert!(expected.contains(code), "{sql}: {error:?}");
    }

    // What root creates belongs to the tenant.
    root.batch_execute("CREATE DATABASE \"ro'ot\"").await.unwrap();
    if creates_roles {
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
    assert_eq!(bob.databases, ["bobs", "ro'ot"], "databases that root created are open to all users");
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

    // Root can use databases and users that are created later.
    accounts.create_databases(&cx(), &[NewDatabase::new("later")]).await.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("late", "l").granted("later")]).await.unwrap();
    fixture.login("late", "l", "later").await.unwrap().batch_execute("CREATE TABLE l (x int)").await.unwrap();
    let later = fixture.login("root", "r00t", "later").await.unwrap();
    later.batch_execute("INSERT INTO l VALUES (1)").await.unwrap();
    if creates_roles {
        later.batch_execute("ALTER ROLE late PASSWORD 'n'").await.unwrap();
        fixture.login("late", "n", "later").await.unwrap();
    }

    let in_app = fixture.login("root", "r00t", "app").await.unwrap();
    let function = "CREATE FUNCTION make_role() RETURNS void LANGUAGE plpgsql SECURITY DEFINER \
                    AS $$ BEGIN CREATE ROLE evil LOGIN; END $$";
    in_app.batch_execute(function).await.unwrap();

    accounts.disable_root(&cx()).await.unwrap();
    assert!(later.query("SELECT 1", &[]).await.is_err());
    let error = fixture.app().await.batch_execute("SELECT make_role()").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "a function acts for root: {error:?}");
    for database in ["bobs", "ro'ot", "later"] {
        accounts.drop_database(&cx(), database).await.unwrap();
    }
    accounts.enable_root(&cx(), &SecretString::from("again")).await.unwrap();
    fixture.login("root", "again", "app").await.unwrap().batch_execute("DROP TABLE by_bob").await.unwrap();
}
