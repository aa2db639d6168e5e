use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
    sync::Arc,
};

use async_trait::async_trait;
use trove_core::{
    error::{Error, Result},
    id::InstanceId,
    model::Endpoint,
    platform::{EndpointRequest, Ensured, Networks},
};

use super::{LocalPlatform, LocalState};
use crate::{
    container::{blocking, failed},
    hash::spread,
};

/// The name of a reservation that is being written, in the directory of endpoints.
pub(super) const DRAFT: &str = "draft";

/// The loopback addresses of private instances: 127.64.0.0/10.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 0);
const ADDRESSES: u32 = 1 << 22;
/// How many of them are tried for an instance.
const MAX_TRIES: usize = 64;

/// The addresses that this process has claimed among all platforms on the machine.
///
/// An address stays unbound until its server runs, so two platforms would otherwise choose the same one. A claim is an
/// abstract Unix socket: it exists in the network namespace of the address, and ends with the process.
#[derive(Debug, Default)]
pub(super) struct Claims(HashMap<SocketAddrV4, UnixListener>);

impl Claims {
    /// Claims an address; false if another platform on this machine has claimed it.
    fn claim(&mut self, address: SocketAddrV4) -> Result<bool> {
        let name = SocketAddr::from_abstract_name(format!("trove-endpoint-{address}"));
        match name.and_then(|name| UnixListener::bind_addr(&name)) {
            Ok(claim) => {
                self.0.insert(address, claim);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(self.0.contains_key(&address)),
            Err(error) => {
                Err(Error::unavailable("could not claim an address").with("address", address).with_source(error))
            }
        }
    }

    fn release(&mut self, address: SocketAddrV4) {
        self.0.remove(&address);
    }
}

/// Endpoints are addresses of this machine. A file for each one names its instance, so that an
/// endpoint survives restarts and belongs to one instance only.
#[async_trait]
impl Networks for LocalPlatform {
    /// A private instance has a loopback address of its own and the port of its engine. If that port
    /// is taken on all addresses, it has 127.0.0.1 and a port of the
    /// [range](super::LocalPlatformBuilder::ports). A public instance has a port of the range on all
    /// addresses of this machine, and its endpoint has the address from which this machine reaches
    /// others.
    async fn ensure_endpoint(&self, instance: InstanceId, request: EndpointRequest) -> Result<Ensured<Endpoint>> {
        let local = Arc::clone(&self.0);
        blocking(move || {
            let reserved = {
                let mut claims = local.claims.lock();
                local.firewall.ensure()?;
                local.reserve(&mut claims, instance, request)?
            };
            let host = match (reserved.ip().is_unspecified(), request.public) {
                (false, _) => IpAddr::V4(*reserved.ip()),
                (true, true) => own_address(),
                (true, false) => Ipv4Addr::LOCALHOST.into(),
            };
            Ok(Ensured::Ready(Endpoint { host: host.to_string(), port: reserved.port() }))
        })
        .await
    }

    async fn release_endpoint(&self, instance: InstanceId) -> Result<()> {
        let local = Arc::clone(&self.0);
        if blocking(move || local.release(instance)).await? {
            self.0.docker.remove_network(&self.0.network()).await?;
            let local = Arc::clone(&self.0);
            blocking(move || local.remove_unused_firewall()).await?;
        }
        Ok(())
    }
}

impl LocalState {
    /// Returns the address of an instance, reserved if it has none. The address 0.0.0.0 stands for a
    /// port that is reserved on all addresses.
    fn reserve(&self, claims: &mut Claims, instance: InstanceId, request: EndpointRequest) -> Result<SocketAddrV4> {
        let (reserved, id) = (reservations(&self.endpoints())?, instance.to_string());
        if let Some((address, _)) = reserved.iter().find(|(_, owner)| *owner == id) {
            return Ok(*address);
        }
        let own_addresses = if request.public { 0 } else { MAX_TRIES };
        let candidates = loopback_addresses(&id).take(own_addresses).map(|ip| (ip, request.port));
        for (ip, port) in candidates.chain(self.ports_from(&id).map(|port| (Ipv4Addr::UNSPECIFIED, port))) {
            let address = SocketAddrV4::new(ip, port);
            if reserved.iter().any(|(other, _)| overlap(other, &address)) || !claims.claim(address)? {
                continue;
            }
            let bound = if ip.is_unspecified() && !request.public { Ipv4Addr::LOCALHOST } else { ip };
            if TcpListener::bind((bound, port)).is_ok() && self.write_reservation(address, &id)? {
                return Ok(address);
            }
            claims.release(address);
        }
        let (first, last) = (self.ports.start(), self.ports.end());
        Err(Error::no_space(format!("all ports from {first} to {last} of this machine are in use")))
    }

    /// Returns the ports of the range, beginning at one that depends on the id.
    fn ports_from(&self, id: &str) -> impl Iterator<Item = u16> + use<> {
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let count = last - first + 1;
        let begin = spread(id.as_bytes(), count);
        (0..count).filter_map(move |step| u16::try_from(first + (begin + step) % count).ok())
    }

