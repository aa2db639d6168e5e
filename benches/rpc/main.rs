//! What messages between the control plane and a guest cost over RabbitMQ: calls that are answered with what they
//! asked, and reports of the guest that are confirmed, of 1 KiB each.
//!
//! **Ours**: `rpc::RpcClient` and `rpc::RpcServer` over `rpc::Amqp`. Sealed, in order, once; calls are repeated until they are
//! answered, and what the broker did not take is sent again.
//!
//! **Floor**: AES-256-GCM, publisher confirms and acknowledgements over the same client library, with nothing of that.
//! Queues outlive the broker and frames do not in both, and each side has one connection with a channel to send and one to
//! receive.
//!
//! The control plane is this process, the guest another one; both have an end of ours and one of the floor, which rests
//! while the other is measured.
//!
//! **Peer**, with `--peer 1`: `oslo.messaging` with eventlet, not sealed, as two processes of Python.
//!
//! **To read**: `CPU` is what one message keeps processors busy for, in the control plane's process, the guest's and the
//! broker; it is told alone and as a multiple of the floor's, round by round. Rates and times are those of a machine on
//! which all three share the processors.
//!
//! **Idle guests**: the broker's memory with so many guests that say nothing. The floor is a connection, a queue and a
//! receiver; ours is a guest with a user, a mailbox in each direction and a line that stands.
//!
//! **Agent**: the memory of `trove-guestagent`, as it is released, beside an idle server of PostgreSQL.
//!
//! Options: `--rounds 5 --seconds 2`, the latter for each measurement; `--guests 500`, 0 to leave them out; `--agent 0`
//! to leave that out; `--json 1` for all of it as JSON.
#![allow(clippy::print_stdout, reason = "its result is what it prints")]

mod agent;
mod broker;
mod floor;
mod guest;
mod idle;
mod load;
mod ours;
mod peer;
mod process;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use trove_benches::{Options, Result, Sample, Table, processor_time, ratios, run};
use trove_core::rpc::Amqp;

use broker::Broker;
use floor::Floor;
use load::{Done, Load};
use ours::{Control, Identity};
use peer::Peer;
use process::{Order, Process};

/// How many callers there are at a time.
const AT_ONCE: [usize; 3] = [1, 16, 64];
const PAYLOAD_BYTES: usize = 1024;
/// How long each is at work before it is measured.
const WARM_UP: f64 = 0.3;
/// How long the last report may take to arrive.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(30);

/// Whose messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Side {
    Floor,
    Ours,
    Peer,
}

/// Calls by the control plane, or reports by the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Call,
    Cast,
}

/// All that talk.
struct Stage {
    broker: Broker,
    floor: Arc<Floor>,
    ours: Arc<Control>,
    guest: Process,
    peer: Option<Peer>,
}

/// What one message came to in one round.
#[derive(Clone, Copy, Serialize)]
struct Cost {
    rate: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Microseconds of processors.
    control: f64,
    guest: f64,
    broker: f64,
}

/// A side's rounds.
#[derive(Serialize)]
struct Row {
    kind: Kind,
    at_once: usize,
    side: Side,
    rounds: Vec<Cost>,
}

#[derive(Serialize)]
struct Report {
    messages: Vec<Row>,
    idle: Vec<idle::Memory>,
    agent: Option<agent::Memory>,
}

fn main() -> ExitCode {
    // Made out here so that it is cleared after everything that works in it has ended.
    let mut site = None;
    let outcome = run(async {
        if guest::is_this() {
            return guest::serve().await;
        }
        let known = [("rounds", 5), ("seconds", 2), ("guests", 500), ("agent", 1), ("peer", 0), ("json", 0)];
        let options = Options::from_command_line(&known)?;
        let (rounds, seconds) = (options.count("rounds"), options.count("seconds"));
        let messages = messages(rounds, f64::from(u32::try_from(seconds)?), options.get("peer") > 0).await?;
        let idle = match usize::try_from(options.get("guests"))? {
            0 => Vec::new(),
            many => idle::measure(&[many.div_ceil(5), many]).await?,
        };
        print_idle(&idle)?;
        let agent = if options.get("agent") > 0 { Some(agent::measure(&mut site).await?) } else { None };
        if let Some(agent::Memory { resident, own }) = &agent {
            println!("an idle guest agent: {resident:.0} KiB resident, {own:.0} KiB of them its own");
        }
        if options.get("json") > 0 {
            println!("{}", serde_json::to_string(&Report { messages, idle, agent })?);
        }
        Ok(())
    });
    drop(site);
    outcome
}

