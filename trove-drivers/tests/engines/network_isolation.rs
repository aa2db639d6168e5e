//! The packet filter of the local platform, from the network namespace of a neighbor on the host's
//! network segment. Only root can make one.

use std::{
    fs,
    net::Ipv4Addr,
    process::{Child, Command},
    thread,
    time::Duration,
};

use bollard::models::{ContainerInspectResponse, EndpointSettings};
use tokio::task::spawn_blocking;
use trove_core::{
    Trove,
    control::NewInstance,
    model::{Flavor, mib},
};
use trove_drivers::LocalPlatform;

use crate::common::{ScopeCleanup, docker_client, nft, postgresql, postgresql_driver};

/// A port on which nothing listens.
const CLOSED: u16 = 1;
/// The exit code of `timeout` when time is up.
const TIMED_OUT: i32 = 124;

/// A process in a network namespace that a veth pair connects to this host. The namespace ends with
/// the process.
struct Neighbor {
    process: Child,
    /// The addresses of this host and of the neighbor on the segment.
    host: Ipv4Addr,
    own: Ipv4Addr,
}

impl Neighbor {
    fn new() -> Self {
        // A network of the range for benchmarks, which depends on this process.
        let network = Ipv4Addr::new(198, 18, 0, 0).to_bits() + (std::process::id() % (1 << 15)) * 4;
        let [host, own] = [1, 2].map(|number| Ipv4Addr::from_bits(network + number));
        let process = Command::new("unshare").args(["--net", "sleep", "infinity"]).spawn().unwrap();
        let neighbor = Self { process, host, own };
        let (pid, link) = (neighbor.process.id(), format!("trove{}", std::process::id()));
        while namespace(&pid.to_string()) == namespace("self") {
            thread::sleep(Duration::from_millis(1));
        }
        run(&[], &format!("ip link add {link} type veth peer name eth0 netns {pid}"));
        run(&[], &format!("ip address add {host}/30 dev {link}"));
        run(&[], &format!("ip link set {link} up"));
        let inside = neighbor.inside();
        run(&inside, &format!("ip address add {own}/30 dev eth0"));
        run(&inside, "ip link set eth0 up");
        run(&inside, &format!("ip route add default via {host}"));
        // Its packets may have loopback addresses of the host as their destination.
        run(&inside, "sysctl --quiet --write net.ipv4.conf.all.route_localnet=1");
        neighbor
    }

    /// Returns the beginning of a command in the namespace.
    fn inside(&self) -> Vec<String> {
        inside(&self.process.id().to_string())
    }
}

impl Drop for Neighbor {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn namespace(pid: &str) -> Option<std::path::PathBuf> {
    fs::read_link(format!("/proc/{pid}/ns/net")).ok()
}

/// Returns the beginning of a command in the network namespace of a process.
fn inside(pid: &str) -> Vec<String> {
    ["nsenter", "--net", "--target", pid].map(str::to_owned).into()
}

fn run(beginning: &[String], command: &str) {
    let mut words = beginning.iter().map(String::as_str).chain(command.split(' '));
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A connection that someone tries to open.
struct Attempt {
    what: &'static str,
    /// The beginning of a command in the namespace that it comes from.
    from: Vec<String>,
    to: (Ipv4Addr, u16),
}

impl Attempt {
    /// Returns the exit code: 0 if the connection is accepted, [`TIMED_OUT`] if nothing answers, and
    /// another one if the target refuses the connection.
    async fn exit_code(&self, seconds: &'static str) -> i32 {
        let (mut words, (address, port)) = (self.from.clone(), self.to);
        words.extend(["timeout", seconds, "bash", "-c"].map(str::to_owned));
        words.push(format!("exec 3<>/dev/tcp/{address}/{port}"));
        let run = move || Command::new(&words[0]).args(&words[1..]).output().unwrap().status.code();
        spawn_blocking(run).await.unwrap().unwrap()
    }
}

async fn inspect(instance: &str) -> (ContainerInspectResponse, EndpointSettings) {
    let found = docker_client().await.inspect_container(&format!("trove-{instance}"), None).await.unwrap();
    let networks = found.network_settings.clone().unwrap().networks.unwrap();
    (found, networks.into_values().next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_by_their_published_ports_only_and_initiate_no_connections() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let start = async || {
        let local = LocalPlatform::connect(directory.path().join("platform")).unwrap();
        let store = format!("sqlite:{}", directory.path().join("trove.db").display());
        let service = Trove::builder().store(store).platform(local.clone()).datastore(postgresql_driver());
        (service.flavor(Flavor::new("tiny", mib(256), 1)).start().await.unwrap(), local)
    };
    let (trove, local) = start().await;
    let (table, _cleanup) = (format!("trove-{}", local.scope()), ScopeCleanup { scope: local.scope().to_owned() });
    let new = |name| NewInstance::new(name, "postgresql").database("app").user("app", "secret");
    let create = async |new| trove.create(new).await.unwrap().active().await.unwrap();
    let (public, private) = tokio::join!(create(new("public").public()), create(new("private")));
    let ids = [public.id, private.id];
    let [public, private] = [public, private].map(|instance| instance.endpoint.clone().unwrap());

    let neighbor = Neighbor::new();
    let (container, network) = inspect(&ids[0].to_string()).await;
    let [server, gateway] = [network.ip_address, network.gateway].map(|address| address.unwrap().parse().unwrap());
    let server_side = inside(&container.state.unwrap().pid.unwrap().to_string());
    let published = Attempt { what: "a published port", from: neighbor.inside(), to: (neighbor.host, public.port) };
    let loopback = (private.host.parse().unwrap(), private.port);
    let forbidden = [
        Attempt { what: "the server by its route", from: neighbor.inside(), to: (server, 5432) },
        Attempt { what: "a private published port", from: neighbor.inside(), to: loopback },
        Attempt { what: "a service of this host", from: server_side.clone(), to: (gateway, CLOSED) },
        Attempt { what: "another host", from: server_side, to: (neighbor.own, CLOSED) },
    ];
    let assert_isolated = async || {
        assert_eq!(published.exit_code("120").await, 0, "{} is not reached", published.what);
        for attempt in &forbidden {
            assert_eq!(attempt.exit_code("2").await, TIMED_OUT, "{} answers", attempt.what);
        }
        for endpoint in [&public, &private] {
            postgresql::login(endpoint, "app", "secret", "app").await.unwrap();
        }
    };
    assert_isolated().await;

    // A start restores the filter. Without it, everything answers, unless the engine protects servers.
    trove.shut_down().await;
    drop(trove);
    assert!(nft(&format!("delete table inet {table}")).is_some());
    for attempt in &forbidden[2..] {
        assert_ne!(attempt.exit_code("120").await, TIMED_OUT, "{} does not answer without the filter", attempt.what);
    }
    if engine_version().await < 28 {
        for attempt in &forbidden[..2] {
            assert_eq!(attempt.exit_code("120").await, 0, "{} is not reached without the filter", attempt.what);
        }
    }
    drop(local);
    let (trove, local) = start().await;
    assert_isolated().await;
    for id in ids {
        trove.instance(id).await.unwrap().delete().await.unwrap().wait().await.unwrap();
    }
    assert_eq!(local.inventory().await.unwrap(), Vec::<String>::new());
    assert_eq!(nft(&format!("list table inet {table}")), None);
    trove.shut_down().await;
}

/// Returns the major version of the Docker Engine.
async fn engine_version() -> u32 {
    let version = docker_client().await.version().await.unwrap().version.unwrap();
    version.split('.').next().unwrap().parse().unwrap()
}
