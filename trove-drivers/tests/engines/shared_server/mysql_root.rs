//! The privileges of the tenant's root user on MySQL and MariaDB.

use crate::common::{Client, Fixture, cx, file_names};
use trove_core::{
    model::{NewDatabase, NewUser, PageRequest},
    secret::SecretString,
};

/// Statements that reach for the administrator, the grant tables, files, code or the server, on
/// both engines.
const DENIED: &[&str] = &[
    "ALTER USER trove_admin@localhost IDENTIFIED BY 'x'",
    "SET PASSWORD FOR trove_admin@localhost = 'x'",
    "RENAME USER trove_admin@localhost TO mine@'%'",
    "DROP USER trove_admin@localhost",
    "REVOKE ALL PRIVILEGES, GRANT OPTION FROM trove_admin@localhost",
    "GRANT SELECT ON app.* TO trove_admin@localhost IDENTIFIED BY 'x'",
    "GRANT ALL ON *.* TO root@'%'",
    "GRANT SUPER ON *.* TO root@'%'",
    "GRANT FILE ON *.* TO root@'%'",
    "GRANT SHUTDOWN ON *.* TO root@'%'",
    "GRANT RELOAD ON *.* TO root@'%'",
    "GRANT ALL ON mysql.* TO root@'%'",
    "GRANT SELECT ON mysql.user TO app@'%'",
    "GRANT PROXY ON trove_admin@localhost TO root@'%'",
    "GRANT trove_admin@localhost TO root@'%'",
    "SET ROLE trove_admin",
    "SELECT * FROM mysql.user",
    "SELECT * FROM mysql.db",
    "SELECT * FROM mysql.global_priv",
    "SELECT * FROM `#mysql50#mysql`.user",
    "SELECT * FROM `#mysql50#mysql`.db",
    "USE `#mysql50#mysql`",
    "UPDATE mysql.user SET authentication_string = ''",
    "DELETE FROM mysql.user",
    "DELETE FROM mysql.db",
    "INSERT INTO mysql.db (Host, Db, User) VALUES ('%', 'mysql', 'root')",
    "INSERT INTO mysql.proxies_priv (Host, User) VALUES ('%', 'root')",
    "TRUNCATE TABLE mysql.plugin",
    "LOCK TABLES mysql.user WRITE",
    "LOCK TABLES mysql.db READ",
    "FLUSH TABLES WITH READ LOCK",
    "FLUSH TABLES app.t WITH READ LOCK",
    "FLUSH TABLES app.t FOR EXPORT",
    "FLUSH PRIVILEGES",
    "FLUSH BINARY LOGS",
    "LOCK INSTANCE FOR BACKUP",
    "BACKUP STAGE START",
    "CREATE TABLE mysql.mine (x int)",
    "CREATE VIEW mysql.mine AS SELECT 1",
    "CREATE PROCEDURE mysql.mine() SELECT 1",
    "CREATE TEMPORARY TABLE mysql.mine (x int)",
    "CREATE TRIGGER mysql.mine BEFORE INSERT ON mysql.db FOR EACH ROW SET @x = 1",
    "CREATE EVENT mysql.mine ON SCHEDULE EVERY 1 DAY DO SELECT 1",
    "ALTER TABLE mysql.user ADD mine int",
    "DROP TABLE mysql.user",
    "DROP DATABASE mysql",
    "DROP DATABASE sys",
    "ALTER DATABASE mysql CHARACTER SET latin1",
    "RENAME TABLE mysql.user TO app.stolen",
    "CREATE TABLE app.stolen LIKE mysql.user",
    "CREATE DEFINER = trove_admin@localhost VIEW app.mine AS SELECT User FROM mysql.user",
    "CREATE DEFINER = trove_admin@localhost PROCEDURE app.mine() DELETE FROM mysql.user",
    "CREATE DEFINER = trove_admin@localhost FUNCTION app.mine() RETURNS int DETERMINISTIC RETURN 1",
    "CREATE DEFINER = trove_admin@localhost TRIGGER app.mine BEFORE INSERT ON app.t FOR EACH ROW SET @x = 1",
    "CREATE DEFINER = trove_admin@localhost EVENT app.mine ON SCHEDULE EVERY 1 SECOND DO DELETE FROM mysql.user",
    "INSTALL PLUGIN mine SONAME 'ha_federated.so'",
    "INSTALL PLUGIN clone SONAME 'mysql_clone.so'",
    "INSTALL SONAME 'auth_pam'",
    "INSTALL COMPONENT 'file://component_mysqlbackup'",
    "UNINSTALL PLUGIN auth_socket",
    "UNINSTALL PLUGIN unix_socket",
    "CREATE FUNCTION mine RETURNS INTEGER SONAME 'libc.so'",
    "CREATE FUNCTION mine RETURNS STRING SONAME 'keyring_udf.so'",
    "SELECT 1 INTO OUTFILE '/var/lib/mysql/mine'",
    "SELECT 1 INTO DUMPFILE '/var/lib/mysql/data/mine'",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE app.t",
    "SET GLOBAL read_only = ON",
    "SET GLOBAL max_connections = 1",
    "SET GLOBAL general_log = ON",
    "SET GLOBAL init_connect = 'DELETE FROM mysql.user'",
    "SET GLOBAL offline_mode = ON",
    "SET PERSIST max_connections = 1",
    "SET SESSION sql_log_bin = 0",
    "PURGE BINARY LOGS BEFORE NOW()",
    "SHOW BINLOG EVENTS",
    "RESET MASTER",
    "CHANGE MASTER TO MASTER_HOST = 'evil'",
    "SHUTDOWN",
];

