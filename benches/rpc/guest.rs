//! The process of the guest.

use std::{env, io::stdin, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::{process::Command, task::spawn_blocking};
use trove_benches::{Result, processor_time};
use trove_core::{
    id::InstanceId,
    rpc::{self, BrokerLogin, InstanceKey},
    secret::{ExposeSecret, SecretString},
};

use crate::{
    Side,
    floor::Floor,
    ours::{Guest, Identity},
    payload,
    process::{Order, Process},
};

/// Tells a process of this program that it is the guest.
const CHILD: &str = "TROVE_BENCH_GUEST";

/// What it is told first.
#[derive(Serialize, Deserialize)]
struct Setup {
    host: String,
    port: u16,
    uri: String,
    user: String,
    password: String,
    instance: InstanceId,
    key: String,
    floor_key: [u8; 32],
}

/// True in the process of a guest.
pub(super) fn is_this() -> bool {
    env::var_os(CHILD).is_some()
}

/// Starts the process of a guest, which is there when this returns.
pub(super) async fn start(broker: rpc::Broker, uri: String, guest: &Identity, floor_key: [u8; 32]) -> Result<Process> {
    let mut command = Command::new(env::current_exe()?);
    command.env(CHILD, "1");
    let mut process = Process::start(command)?;
    let setup = Setup {
        host: broker.host,
        port: broker.port,
        uri,
        user: guest.login.user.clone(),
        password: guest.login.password.expose_secret().to_owned(),
        instance: guest.instance,
        key: guest.key.to_text().expose_secret().to_owned(),
        floor_key,
    };
    let _there: f64 = process.ask(&setup).await?;
    Ok(process)
}

/// Does what it is told until its input ends.
#[allow(clippy::print_stdout, reason = "its answers go there")]
pub(super) async fn serve() -> Result<()> {
    let setup: Setup = serde_json::from_str(&order().await?.ok_or("not set up")?)?;
    let floor = Arc::new(Floor::guest(&setup.uri, &setup.floor_key).await?);
    let mut broker = rpc::Broker::at(setup.host);
    broker.port = setup.port;
    let login = BrokerLogin::new(setup.user, setup.password);
    let key = InstanceKey::from_text(1, &SecretString::from(setup.key))?;
    let ours = Arc::new(Guest::serve(broker, Identity { instance: setup.instance, key, login })?);
    let text = Arc::new(payload());
    println!("{}", processor_time());
    while let Some(line) = order().await? {
        let answer = match serde_json::from_str(&line)? {
            Order::Usage => serde_json::to_string(&processor_time())?,
            Order::Do { side: Side::Ours, load, .. } => {
                let work = (ours.clone(), text.clone());
                let done = load.run(move || {
                    let (ours, text) = work.clone();
                    async move {
                        ours.tell(&text).await;
                        Ok(())
                    }
                });
                serde_json::to_string(&done.await?)?
            }
            Order::Do { load, .. } => {
                let work = (floor.clone(), text.clone());
                let done = load.run(move || {
                    let (floor, text) = work.clone();
                    async move { floor.tell(&text).await }
                });
                serde_json::to_string(&done.await?)?
            }
            Order::Heard => return Err("a guest is asked, and not told".into()),
        };
        println!("{answer}");
    }
    Ok(())
}

async fn order() -> Result<Option<String>> {
    Ok(spawn_blocking(|| stdin().lines().next().transpose()).await??)
}
