//! The process of the guest.

use std::{env, io::stdin, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::{process::Command, task::spawn_blocking};
use trove_benches::{Result, process_cpu_time};
use trove_core::{
    id::InstanceId,
    rpc::{Broker, BrokerLogin, InstanceKey},
    secret::{ExposeSecret, SecretString},
};

use crate::{
    Side,
    baseline::BaselineEnd,
    child_process::{ChildProcess, Request},
    payload,
    trove::{Guest, GuestEnd},
};

/// The environment variable that is set in the process of the guest.
const CHILD: &str = "TROVE_BENCH_GUEST";

/// The first line that the process of the guest reads.
#[derive(Serialize, Deserialize)]
struct Setup {
    host: String,
    port: u16,
    uri: String,
    user: String,
    password: String,
    instance: InstanceId,
    key: String,
    baseline_key: [u8; 32],
}

/// Returns whether this is the process of the guest.
pub(super) fn is_current() -> bool {
    env::var_os(CHILD).is_some()
}

/// Starts the process of the guest and waits until it is ready.
pub(super) async fn start(broker: Broker, uri: String, guest: &Guest, baseline_key: [u8; 32]) -> Result<ChildProcess> {
    let mut command = Command::new(env::current_exe()?);
    command.env(CHILD, "1");
    let mut process = ChildProcess::start(command)?;
    let setup = Setup {
        host: broker.host,
        port: broker.port,
        uri,
        user: guest.login.user.clone(),
        password: guest.login.password.expose_secret().to_owned(),
        instance: guest.instance,
        key: guest.key.to_text().expose_secret().to_owned(),
        baseline_key,
    };
    let _ready: f64 = process.request(&setup).await?;
    Ok(process)
}

/// Executes requests until standard input is closed.
#[allow(clippy::print_stdout, reason = "standard output carries the responses")]
pub(super) async fn serve() -> Result<()> {
    let setup: Setup = serde_json::from_str(&next_line().await?.ok_or("no setup was received")?)?;
    let baseline = Arc::new(BaselineEnd::guest(&setup.uri, &setup.baseline_key).await?);
    let mut broker = Broker::at(setup.host);
    broker.port = setup.port;
    let login = BrokerLogin::new(setup.user, setup.password);
    let key = InstanceKey::from_text(1, &SecretString::from(setup.key))?;
    let trove = Arc::new(GuestEnd::serve(broker, Guest { instance: setup.instance, key, login })?);
    let payload = Arc::new(payload());
    println!("{}", process_cpu_time());
    while let Some(line) = next_line().await? {
        let response = match serde_json::from_str(&line)? {
            Request::CpuTime => serde_json::to_string(&process_cpu_time())?,
            Request::Run { side: Side::Trove, load, .. } => {
                let shared = (trove.clone(), payload.clone());
                let result = load.run(move || {
                    let (trove, payload) = shared.clone();
                    async move {
                        trove.notify(&payload).await;
                        Ok(())
                    }
                });
                serde_json::to_string(&result.await?)?
            }
            Request::Run { load, .. } => {
                let shared = (baseline.clone(), payload.clone());
                let result = load.run(move || {
                    let (baseline, payload) = shared.clone();
                    async move { baseline.notify(&payload).await }
                });
                serde_json::to_string(&result.await?)?
            }
            Request::NotificationCount => return Err("a guest receives no notifications".into()),
        };
        println!("{response}");
    }
    Ok(())
}

async fn next_line() -> Result<Option<String>> {
    Ok(spawn_blocking(|| stdin().lines().next().transpose()).await??)
}