async fn messages(rounds: usize, seconds: f64, with_peer: bool) -> Result<Vec<Row>> {
    let mut stage = Stage::set(with_peer).await?;
    let mut sides = vec![Side::Floor, Side::Ours];
    sides.extend(stage.peer.as_ref().map(|_| Side::Peer));
    let mut rows = Vec::new();
    for kind in [Kind::Call, Kind::Cast] {
        for at_once in AT_ONCE {
            let mut of: Vec<Row> =
                sides.iter().map(|side| Row { kind, at_once, side: *side, rounds: Vec::new() }).collect();
            for _ in 0..rounds {
                for row in &mut of {
                    row.rounds.push(stage.measure(row.side, kind, Load { at_once, seconds }).await?);
                }
            }
            print(&of);
            rows.extend(of);
        }
    }
    Ok(rows)
}

impl Stage {
    async fn set(with_peer: bool) -> Result<Self> {
        let broker = Broker::start()?;
        broker.serves().await?;
        let (place, login) = broker.control();
        let control = Amqp::new(place.clone(), login);
        let identity = Identity::make(&broker.management()?, &control).await?;
        let floor_key = [7; 32];
        let guest = guest::start(place, broker.uri(), &identity, floor_key).await?;
        let floor = Arc::new(Floor::control(&broker.uri(), &floor_key).await?);
        let ours = Arc::new(Control::open(&control, &identity).await?);
        let peer = match with_peer {
            true => match Peer::start(&broker.uri()).await {
                Ok(peer) => Some(peer),
                Err(error) => {
                    println!("oslo.messaging is not installed: {error}");
                    None
                }
            },
            false => None,
        };
        Ok(Self { broker, floor, ours, guest, peer })
    }

    async fn measure(&mut self, side: Side, kind: Kind, load: Load) -> Result<Cost> {
        self.work(side, kind, Load { seconds: WARM_UP, ..load }).await?;
        let broker = self.broker.processor_time().await?;
        let [control, guest] = self.usage(side).await?;
        let done = self.work(side, kind, load).await?;
        let [control_after, guest_after] = self.usage(side).await?;
        let broker_after = self.broker.processor_time().await?;
        let count = f64::from(u32::try_from(done.count)?);
        Ok(Cost {
            rate: count / done.seconds,
            p50_ms: done.p50_ms,
            p99_ms: done.p99_ms,
            control: (control_after - control) / count * 1e6,
            guest: (guest_after - guest) / count * 1e6,
            broker: (broker_after - broker) / count * 1e6,
        })
    }

    /// Sends messages and waits until all have arrived.
    async fn work(&mut self, side: Side, kind: Kind, load: Load) -> Result<Done> {
        if kind == Kind::Call {
            return self.call(side, load).await;
        }
        let (before, started) = (self.heard(side).await?, Instant::now());
        let teller = match (side, &mut self.peer) {
            (Side::Peer, Some(peer)) => &mut peer.client,
            _ => &mut self.guest,
        };
        let mut done: Done = teller.ask(&Order::Do { side, kind, load }).await?;
        while self.heard(side).await? < before + done.count {
            if started.elapsed() > ARRIVAL_LIMIT {
                return Err("not all that was told has arrived".into());
            }
            sleep(Duration::from_millis(1)).await;
        }
        done.seconds = started.elapsed().as_secs_f64();
        Ok(done)
    }

    async fn call(&mut self, side: Side, load: Load) -> Result<Done> {
        let text = Arc::new(payload());
        match (side, &mut self.peer) {
            (Side::Peer, Some(peer)) => peer.client.ask(&Order::Do { side, kind: Kind::Call, load }).await,
            (Side::Floor, _) => {
                let work = (self.floor.clone(), text);
                let call = move || {
                    let (floor, text) = work.clone();
                    async move { floor.call(&text).await }
                };
                load.run(call).await
            }
            _ => {
                let work = (self.ours.clone(), text);
                let call = move || {
                    let (ours, text) = work.clone();
                    async move { ours.call(&text).await }
                };
                load.run(call).await
            }
        }
    }