    /// Returns true if this endpoint belongs to the instance.
    pub(super) fn has_endpoint(&self, instance: InstanceId, endpoint: &Endpoint) -> Result<bool> {
        let id = instance.to_string();
        let matches = |address: &SocketAddrV4| {
            address.port() == endpoint.port
                && (address.ip().is_unspecified() || address.ip().to_string() == endpoint.host)
        };
        Ok(reservations(&self.endpoints())?.iter().any(|(address, owner)| *owner == id && matches(address)))
    }

    /// Releases the instance's address; returns true if no address is left in use.
    fn release(&self, instance: InstanceId) -> Result<bool> {
        let mut claims = self.claims.lock();
        let (id, mut others) = (instance.to_string(), 0);
        for (address, owner) in reservations(&self.endpoints())? {
            if owner != id {
                others += 1;
                continue;
            }
            let path = self.endpoints().join(address.to_string());
            fs::remove_file(&path).map_err(|error| failed("release an address", &path, error))?;
            claims.release(address);
        }
        Ok(others == 0)
    }

    /// Removes the packet filter, unless an address was reserved in the meantime.
    fn remove_unused_firewall(&self) -> Result<()> {
        let _lock = self.claims.lock();
        if reservations(&self.endpoints())?.is_empty() { self.firewall.remove() } else { Ok(()) }
    }

    /// Claims the addresses that were reserved before this process started.
    pub(super) fn claim_reserved(&self) -> Result<()> {
        let mut claims = self.claims.lock();
        for (address, instance) in reservations(&self.endpoints())? {
            if !claims.claim(address)? {
                // The reservation stands. The server of one of the two instances cannot start.
                tracing::warn!(%address, instance, "another platform on this machine has reserved the same address");
            }
        }
        Ok(())
    }

    /// Writes the reservation to a draft and links it into place, so that it is complete or absent.
    fn write_reservation(&self, address: SocketAddrV4, id: &str) -> Result<bool> {
        let directory = self.endpoints();
        let (draft, path) = (directory.join(DRAFT), directory.join(address.to_string()));
        let done = || -> io::Result<bool> {
            // A leftover draft may be a link to an existing reservation, which writing to it would change.
            remove_draft(&directory)?;
            let mut file = File::create_new(&draft)?;
            file.write_all(id.as_bytes())?;
            file.sync_all()?;
            let linked = fs::hard_link(&draft, &path);
            remove_draft(&directory)?;
            match linked {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
                linked => linked?,
            }
            sync(&directory).map(|()| true)
        };
        done().map_err(|error| failed("reserve an address", &path, error))
    }
}

/// Returns the reserved addresses in a directory, and their owners.
pub(super) fn reservations(directory: &Path) -> Result<Vec<(SocketAddrV4, String)>> {
    let read = || -> io::Result<Vec<(SocketAddrV4, String)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if let Some(address) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push((address, fs::read_to_string(entry.path())?));
            }
        }
        Ok(found)
    };
    read().map_err(|error| failed("read the reserved addresses", directory, error))
}

/// Returns true if not both addresses can be bound.
fn overlap(one: &SocketAddrV4, other: &SocketAddrV4) -> bool {
    let any = one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && (any || one.ip() == other.ip())
}

/// Returns loopback addresses for private instances, beginning at one that depends on the id.
fn loopback_addresses(id: &str) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let begin = spread(id.as_bytes(), ADDRESSES);
    (0..ADDRESSES).map(move |step| Ipv4Addr::from(FIRST_ADDRESS.to_bits() + (begin + step) % ADDRESSES))
}