/// Statements that only one of the engines knows.
const DENIED_OR_UNKNOWN: &[&str] = &[
    "RESTART",
    "CLONE LOCAL DATA DIRECTORY = '/var/lib/mysql/mine'",
    "CHANGE REPLICATION SOURCE TO SOURCE_HOST = 'evil'",
    "RESET BINARY LOGS AND GTIDS",
    "GRANT SYSTEM_USER ON *.* TO root@'%'",
    "GRANT SET_ANY_DEFINER ON *.* TO root@'%'",
    "GRANT SET USER ON *.* TO root@'%'",
    "GRANT READ ONLY ADMIN ON *.* TO root@'%'",
    "ALTER INSTANCE DISABLE INNODB REDO_LOG",
    "ALTER USER 'mysql.sys'@localhost IDENTIFIED BY 'x' ACCOUNT UNLOCK",
    "RENAME USER 'mysql.session'@localhost TO mine@'%'",
    "DROP USER 'mysql.infoschema'@localhost",
];

/// Error codes for a missing privilege, or for a statement that nobody may run.
const DENIED_CODES: &[&str] =
    &["1044", "1045", "1095", "1142", "1143", "1227", "1370", "1410", "1465", "1698", "1959", "3530"];
/// Error codes for an unknown statement, database or variable.
const UNKNOWN_CODES: &[&str] = &["1049", "1064", "1102", "1193"];

pub async fn root_administers_only_what_belongs_to_the_tenant(fixture: &Fixture) {
    let accounts = fixture.accounts();
    assert_eq!(accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap(), "root");
    fixture.client("app", "secret", "app").await.unwrap().run("CREATE TABLE t (x int)").await.unwrap();
    let mut root = fixture.client("root", "r00t", "app").await.unwrap();
    let mut failures = Vec::new();
    for sql in DENIED.iter().chain(DENIED_OR_UNKNOWN) {
        if let Err(outcome) = check_denied(&mut root, sql).await {
            failures.push(format!("{sql}: {outcome}"));
            root = fixture.client("root", "r00t", "app").await.unwrap();
        }
    }
    assert_eq!(failures, Vec::<String>::new());
    // The session that probes the server is visible to root, who cannot kill it.
    fixture.wait_until_healthy().await;
    let probe_session = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'trove_admin'";
    let probe_session = root.text(probe_session).await.unwrap();
    check_denied(&mut root, &format!("KILL {probe_session}")).await.unwrap();
    // Where the engine accepts a data directory, it ignores it.
    let _ = root.run("CREATE TABLE app.outside (x int) DATA DIRECTORY = '/run/trove'").await;
    assert!(!file_names(&fixture.host.directory.join("run")).contains(&"app".to_owned()));

    fixture.wait_until_healthy().await;
    for sql in ["CREATE DATABASE `ro'ot`", "CREATE TABLE `ro'ot`.r (x int)", "INSERT INTO t VALUES (1)"] {
        root.run(sql).await.unwrap();
    }
    let listed = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["app", "ro'ot"]);
    // Root can use databases and users that are created later.
    accounts.create_databases(&cx(), &[NewDatabase::new("later")]).await.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("late", "l").granted("later")]).await.unwrap();
    fixture.client("late", "l", "later").await.unwrap().run("CREATE TABLE l (x int)").await.unwrap();
    root.run("CREATE VIEW later.v AS SELECT x FROM later.l").await.unwrap();

    accounts.disable_root(&cx()).await.unwrap();
    assert!(root.run("SELECT 1").await.is_err());
    fixture.client("late", "l", "later").await.unwrap().run("SELECT * FROM v").await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("again")).await.unwrap();
    fixture.client("root", "again", "later").await.unwrap().run("DROP VIEW v").await.unwrap();
}

