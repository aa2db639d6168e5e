//! The cost of messages between the control plane and a guest over RabbitMQ: calls that the guest
//! echoes, and confirmed notifications of the guest, of 1 KiB each.
//!
//! **Trove**: `rpc::RpcClient` and `rpc::RpcServer` over `rpc::Amqp`. Messages are sealed and
//! delivered in order and once; calls are repeated until there is a response, and unconfirmed
//! messages are sent again.
//!
//! **Baseline**: AES-256-GCM, publisher confirms and acknowledgments over the same client library,
//! and nothing else. In both cases queues are durable and messages are not, and each end has one
//! connection with one channel to publish and one to consume.
//!
//! The control plane is this process, the guest a child process. Both have an end of each side,
//! which is idle while the other side is measured.
//!
//! **oslo.messaging**, with `--oslo 1`: OpenStack's RPC library with eventlet, not sealed, as two
//! Python processes.
//!
//! **Results**: `CPU` is the CPU time per message of the control plane, the guest and the broker,
//! and its ratio to that of the baseline in the same round. Rates and latencies are those of a
//! machine on which all three share the processors.
//!
//! **Idle guests**: the memory of the broker by number of idle guests. For the baseline, a guest is
//! a connection, a queue and a consumer; for the library, a user, a queue in each direction and an
//! open session.
//!
//! **Agent**: the memory of a release build of `trove-guestagent` beside an idle PostgreSQL server.
//!
//! Options: `--rounds 5 --seconds 2`, the latter for each measurement; `--guests 500`, 0 to skip
//! idle guests; `--agent 0` to skip the agent; `--json 1` to print all results as JSON.
#![allow(clippy::print_stdout, reason = "a benchmark prints its results")]

mod agent_memory;
mod baseline;
mod child_process;
mod guest_process;
mod idle_guests;
mod load;
mod oslo_messaging;
mod trove;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use trove_benches::{BrokerContainer, Options, Result, Sample, Table, process_cpu_time, ratios, run};
use trove_core::rpc::Amqp;

use agent_memory::AgentMemory;
use baseline::BaselineEnd;
use child_process::{ChildProcess, Request};
use idle_guests::BrokerMemory;
use load::{Load, LoadResult};
use oslo_messaging::OsloMessaging;
use trove::{ControlEnd, Guest};

/// The numbers of concurrent callers.
const CONCURRENCIES: [usize; 3] = [1, 16, 64];
const PAYLOAD_BYTES: usize = 1024;
/// The seconds of load before each measurement.
const WARM_UP: f64 = 0.3;
/// The deadline for the arrival of the last notification.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(30);

/// The implementation that sends and receives the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Baseline,
    Trove,
    OsloMessaging,
}

/// Calls of the control plane, or notifications of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum MessageKind {
    Call,
    Notification,
}

/// A broker and the ends of all sides.
struct Setup {
    broker: BrokerContainer,
    baseline: Arc<BaselineEnd>,
    trove: Arc<ControlEnd>,
    guest: ChildProcess,
    oslo_messaging: Option<OsloMessaging>,
}

/// The cost of a message in one round.
#[derive(Clone, Copy, Serialize)]
struct Cost {
    messages_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// The CPU time of the control plane's process in microseconds.
    control: f64,
    guest: f64,
    broker: f64,
}

/// The measurements of one side.
#[derive(Serialize)]
struct Row {
    kind: MessageKind,
    concurrency: usize,
    side: Side,
    rounds: Vec<Cost>,
}

#[derive(Serialize)]
struct Report {
    messages: Vec<Row>,
    idle: Vec<BrokerMemory>,
    agent: Option<AgentMemory>,
}

fn main() -> ExitCode {
    // Outlives the runtime, because nothing may run on the host when it is dropped.
    let mut host = None;
    let outcome = run(async {
        if guest_process::is_current() {
            return guest_process::serve().await;
        }
        let known = [("rounds", 5), ("seconds", 2), ("guests", 500), ("agent", 1), ("oslo", 0), ("json", 0)];
        let options = Options::from_command_line(&known)?;
        let (rounds, seconds) = (options.count("rounds"), options.count("seconds"));
        let messages = measure_messages(rounds, f64::from(u32::try_from(seconds)?), options.get("oslo") > 0).await?;
        let idle = match usize::try_from(options.get("guests"))? {
            0 => Vec::new(),
            guests => idle_guests::measure(&[guests.div_ceil(5), guests]).await?,
        };
        print_idle(&idle)?;
        let agent = if options.get("agent") > 0 { Some(agent_memory::measure(&mut host).await?) } else { None };
        if let Some(AgentMemory { resident, private }) = &agent {
            println!("idle guest agent: {resident:.0} KiB resident, of which {private:.0} KiB private");
        }
        if options.get("json") > 0 {
            println!("{}", serde_json::to_string(&Report { messages, idle, agent })?);
        }
        Ok(())
    });
    drop(host);
    outcome
}

