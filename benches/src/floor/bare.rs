//! What an engine needs to serve at all.

use crate::Engine;

pub(super) const SOCKETS: &str = "/sockets";

/// An engine in a container, as barely as it can be had, with what its driver asks of the data too.
pub(super) struct Bare {
    /// Where the server sees its volume.
    pub(super) volume: &'static str,
    pub(super) port: u16,
    /// Where its programs are beside the usual places.
    pub(super) path: &'static str,
    pub(super) initialise: Vec<String>,
    pub(super) serve: Vec<String>,
    /// What ends the server cleanly.
    pub(super) stop_signal: &'static str,
    /// The administrator, who is let in over the socket.
    pub(super) administrator: &'static str,
    /// Files of the data directory that are written after it was made.
    pub(super) files: &'static [(&'static str, &'static str)],
    /// Files of the data directory that a copy must not have.
    pub(super) individual: &'static [&'static str],
    /// Statements that make a database and a user.
    pub(super) accounts: Vec<String>,
}

impl Bare {
    /// The engine, with statements that make a database and a user `app` with this password.
    pub(super) fn new(engine: Engine, password: &str) -> Self {
        match engine {
            Engine::PostgreSql => postgresql(password),
            Engine::MySql => mysql(password),
            Engine::MariaDb => mariadb(password),
        }
    }
}

fn postgresql(password: &str) -> Bare {
    let (data, sockets) = ("--pgdata=/var/lib/postgresql/data/data", format!("--unix_socket_directories={SOCKETS}"));
    Bare {
        volume: "/var/lib/postgresql/data",
        port: 5432,
        path: "/usr/lib/postgresql/17/bin:",
        initialise: words(&[
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
        serve: words(&["postgres", "-D", "/var/lib/postgresql/data/data", &sockets, "--listen_addresses=*"]),
        stop_signal: "SIGINT",
        administrator: "admin",
        files: &[("pg_hba.conf", "local all admin trust\nhost all all all scram-sha-256\n")],
        individual: &[],
        accounts: vec![
            format!("CREATE ROLE app LOGIN PASSWORD '{password}'"),
            "CREATE DATABASE app OWNER app TEMPLATE template0".to_owned(),
        ],
    }
}

fn mysql(password: &str) -> Bare {
    let initialise = ["mysqld", "--no-defaults", "--initialize-insecure"];
    let options = ["--datadir=/var/lib/mysql/data", "--innodb-redo-log-capacity=8M"];
    let socket = format!("--socket={SOCKETS}/mysqld.sock");
    let serve = ["mysqld", "--no-defaults", "--mysqlx=OFF", "--secure-file-priv=NULL", "--performance-schema=OFF"];
    Bare {
        volume: "/var/lib/mysql",
        port: 3306,
        path: "",
        initialise: words(&[initialise.as_slice(), &options].concat()),
        serve: words(&[serve.as_slice(), &options, &[&socket, "--pid-file=/var/lib/mysql/data/pid"]].concat()),
        stop_signal: "SIGTERM",
        administrator: "root",
        files: &[],
        individual: &["auto.cnf"],
        accounts: vec![
            format!("CREATE USER app@'%' IDENTIFIED BY '{password}'"),
            "CREATE DATABASE app".to_owned(),
            "GRANT ALL ON app.* TO app@'%'".to_owned(),
        ],
    }
}

fn mariadb(password: &str) -> Bare {
    let initialise = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal"];
    let options = ["--datadir=/var/lib/mysql/data", "--innodb-log-file-size=8M"];
    let (socket, serve) = (format!("--socket={SOCKETS}/mysqld.sock"), ["mariadbd", "--no-defaults"]);
    Bare {
        initialise: words(&[initialise.as_slice(), &options, &["--skip-test-db"]].concat()),
        serve: words(&[serve.as_slice(), &options, &[&socket, "--pid-file=/var/lib/mysql/data/pid"]].concat()),
        individual: &[],
        ..mysql(password)
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().copied().map(str::to_owned).collect()
}