pub async fn root_of_mysql_cannot_grant_more_than_it_has(fixture: &Fixture) {
    let accounts = fixture.accounts();
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let mut root = fixture.client("root", "r00t", "").await.unwrap();
    for sql in [
        "CREATE USER bob@'%' IDENTIFIED BY 'b'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, DROP, CREATE USER ON *.* TO bob@'%' WITH GRANT OPTION",
        // Wildcards do not match system databases.
        "GRANT ALL ON `mysq_`.* TO bob@'%'",
        "GRANT ALL ON `%`.* TO bob@'%'",
        "CREATE ROLE reader",
        "GRANT SELECT ON app.* TO reader",
    ] {
        root.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let mut bob = fixture.client("bob", "b", "app").await.unwrap();
    for sql in ["SELECT * FROM mysql.user", "DELETE FROM mysql.user", "DROP DATABASE mysql", "DROP DATABASE sys"] {
        check_denied(&mut bob, sql).await.unwrap_or_else(|outcome| panic!("{sql}: {outcome}"));
    }
    bob.run("CREATE USER trove_admin@'%' IDENTIFIED BY 'x'").await.unwrap();
    // An open session of the administrator's namesake delays no later call.
    bob.run("GRANT SELECT ON app.* TO trove_admin@'%'").await.unwrap();
    let _namesake = fixture.client("trove_admin", "x", "app").await.unwrap();
    // Roles are not listed; accounts with a reserved name are, and can be dropped.
    assert_eq!(users(fixture).await, ["app", "bob", "trove_admin"]);
    accounts.drop_user(&cx(), &"trove_admin".into()).await.unwrap();
    // Revoking a database also revokes table and column privileges, and excludes it from a global one.
    for sql in
        ["CREATE TABLE app.t (x int)", "GRANT SELECT ON app.t TO bob@'%'", "GRANT UPDATE (x) ON app.t TO bob@'%'"]
    {
        root.run(sql).await.unwrap();
    }
    accounts.revoke(&cx(), &"bob".into(), "app").await.unwrap();
    assert!(bob.run("SELECT 1").await.is_err());
    let mut bob = fixture.client("bob", "b", "").await.unwrap();
    check_denied(&mut bob, "SELECT * FROM app.t").await.unwrap();
    check_denied(&mut bob, "UPDATE app.t SET x = 1").await.unwrap();
    accounts.drop_user(&cx(), &"bob".into()).await.unwrap();
    accounts.disable_root(&cx()).await.unwrap();
    fixture.wait_until_healthy().await;
}

pub async fn events_of_root_stop_when_it_is_disabled(fixture: &Fixture) {
    let accounts = fixture.accounts();
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let mut root = fixture.client("root", "r00t", "app").await.unwrap();
    for sql in
        ["CREATE TABLE ticks (x int)", "CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO ticks VALUES (1)"]
    {
        root.run(sql).await.unwrap();
    }
    accounts.disable_root(&cx()).await.unwrap();
    let mut admin = fixture.administrator().await;
    let event = "SELECT CONCAT(DEFINER, ' ', STATUS) FROM information_schema.EVENTS WHERE EVENT_NAME = 'tick'";
    assert_eq!(admin.text(event).await.unwrap(), "root@% DISABLED");
    admin.run("DROP EVENT app.tick").await.unwrap();
}

pub async fn nothing_of_mysql_acts_for_root_once_it_is_disabled(fixture: &Fixture) {
    let accounts = fixture.accounts();
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let mut root = fixture.client("root", "r00t", "app").await.unwrap();
    for sql in [
        "CREATE USER bob@'%' IDENTIFIED BY 'b'",
        "GRANT CREATE USER, EVENT ON *.* TO bob@'%'",
        "CREATE USER trove_x@'%' IDENTIFIED BY 'x'",
        "CREATE EVENT revive ON SCHEDULE AT NOW() + INTERVAL 1 DAY DO ALTER USER root@'%' IDENTIFIED BY 'x' ACCOUNT UNLOCK",
        "CREATE PROCEDURE revive() ALTER USER root@'%' IDENTIFIED BY 'x' ACCOUNT UNLOCK",
    ] {
        root.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let mut bob = fixture.client("bob", "b", "app").await.unwrap();
    bob.run("CREATE EVENT of_bob ON SCHEDULE AT NOW() + INTERVAL 1 DAY DO CREATE USER eve@'%'").await.unwrap();
    for sql in [
        // Like a role, and so not listed.
        "ALTER USER bob@'%' IDENTIFIED BY '' PASSWORD EXPIRE ACCOUNT LOCK",
        "CREATE USER root@'172.%' IDENTIFIED BY 'x'",
        "CREATE USER ''@'%' IDENTIFIED BY 'x'",
        "GRANT SELECT, CREATE USER ON *.* TO ''@'%'",
        // Takes precedence over users who may connect from anywhere.
        "CREATE USER ''@'1%' IDENTIFIED BY 'y'",
        "GRANT SELECT, CREATE USER ON *.* TO ''@'1%'",
    ] {
        root.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let mut anonymous = fixture.client("app", "y", "app").await.unwrap();

    accounts.disable_root(&cx()).await.unwrap();
    for session in [&mut root, &mut bob, &mut anonymous] {
        assert!(session.run("SELECT 1").await.is_err(), "a session goes on");
    }
    for (user, password) in
        [("root", "r00t"), ("root", "x"), ("anonymous", "x"), ("app", "y"), ("bob", ""), ("bob", "b")]
    {
        assert!(fixture.client(user, password, "").await.is_err(), "{user} can log in with {password:?}");
    }
    assert_eq!(users(fixture).await, ["app", "trove_x"]);
    let mut admin = fixture.administrator().await;
    let enabled = "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' AND EVENT_SCHEMA = 'app'";
    assert_eq!(admin.text(enabled).await.unwrap(), "0");
    let mut app = fixture.client("app", "secret", "app").await.unwrap();
    check_denied(&mut app, "CALL revive()").await.unwrap();
    accounts.drop_user(&cx(), &"trove_x".into()).await.unwrap();
    assert_eq!(users(fixture).await, ["app"]);

    // Root is the same as before when it is enabled again.
    accounts.enable_root(&cx(), &SecretString::from("again")).await.unwrap();
    let mut root = fixture.client("root", "again", "app").await.unwrap();
    for sql in ["CREATE USER carl@'%'", "DROP USER carl@'%'", "DROP EVENT revive", "DROP EVENT of_bob", "CALL revive()"]
    {
        root.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    accounts.disable_root(&cx()).await.unwrap();
    for sql in ["DROP PROCEDURE app.revive", "DROP USER bob@'%'"] {
        admin.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

async fn users(fixture: &Fixture) -> Vec<String> {
    let users = fixture.accounts().users(&cx(), &PageRequest::default()).await.unwrap().items;
    users.into_iter().map(|user| user.user.name).collect()
}

/// Runs a statement and returns an error unless the server denied it.
async fn check_denied(client: &mut Client, sql: &str) -> Result<(), String> {
    let error = client.run(sql).await.err().ok_or("succeeded")?;
    let code = error.split("ERROR ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    if DENIED_CODES.contains(&code) || UNKNOWN_CODES.contains(&code) { Ok(()) } else { Err(error) }
}