async fn measure_messages(rounds: usize, seconds: f64, with_oslo: bool) -> Result<Vec<Row>> {
    let mut setup = Setup::start(with_oslo).await?;
    let mut sides = vec![Side::Baseline, Side::Trove];
    sides.extend(setup.oslo_messaging.as_ref().map(|_| Side::OsloMessaging));
    let mut rows = Vec::new();
    for kind in [MessageKind::Call, MessageKind::Notification] {
        for concurrency in CONCURRENCIES {
            let mut group: Vec<Row> =
                sides.iter().map(|side| Row { kind, concurrency, side: *side, rounds: Vec::new() }).collect();
            for _ in 0..rounds {
                for row in &mut group {
                    row.rounds.push(setup.measure(row.side, kind, Load { concurrency, seconds }).await?);
                }
            }
            print_messages(&group)?;
            rows.extend(group);
        }
    }
    Ok(rows)
}

impl Setup {
    async fn start(with_oslo: bool) -> Result<Self> {
        let broker = BrokerContainer::start(env!("CARGO_TARGET_TMPDIR"))?;
        broker.wait_until_ready().await?;
        let (endpoint, login) = broker.control_login();
        let control = Amqp::new(endpoint.clone(), login);
        let identity = Guest::create(&broker.management()?, &control).await?;
        let baseline_key = [7; 32];
        let guest = guest_process::start(endpoint, broker.uri(), &identity, baseline_key).await?;
        let baseline = Arc::new(BaselineEnd::control(&broker.uri(), &baseline_key).await?);
        let trove = Arc::new(ControlEnd::open(&control, &identity).await?);
        let oslo_messaging = match with_oslo {
            true => match OsloMessaging::start(&broker.uri()).await {
                Ok(processes) => Some(processes),
                Err(error) => {
                    println!("oslo.messaging is skipped: {error}");
                    None
                }
            },
            false => None,
        };
        Ok(Self { broker, baseline, trove, guest, oslo_messaging })
    }

    async fn measure(&mut self, side: Side, kind: MessageKind, load: Load) -> Result<Cost> {
        self.run(side, kind, Load { seconds: WARM_UP, ..load }).await?;
        let broker = self.broker.cpu_time().await?;
        let [control, guest] = self.cpu_times(side).await?;
        let result = self.run(side, kind, load).await?;
        let [control_after, guest_after] = self.cpu_times(side).await?;
        let broker_after = self.broker.cpu_time().await?;
        let count = f64::from(u32::try_from(result.count)?);
        Ok(Cost {
            messages_per_second: count / result.seconds,
            p50_ms: result.p50_ms,
            p99_ms: result.p99_ms,
            control: (control_after - control) / count * 1e6,
            guest: (guest_after - guest) / count * 1e6,
            broker: (broker_after - broker) / count * 1e6,
        })
    }