    async fn heard(&mut self, side: Side) -> Result<usize> {
        match (side, &mut self.peer) {
            (Side::Peer, Some(peer)) => peer.server.ask(&Order::Heard).await,
            (Side::Floor, _) => Ok(self.floor.heard()),
            _ => Ok(self.ours.heard()),
        }
    }

    /// The seconds that each side's process has kept a processor busy.
    async fn usage(&mut self, side: Side) -> Result<[f64; 2]> {
        match (side, &mut self.peer) {
            (Side::Peer, Some(peer)) => {
                Ok([peer.client.ask(&Order::Usage).await?, peer.server.ask(&Order::Usage).await?])
            }
            _ => {
                let guest = self.guest.ask(&Order::Usage).await?;
                Ok([processor_time(), guest])
            }
        }
    }
}

impl Cost {
    fn all(&self) -> f64 {
        self.control + self.guest + self.broker
    }

    fn ends(&self) -> f64 {
        self.control + self.guest
    }
}

impl Row {
    fn of(&self, what: impl Fn(&Cost) -> f64) -> Vec<f64> {
        self.rounds.iter().map(what).collect()
    }
}

/// What is sent.
fn payload() -> Vec<u8> {
    (0..=u8::MAX).cycle().take(PAYLOAD_BYTES).collect()
}

fn print(rows: &[Row]) {
    let Some(floor) = rows.first() else { return };
    let what = match floor.kind {
        Kind::Call => "calls",
        Kind::Cast => "reports",
    };
    let first = format!("{what}, {} at a time", floor.at_once);
    let columns =
        ["per second", "p50 ms", "p99 ms", "CPU µs: control", "guest", "broker", "all", "/ floor", "ends / floor"];
    let [a, b, c, d, e, f, g, h, i] = columns;
    let mut table = Table::new([&first, a, b, c, d, e, f, g, h, i]);
    for row in rows {
        let sample = |what: fn(&Cost) -> f64| row.of(what).into_iter().collect::<Sample>();
        let against = |what: fn(&Cost) -> f64| match row.side {
            Side::Floor => String::new(),
            _ => ratios(&row.of(what), &floor.of(what)).to_string(),
        };
        table.row([
            match row.side {
                Side::Floor => "floor".to_owned(),
                Side::Ours => "trove".to_owned(),
                Side::Peer => "oslo.messaging".to_owned(),
            },
            format!("{:.0}", sample(|cost| cost.rate)),
            format!("{:.2}", sample(|cost| cost.p50_ms).median()),
            format!("{:.2}", sample(|cost| cost.p99_ms).median()),
            format!("{:.0}", sample(|cost| cost.control).median()),
            format!("{:.0}", sample(|cost| cost.guest).median()),
            format!("{:.0}", sample(|cost| cost.broker).median()),
            format!("{:.0}", sample(Cost::all)),
            against(Cost::all),
            against(Cost::ends),
        ]);
    }
    println!("{table}");
}

fn print_idle(idle: &[idle::Memory]) -> Result<()> {
    let Some(none) = idle.first() else { return Ok(()) };
    let mut table = Table::new(["idle guests", "floor, KiB", "each", "trove, KiB", "each", "/ floor"]);
    for memory in idle {
        let guests = f64::from(u32::try_from(memory.guests)?);
        let each = |with: f64, without: f64| (with - without) / guests;
        let (floor, ours) = (each(memory.floor, none.floor), each(memory.ours, none.ours));
        let cells = if memory.guests == 0 { [f64::NAN; 3] } else { [floor, ours, ours / floor] };
        let [floor, ours, ratio] = cells.map(|cell| if cell.is_nan() { String::new() } else { format!("{cell:.1}") });
        let of = |used: f64| format!("{used:.0}");
        table.row([memory.guests.to_string(), of(memory.floor), floor, of(memory.ours), ours, ratio]);
    }
    println!("{table}");
    Ok(())
}