/// Removes the draft of a killed process.
pub(super) fn remove_draft(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(DRAFT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Returns the address of this machine towards others, or loopback. Sends nothing.
fn own_address() -> IpAddr {
    let towards = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // An address reserved for documentation: only the route matters.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    towards().unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use tempfile::TempDir;
    use trove_core::error::Kind;

    use super::*;
    use crate::local::firewall::Firewall;

    const PUBLIC: EndpointRequest = EndpointRequest { public: true, port: 5432 };

    /// The directory of a platform. Its packet filter is removed with it.
    struct Directory(TempDir);

    impl Directory {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn connect(&self, ports: std::ops::RangeInclusive<u16>) -> LocalPlatform {
            LocalPlatform::builder(self.0.path()).ports(ports).connect().unwrap()
        }

        fn endpoints(&self) -> std::path::PathBuf {
            self.0.path().join("endpoints")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let scope = crate::hash::short_hash(self.0.path().canonicalize().unwrap().as_os_str().as_encoded_bytes());
            drop(Firewall::open(&super::super::network_name(&scope), self.0.path(), false).unwrap());
        }
    }

    impl LocalPlatform {
        fn reserve(&self, instance: InstanceId, request: EndpointRequest) -> Result<SocketAddrV4> {
            self.0.reserve(&mut self.0.claims.lock(), instance, request)
        }

        fn port(&self, instance: InstanceId) -> Result<u16> {
            self.reserve(instance, PUBLIC).map(|address| address.port())
        }
    }

    /// The first of consecutive ports that nothing uses, so that tests at the same time do not disturb each other.
    fn free_ports(count: u16) -> u16 {
        let is_free = |port: u16| {
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            TcpListener::bind(address).is_ok() && Claims::default().claim(address).unwrap()
        };
        static CALLS: AtomicU16 = AtomicU16::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let offset = (std::process::id() % 400) as u16 * 10 + call * 1_000;
        let candidates = (0..400).map(|step| 15_000 + (offset + step * 10) % 4_000);
        candidates.into_iter().find(|first| (*first..*first + count).all(is_free)).unwrap()
    }

    #[test]
    fn two_platforms_on_a_machine_never_choose_the_same_port() {
        let (first, directories) = (free_ports(2), [Directory::new(), Directory::new()]);
        let connect = |directory: &Directory| directory.connect(first..=first + 1);
        let [one, other] = directories.each_ref().map(connect);
        let (id, another) = (InstanceId::new_v4(), InstanceId::new_v4());
        let port = one.port(id).unwrap();
        assert_ne!(other.port(another).unwrap(), port);
        assert_eq!(other.port(InstanceId::new_v4()).unwrap_err().kind(), Kind::NoSpace);
        // A reservation is claimed again by the next process, and until it is released.
        drop(one);
        let one = connect(&directories[0]);
        assert_eq!(other.port(InstanceId::new_v4()).unwrap_err().kind(), Kind::NoSpace);
        one.0.release(id).unwrap();
        assert_eq!(other.port(InstanceId::new_v4()).unwrap(), port);
    }

    #[test]
    fn ports_are_persistent_distinct_and_released() {
        let (first, directory) = (free_ports(4), Directory::new());
        let connect = || directory.connect(first..=first + 3);
        let local = connect();
        let busy = TcpListener::bind((Ipv4Addr::UNSPECIFIED, first + 1)).unwrap();
        let ids: Vec<_> = (0..3).map(|_| InstanceId::new_v4()).collect();
        let mut ports: Vec<_> = ids.iter().map(|id| local.port(*id).unwrap()).collect();
        assert_eq!(local.port(InstanceId::new_v4()).unwrap_err().kind(), Kind::NoSpace);
        drop((local, busy));
        let local = connect();
        let again: Vec<_> = ids.iter().map(|id| local.port(*id).unwrap()).collect();
        assert_eq!(ports, again);
        ports.sort_unstable();
        assert_eq!(ports, [first, first + 2, first + 3]);
        assert!(!local.0.release(ids[0]).unwrap() && !local.0.release(ids[0]).unwrap());
        assert!(!local.0.release(ids[1]).unwrap() && local.0.release(ids[2]).unwrap());
        assert_eq!(fs::read_dir(directory.endpoints()).unwrap().count(), 0);
    }

    #[test]
    fn private_instances_have_loopback_addresses_with_the_port_of_the_engine() {
        let (directories, range) = ([Directory::new(), Directory::new()], free_ports(2));
        let [local, other] = directories.each_ref().map(|directory| directory.connect(range..=range + 1));
        let (id, request) = (InstanceId::new_v4(), EndpointRequest { public: false, port: free_ports(1) });
        let address = local.reserve(id, request).unwrap();
        assert_eq!((address.port(), address.ip().octets()[0]), (request.port, 127));
        assert_eq!(local.reserve(id, request).unwrap(), address);
        // The other platform begins with the same address.
        let elsewhere = other.reserve(id, request).unwrap();
        assert_eq!((elsewhere.port(), elsewhere.ip() == address.ip()), (request.port, false));
        // A program that listens on all addresses leaves ports of the range only.
        let busy = TcpListener::bind((Ipv4Addr::UNSPECIFIED, request.port)).unwrap();
        let fallback = local.reserve(InstanceId::new_v4(), request).unwrap();
        assert_eq!((*fallback.ip(), fallback.port() - range < 2), (Ipv4Addr::UNSPECIFIED, true));
        drop(busy);
        assert!(!local.0.release(id).unwrap());
        assert_eq!(local.reserve(id, request).unwrap(), address);
    }

    #[test]
    fn interrupted_reservations_do_not_affect_others() {
        let (first_port, directory) = (free_ports(6), Directory::new());
        let connect = || directory.connect(first_port..=first_port + 5);
        let (local, first, second) = (connect(), InstanceId::new_v4(), InstanceId::new_v4());
        let address = local.reserve(first, PUBLIC).unwrap();
        let (endpoints, draft) = (directory.endpoints(), directory.endpoints().join(DRAFT));
        // Killed after the reservation was linked and before the draft was removed.
        let half_done = || fs::hard_link(endpoints.join(address.to_string()), &draft).unwrap();
        half_done();
        let names = super::super::inventory::names(&endpoints, "endpoint").unwrap();
        assert_eq!(names, [format!("endpoint {address}")]);
        assert_ne!(local.reserve(second, PUBLIC).unwrap(), address);
        assert_eq!(local.reserve(first, PUBLIC).unwrap(), address);
        assert!(!draft.exists());
        half_done();
        drop(local);
        let local = connect();
        assert!(!draft.exists());
        assert_eq!(local.reserve(first, PUBLIC).unwrap(), address);
    }
}