    /// Sends messages and waits until all have arrived.
    async fn run(&mut self, side: Side, kind: MessageKind, load: Load) -> Result<LoadResult> {
        if kind == MessageKind::Call {
            return self.call(side, load).await;
        }
        let (before, started) = (self.notification_count(side).await?, Instant::now());
        let sender = match (side, &mut self.oslo_messaging) {
            (Side::OsloMessaging, Some(processes)) => &mut processes.client,
            _ => &mut self.guest,
        };
        let mut result: LoadResult = sender.request(&Request::Run { side, kind, load }).await?;
        while self.notification_count(side).await? < before + result.count {
            if started.elapsed() > ARRIVAL_TIMEOUT {
                return Err("timed out waiting for notifications".into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        result.seconds = started.elapsed().as_secs_f64();
        Ok(result)
    }

    async fn call(&mut self, side: Side, load: Load) -> Result<LoadResult> {
        let payload = Arc::new(payload());
        match (side, &mut self.oslo_messaging) {
            (Side::OsloMessaging, Some(processes)) => {
                processes.client.request(&Request::Run { side, kind: MessageKind::Call, load }).await
            }
            (Side::Baseline, _) => {
                let shared = (self.baseline.clone(), payload);
                let call = move || {
                    let (baseline, payload) = shared.clone();
                    async move { baseline.call(&payload).await }
                };
                load.run(call).await
            }
            _ => {
                let shared = (self.trove.clone(), payload);
                let call = move || {
                    let (trove, payload) = shared.clone();
                    async move { trove.call(&payload).await }
                };
                load.run(call).await
            }
        }
    }

    /// Returns the number of notifications that the control plane of a side has received.
    async fn notification_count(&mut self, side: Side) -> Result<usize> {
        match (side, &mut self.oslo_messaging) {
            (Side::OsloMessaging, Some(processes)) => processes.server.request(&Request::NotificationCount).await,
            (Side::Baseline, _) => Ok(self.baseline.notification_count()),
            _ => Ok(self.trove.notification_count()),
        }
    }

    /// Returns the CPU times of the control plane's and of the guest's process in seconds.
    async fn cpu_times(&mut self, side: Side) -> Result<[f64; 2]> {
        match (side, &mut self.oslo_messaging) {
            (Side::OsloMessaging, Some(processes)) => {
                let client = processes.client.request(&Request::CpuTime).await?;
                Ok([client, processes.server.request(&Request::CpuTime).await?])
            }
            _ => {
                let guest = self.guest.request(&Request::CpuTime).await?;
                Ok([process_cpu_time(), guest])
            }
        }
    }
}

impl Cost {
    fn total(&self) -> f64 {
        self.control + self.guest + self.broker
    }

    fn without_broker(&self) -> f64 {
        self.control + self.guest
    }
}

impl Row {
    fn values(&self, field: impl Fn(&Cost) -> f64) -> Vec<f64> {
        self.rounds.iter().map(field).collect()
    }
}

/// Returns the payload of every message.
fn payload() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(PAYLOAD_BYTES).collect()
}

fn print_messages(rows: &[Row]) -> Result<()> {
    let baseline = rows.first().ok_or("there are no measurements")?;
    let kind = match baseline.kind {
        MessageKind::Call => "calls",
        MessageKind::Notification => "notifications",
    };
    let mut table = Table::new([
        format!("{kind}, {} concurrent", baseline.concurrency).as_str(),
        "per second",
        "p50 ms",
        "p99 ms",
        "CPU µs: control",
        "guest",
        "broker",
        "total",
        "/ baseline",
        "without broker / baseline",
    ]);
    for row in rows {
        let sample = |field: fn(&Cost) -> f64| Sample::from_iter(row.values(field));
        let ratio = |field: fn(&Cost) -> f64| match row.side {
            Side::Baseline => String::new(),
            _ => ratios(&row.values(field), &baseline.values(field)).to_string(),
        };
        table.row([
            match row.side {
                Side::Baseline => "baseline".to_owned(),
                Side::Trove => "trove".to_owned(),
                Side::OsloMessaging => "oslo.messaging".to_owned(),
            },
            format!("{:.0}", sample(|cost| cost.messages_per_second)),
            format!("{:.2}", sample(|cost| cost.p50_ms).median()),
            format!("{:.2}", sample(|cost| cost.p99_ms).median()),
            format!("{:.0}", sample(|cost| cost.control).median()),
            format!("{:.0}", sample(|cost| cost.guest).median()),
            format!("{:.0}", sample(|cost| cost.broker).median()),
            format!("{:.0}", sample(Cost::total)),
            ratio(Cost::total),
            ratio(Cost::without_broker),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn print_idle(idle: &[BrokerMemory]) -> Result<()> {
    let Some(without_guests) = idle.first() else { return Ok(()) };
    let mut table = Table::new(["idle guests", "baseline, KiB", "each", "trove, KiB", "each", "/ baseline"]);
    for memory in idle {
        let guests = f64::from(u32::try_from(memory.guests)?);
        let each = |with: f64, without: f64| (with - without) / guests;
        let baseline = each(memory.baseline, without_guests.baseline);
        let trove = each(memory.trove, without_guests.trove);
        let cells = if memory.guests == 0 { [f64::NAN; 3] } else { [baseline, trove, trove / baseline] };
        let cell = |value: f64| if value.is_nan() { String::new() } else { format!("{value:.1}") };
        let [baseline, trove, ratio] = cells.map(cell);
        let total = |kib: f64| format!("{kib:.0}");
        table.row([memory.guests.to_string(), total(memory.baseline), baseline, total(memory.trove), trove, ratio]);
    }
    println!("{table}");
    Ok(())
}
