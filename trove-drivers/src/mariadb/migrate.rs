//! Upgrades the data for a newer server, with the server's own program in a helper container.

use trove_core::{datastore::Cx, error::Result};

use super::MariaDbVariant;
use crate::{
    container::{AGENT, Helper, SOCKETS},
    mysql_family::{AdminConnector, SOCKET},
};

/// The account of the server's user while the program runs.
const SERVER: &str = "server";

/// Upgrades the data. The program connects through the socket as the server's user, which has an
/// account only meanwhile.
pub(super) async fn run(
    admin: &AdminConnector<MariaDbVariant>,
    server_uid: u32,
    cx: &Cx,
    helper: &dyn Helper,
) -> Result<()> {
    if server_uid == rustix::process::geteuid().as_raw() {
        return upgrade(AGENT, cx, helper).await;
    }
    drop_server_user(admin).await?;
    let mut session = admin.session().await?;
    for statement in [
        "SET SESSION sql_log_bin = 0".to_owned(),
        format!("CREATE USER {SERVER}@localhost IDENTIFIED VIA unix_socket"),
        format!("GRANT ALL ON *.* TO {SERVER}@localhost WITH GRANT OPTION"),
    ] {
        session.run(&statement).await?;
    }
    drop(session);
    let upgraded = upgrade(SERVER, cx, helper).await;
    let dropped = drop_server_user(admin).await;
    upgraded.and(dropped)
}

async fn upgrade(user: &str, cx: &Cx, helper: &dyn Helper) -> Result<()> {
    let command = ["mariadb-upgrade", "--no-defaults", "--protocol=socket", "--skip-ssl"].map(str::to_owned);
    let which = [format!("--socket={SOCKETS}/{SOCKET}"), format!("--user={user}")];
    helper.run(cx, command.into_iter().chain(which).collect()).await.map(drop)
}

async fn drop_server_user(admin: &AdminConnector<MariaDbVariant>) -> Result<()> {
    let mut session = admin.session().await?;
    session.run("SET SESSION sql_log_bin = 0").await?;
    session.run(&format!("DROP USER IF EXISTS {SERVER}@localhost")).await
}
