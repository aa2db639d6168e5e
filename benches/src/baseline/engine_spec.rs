//! The minimal configuration of each engine.

use crate::Engine;

pub(super) const SOCKET_DIRECTORY: &str = "/sockets";

/// How to run an engine in a container with minimal options. Options that affect the data directory
/// are those of the driver.
pub(super) struct EngineSpec {
    /// The path of the volume in the container.
    pub(super) volume: &'static str,
    pub(super) port: u16,
    /// A prefix of `PATH` for the programs of the engine.
    pub(super) path: &'static str,
    pub(super) init_command: Vec<String>,
    pub(super) server_command: Vec<String>,
    /// The signal that shuts the server down cleanly.
    pub(super) stop_signal: &'static str,
    /// The user that can connect over the socket without a password.
    pub(super) administrator: &'static str,
    /// Files to write into an initialized data directory.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Files of a data directory that must not be copied to another server.
    pub(super) unique_files: &'static [&'static str],
    /// Statements that create a database and a user, both named `app`.
    pub(super) account_statements: Vec<String>,
}

impl EngineSpec {
    /// Returns the configuration of an engine; the user `app` gets this password.
    pub(super) fn new(engine: Engine, password: &str) -> Self {
        match engine {
            Engine::PostgreSql => postgresql(password),
            Engine::MySql => mysql(password),
            Engine::MariaDb => mariadb(password),
        }
    }
}

fn postgresql(password: &str) -> EngineSpec {
    let (data, sockets) =
        ("--pgdata=/var/lib/postgresql/data/data", format!("--unix_socket_directories={SOCKET_DIRECTORY}"));
    EngineSpec {
        volume: "/var/lib/postgresql/data",
        port: 5432,
        path: "/usr/lib/postgresql/17/bin:",
        init_command: words(&[
            "initdb",
            data,
            "--username=admin",
            "--auth-host=reject",
            "--auth-local=trust",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
            "--data-checksums",
            "--no-instructions",
        ]),
        server_command: words(&["postgres", "-D", "/var/lib/postgresql/data/data", &sockets, "--listen_addresses=*"]),
        stop_signal: "SIGINT",
        administrator: "admin",
        files: &[("pg_hba.conf", "local all admin trust\nhost all all all scram-sha-256\n")],
        unique_files: &[],
        account_statements: vec![
            format!("CREATE ROLE app LOGIN PASSWORD '{password}'"),
            "CREATE DATABASE app OWNER app TEMPLATE template0".to_owned(),
        ],
    }
}

fn mysql(password: &str) -> EngineSpec {
    let init = ["mysqld", "--no-defaults", "--initialize-insecure"];
    let options = ["--datadir=/var/lib/mysql/data", "--innodb-redo-log-capacity=8M"];
    let socket = format!("--socket={SOCKET_DIRECTORY}/mysqld.sock");
    let server = ["mysqld", "--no-defaults", "--mysqlx=OFF", "--secure-file-priv=NULL", "--performance-schema=OFF"];
    EngineSpec {
        volume: "/var/lib/mysql",
        port: 3306,
        path: "",
        init_command: words(&[init.as_slice(), &options].concat()),
        server_command: words(
            &[server.as_slice(), &options, &[&socket, "--pid-file=/var/lib/mysql/data/pid"]].concat(),
        ),
        stop_signal: "SIGTERM",
        administrator: "root",
        files: &[],
        unique_files: &["auto.cnf"],
        account_statements: vec![
            format!("CREATE USER app@'%' IDENTIFIED BY '{password}'"),
            "CREATE DATABASE app".to_owned(),
            "GRANT ALL ON app.* TO app@'%'".to_owned(),
        ],
    }
}

fn mariadb(password: &str) -> EngineSpec {
    let init = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal"];
    let options = ["--datadir=/var/lib/mysql/data", "--innodb-log-file-size=8M"];
    let (socket, server) = (format!("--socket={SOCKET_DIRECTORY}/mysqld.sock"), ["mariadbd", "--no-defaults"]);
    EngineSpec {
        init_command: words(&[init.as_slice(), &options, &["--skip-test-db"]].concat()),
        server_command: words(
            &[server.as_slice(), &options, &[&socket, "--pid-file=/var/lib/mysql/data/pid"]].concat(),
        ),
        unique_files: &[],
        ..mysql(password)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}
