//! The use of a MySQL or MariaDB server over the network.

use std::time::Duration;

use mysql_async::{Conn, Error, Opts, OptsBuilder};
use tokio::time::timeout;
use trove_core::model::Endpoint;

/// A session as a tenant's client has it: over TCP, with a password, without TLS.
pub async fn login(endpoint: &Endpoint, user: &str, password: &str, database: &str) -> Result<Conn, Error> {
    let opts = OptsBuilder::default()
        .ip_or_hostname(endpoint.host.clone())
        .tcp_port(endpoint.port)
        .user(Some(user))
        .pass(Some(password))
        .prefer_socket(false)
        .db_name((!database.is_empty()).then_some(database));
    let connected = timeout(Duration::from_secs(60), Conn::new(Opts::from(opts))).await;
    connected.unwrap_or_else(|_| Err(Error::Io(std::io::Error::from(std::io::ErrorKind::TimedOut).into())))
}
