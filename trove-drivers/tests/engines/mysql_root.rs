//! The tenant's root on MySQL and MariaDB: it rules the tenant's own and nothing else.

use crate::common::{Client, Fixture, MARIADB_10_11, MARIADB_11_8, MYSQL_9_7, Subject, cx, file_names, is_quick_tier};
use trove_core::{
    model::{NewDatabase, NewUser, PageRequest},
    secret::SecretString,
};

/// What neither engine lets root do: reach the administrator, the tables of rights, files, other code, the server.
const REFUSED: &[&str] = &[
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
    "RESET MASTER",
    "CHANGE MASTER TO MASTER_HOST = 'evil'",
    "SHUTDOWN",
];

const REFUSED_TOO: &[&str] = &[
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

/// Errors by which a server says that a right is missing, that nobody may do this, or that it knows no such thing.
const REASONS: &[&str] =
    &["1044", "1045", "1095", "1142", "1143", "1227", "1370", "1410", "1465", "1698", "1959", "3530"];
const UNKNOWN: &[&str] = &["1049", "1064", "1102", "1193"];

async fn refused(root: &mut Client, sql: &str) -> Result<(), String> {
    let error = root.run(sql).await.err().ok_or("done")?;
    let code = error.split("ERROR ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_default();
    if REASONS.contains(&code) || UNKNOWN.contains(&code) { Ok(()) } else { Err(error) }
}

async fn root_rules_the_tenants_and_nothing_else(subject: Subject) {
    let fixture = Fixture::prepared(subject).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    assert!(!accounts.root_enabled(&cx()).await.unwrap());
    accounts.disable_root(&cx()).await.unwrap();
    assert_eq!(accounts.enable_root(&cx(), &SecretString::from("first")).await.unwrap(), "root");
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    assert!(accounts.root_enabled(&cx()).await.unwrap());
    assert!(fixture.client("root", "first", "").await.is_err());
    fixture.client("app", "secret", "app").await.unwrap().run("CREATE TABLE t (x int)").await.unwrap();
    let mut root = fixture.client("root", "r00t", "app").await.unwrap();
    let mut escaped = Vec::new();
    for sql in REFUSED.iter().chain(REFUSED_TOO) {
        if let Err(error) = refused(&mut root, sql).await {
            escaped.push(format!("{sql}: {error}"));
            root = fixture.client("root", "r00t", "app").await.unwrap();
        }
    }
    assert_eq!(escaped, Vec::<String>::new());
    // The session by which the service watches is there to be seen and stays.
    fixture.healthy().await;
    let ours = "SELECT ID FROM information_schema.PROCESSLIST WHERE USER = 'trove_admin'";
    let ours = root.text(ours).await.unwrap();
    refused(&mut root, &format!("KILL {ours}")).await.unwrap();
    // Where it can say where a table is to be, it is not heard.
    let _ = root.run("CREATE TABLE app.outside (x int) DATA DIRECTORY = '/run/trove'").await;
    assert!(!file_names(&fixture.host.directory.join("run")).contains(&"app".to_owned()));

    fixture.healthy().await;
    for sql in ["CREATE DATABASE `ro'ot`", "CREATE TABLE `ro'ot`.r (x int)", "INSERT INTO t VALUES (1)"] {
        root.run(sql).await.unwrap();
    }
    let listed = accounts.databases(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(listed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["app", "ro'ot"]);
    // What the service makes later is root's too.
    accounts.create_databases(&cx(), &[NewDatabase::new("later")]).await.unwrap();
    accounts.create_users(&cx(), &[NewUser::new("late", "l").granted("later")]).await.unwrap();
    fixture.client("late", "l", "later").await.unwrap().run("CREATE TABLE l (x int)").await.unwrap();
    root.run("CREATE VIEW later.v AS SELECT x FROM later.l").await.unwrap();

    accounts.disable_root(&cx()).await.unwrap();
    accounts.disable_root(&cx()).await.unwrap();
    assert!(!accounts.root_enabled(&cx()).await.unwrap());
    assert!(root.run("SELECT 1").await.is_err());
    assert!(fixture.client("root", "r00t", "").await.is_err());
    fixture.client("late", "l", "later").await.unwrap().run("SELECT * FROM v").await.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("again")).await.unwrap();
    fixture.client("root", "again", "later").await.unwrap().run("DROP VIEW v").await.unwrap();
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mysql_root_gives_is_no_more_than_it_has() {
    let fixture = Fixture::prepared(MYSQL_9_7).await;
    let accounts = fixture.server.abilities().accounts.unwrap();
    accounts.enable_root(&cx(), &SecretString::from("r00t")).await.unwrap();
    let mut root = fixture.client("root", "r00t", "").await.unwrap();
    for sql in [
        "CREATE USER bob@'%' IDENTIFIED BY 'b'",
        "GRANT SELECT, INSERT, UPDATE, DELETE, DROP, CREATE USER ON *.* TO bob@'%' WITH GRANT OPTION",
        // No pattern of names.
        "GRANT ALL ON `mysq_`.* TO bob@'%'",
        "GRANT ALL ON `%`.* TO bob@'%'",
        "CREATE ROLE reader",
        "GRANT SELECT ON app.* TO reader",
    ] {
        root.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    let mut bob = fixture.client("bob", "b", "app").await.unwrap();
    for sql in ["SELECT * FROM mysql.user", "DELETE FROM mysql.user", "DROP DATABASE mysql", "DROP DATABASE sys"] {
        refused(&mut bob, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
    bob.run("CREATE USER trove_admin@'%' IDENTIFIED BY 'x'").await.unwrap();
    // A user is listed, a role or an account of the service's name is not.
    let users = accounts.users(&cx(), &PageRequest::default()).await.unwrap().items;
    assert_eq!(users.iter().map(|user| user.user.name.as_str()).collect::<Vec<_>>(), ["app", "bob"]);
    // Rights on single things go with the database, and a right on all leaves one out.
    for sql in
        ["CREATE TABLE app.t (x int)", "GRANT SELECT ON app.t TO bob@'%'", "GRANT UPDATE (x) ON app.t TO bob@'%'"]
    {
        root.run(sql).await.unwrap();
    }
    accounts.revoke(&cx(), &"bob".into(), "app").await.unwrap();
    assert!(bob.run("SELECT 1").await.is_err());
    let mut bob = fixture.client("bob", "b", "").await.unwrap();
    refused(&mut bob, "SELECT * FROM app.t").await.unwrap();
    refused(&mut bob, "UPDATE app.t SET x = 1").await.unwrap();
    accounts.drop_user(&cx(), &"bob".into()).await.unwrap();
    fixture.healthy().await;
    fixture.removed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mysql() {
    root_rules_the_tenants_and_nothing_else(MYSQL_9_7).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb() {
    root_rules_the_tenants_and_nothing_else(MARIADB_11_8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_10_11() {
    if is_quick_tier() {
        return;
    }
    root_rules_the_tenants_and_nothing_else(MARIADB_10_11).await;
}
