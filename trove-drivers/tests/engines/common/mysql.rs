//! Connections to MySQL and MariaDB servers.

use std::time::Duration;

use mysql_async::{Conn, Error, Opts, OptsBuilder};
use tokio::time::timeout;
use trove_core::model::Endpoint;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

/// Connects as a tenant's client does: over TCP, with a password, without TLS.
pub async fn login(endpoint: &Endpoint, user: &str, password: &str, database: &str) -> Result<Conn, Error> {
    let opts = OptsBuilder::default()
        .ip_or_hostname(endpoint.host.clone())
        .tcp_port(endpoint.port)
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .db_name((!database.is_empty()).then_some(database));
    let connected = timeout(CONNECT_TIMEOUT, Conn::new(Opts::from(opts))).await;
    connected.unwrap_or_else(|_| Err(Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut).into())))
}
