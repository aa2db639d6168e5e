//! The process of the attackers: guests that flood their control plane with reports.

use std::{
    env,
    io::{self, Read, Write},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use trove_benches::Result;
use trove_core::{
    id::InstanceId,
    model::{Health, Observed, SettingsState},
    rpc::{Amqp, Broker, BrokerLogin, DropCounters, InstanceKey, KeyRing, Notifier, RequestHandler, RpcServer},
    secret::SecretString,
};
use zeroize::Zeroizing;

/// The environment variable that is set in the process of the attackers.
const CHILD: &str = "TROVE_BENCH_ATTACK";
/// The names in a report, and the length of each.
const NAMES: usize = 500;
const NAME_BYTES: usize = 2000;
/// The reports of a guest that are sent at the same time.
const IN_FLIGHT: u32 = 4;
const PRINT_INTERVAL: Duration = Duration::from_millis(100);

/// The identity of a guest, read from the configuration of its agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct StolenIdentity {
    pub(super) instance: InstanceId,
    pub(super) key_number: u32,
    pub(super) key: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
}

/// The input of the process of the attackers.
#[derive(Serialize, Deserialize)]
struct Setup {
    guests: Vec<StolenIdentity>,
    /// The reports of all guests in a second.
    rate: u64,
}

/// Returns whether this is the process of the attackers.
pub(super) fn is_current() -> bool {
    env::var_os(CHILD).is_some()
}

/// A running attack; ended when dropped.
pub(super) struct Attack {
    _process: Child,
    sent: Arc<AtomicU64>,
}

impl Attack {
    pub(super) async fn start(guests: Vec<StolenIdentity>, rate: u64) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.env(CHILD, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn()?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        let (mut input, output) = input.zip(output).ok_or("the process of the attackers has no input or output")?;
        input.write_all(&serde_json::to_vec(&Setup { guests, rate })?).await?;
        let sent = Arc::new(AtomicU64::new(0));
        let count = sent.clone();
        tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                count.store(line.parse().unwrap_or_default(), Ordering::Relaxed);
            }
        });
        Ok(Self { _process: process, sent })
    }

    /// Returns the number of reports that the broker has confirmed.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// Attacks until nothing reads the number of sent reports any more, as when the benchmark was killed.
pub(super) async fn attack() -> Result<()> {
    let mut text = String::new();
    io::stdin().read_to_string(&mut text)?;
    let setup: Setup = serde_json::from_str(&text)?;
    let names = (0..NAMES).map(|number| format!("{number:0NAME_BYTES$}")).collect();
    let settings = SettingsState { restart_required: names, rejected: None };
    let observed = Observed::new(Health::Healthy).settings(Some(settings));
    let report = serde_json::to_vec(&json!({ "Observed": { "observed": observed, "settled": false } }))?;
    let sent = Arc::new(AtomicU64::new(0));
    let interval = Duration::from_secs(1) * u32::try_from(setup.guests.len())? / u32::try_from(setup.rate)?;
    for guest in &setup.guests {
        let broker = Broker { port: guest.port, ..Broker::at(guest.host.as_str()) };
        let transport = Amqp::new(broker, BrokerLogin::new(guest.user.as_str(), guest.password.as_str()));
        let key = InstanceKey::from_text(guest.key_number, &SecretString::from(guest.key.as_str()))?;
        let (notifier, keys, drops) = (Notifier::new(), KeyRing::new(key), DropCounters::new());
        let (transport, handler) = (Arc::new(transport), Arc::new(Refusal));
        let server = RpcServer::new(transport, guest.instance, keys, handler, notifier.clone(), drops)?;
        tokio::spawn(server.run(CancellationToken::new()));
        for _ in 0..IN_FLIGHT {
            tokio::spawn(flood(notifier.clone(), report.clone(), interval * IN_FLIGHT, sent.clone()));
        }
    }
    loop {
        sleep(PRINT_INTERVAL).await;
        writeln!(io::stdout(), "{}", sent.load(Ordering::Relaxed))?;
    }
}

/// Sends a report in each interval, and counts those that were sent.
async fn flood(notifier: Notifier, report: Vec<u8>, interval: Duration, sent: Arc<AtomicU64>) {
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        notifier.notify_and_flush(report.clone().into()).await;
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

/// Answers every request with nothing.
struct Refusal;

#[async_trait]
impl RequestHandler for Refusal {
    async fn handle(&self, _request: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
        Zeroizing::default()
    }
}
