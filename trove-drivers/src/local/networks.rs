use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
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
    platform::{Ensured, Networks},
};

use super::{LocalPlatform, LocalState};
use crate::{
    container::{blocking, failed},
    hash::spread,
};

/// The name of a port reservation that is being written, in the directory of ports.
pub(super) const DRAFT: &str = "draft";

/// The ports that this process has claimed among all platforms on the machine.
///
/// A port stays unbound until its server runs, so two platforms would otherwise choose the same one. A claim is an
/// abstract Unix socket: it exists in the network namespace of the port, and ends with the process.
#[derive(Debug, Default)]
pub(super) struct PortClaims(HashMap<u16, UnixListener>);

impl PortClaims {
    /// Claims a port; false if another platform on this machine has claimed it.
    fn claim(&mut self, port: u16) -> Result<bool> {
        let address = SocketAddr::from_abstract_name(format!("trove-port-{port}"));
        match address.and_then(|address| UnixListener::bind_addr(&address)) {
            Ok(claim) => {
                self.0.insert(port, claim);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(self.0.contains_key(&port)),
            Err(error) => Err(Error::unavailable("could not claim a port").with("port", port).with_source(error)),
        }
    }

    fn release(&mut self, port: u16) {
        self.0.remove(&port);
    }
}

/// Endpoints are ports of this machine. A file for each port names its instance, so that a port
/// survives restarts and belongs to one instance only.
#[async_trait]
impl Networks for LocalPlatform {
    /// A private instance is reached at 127.0.0.1. A public one listens on all addresses of this
    /// machine, and its endpoint has the address from which this machine reaches others.
    async fn ensure_endpoint(&self, instance: InstanceId, public: bool) -> Result<Ensured<Endpoint>> {
        let local = Arc::clone(&self.0);
        blocking(move || {
            let port = local.ensure_port(instance, public)?;
            let host = if public { own_address() } else { Ipv4Addr::LOCALHOST.into() };
            Ok(Ensured::Ready(Endpoint { host: host.to_string(), port }))
        })
        .await
    }

    async fn release_endpoint(&self, instance: InstanceId) -> Result<()> {
        let local = Arc::clone(&self.0);
        let last = blocking(move || local.release_port(instance)).await?;
        if last { self.0.docker.remove_network(&self.0.network()).await } else { Ok(()) }
    }
}

impl LocalState {
    fn ensure_port(&self, instance: InstanceId, public: bool) -> Result<u16> {
        let mut claims = self.port_claims.lock();
        let taken = self.reservations()?;
        let id = instance.to_string();
        if let Some((port, _)) = taken.iter().find(|(_, owner)| *owner == id) {
            return Ok(*port);
        }
        let (first, last) = (u32::from(*self.ports.start()), u32::from(*self.ports.end()));
        let count = last - first + 1;
        let begin = spread(id.as_bytes(), count);
        let candidates = (0..count).filter_map(|step| u16::try_from(first + (begin + step) % count).ok());
        for port in candidates {
            if taken.iter().any(|(other, _)| *other == port) || !claims.claim(port)? {
                continue;
            }
            if is_free(port, public) && self.reserve(port, &id)? {
                return Ok(port);
            }
            claims.release(port);
        }
        let why = format!("all ports from {first} to {last} of this machine are in use");
        Err(Error::no_space(why))
    }

    /// Returns true if this port belongs to the instance.
    pub(super) fn has_port(&self, instance: InstanceId, port: u16) -> Result<bool> {
        let path = self.ports_directory().join(port.to_string());
        match fs::read_to_string(&path) {
            Ok(owner) => Ok(owner == instance.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("read the owner of a port", &path, error)),
        }
    }

    /// Releases the instance's port; returns true if no port is left in use.
    fn release_port(&self, instance: InstanceId) -> Result<bool> {
        let mut claims = self.port_claims.lock();
        let (id, mut others) = (instance.to_string(), 0);
        for (port, owner) in self.reservations()? {
            if owner != id {
                others += 1;
                continue;
            }
            let path = self.ports_directory().join(port.to_string());
            fs::remove_file(&path).map_err(|error| failed("release a port", &path, error))?;
            claims.release(port);
        }
        Ok(others == 0)
    }

    /// Claims the ports that were reserved before this process started.
    pub(super) fn claim_reserved_ports(&self) -> Result<()> {
        let mut claims = self.port_claims.lock();
        for (port, instance) in self.reservations()? {
            if !claims.claim(port)? {
                // The reservation stands. The server of one of the two instances cannot start.
                tracing::warn!(port, instance, "another platform on this machine has given out the same port");
            }
        }
        Ok(())
    }

    /// Returns all reserved ports and their owners.
    fn reservations(&self) -> Result<Vec<(u16, String)>> {
        let directory = self.ports_directory();
        let read = || -> io::Result<Vec<(u16, String)>> {
            let mut found = Vec::new();
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                if let Some(port) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                    found.push((port, fs::read_to_string(entry.path())?));
                }
            }
            Ok(found)
        };
        read().map_err(|error| failed("read the reserved ports", &directory, error))
    }

    /// Writes the reservation to a draft and links it into place, so that it is complete or absent.
    fn reserve(&self, port: u16, id: &str) -> Result<bool> {
        let directory = self.ports_directory();
        let (draft, path) = (directory.join(DRAFT), directory.join(port.to_string()));
        let done = || -> io::Result<bool> {
            // A leftover draft may be a link to an existing reservation, which writing to it would
            // change.
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
        done().map_err(|error| failed("reserve a port", &path, error))
    }
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

fn is_free(port: u16, public: bool) -> bool {
    let address = if public { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
    TcpListener::bind((address, port)).is_ok()
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

    use trove_core::error::Kind;

    use super::*;

    /// The first of consecutive ports that nothing uses, so that tests at the same time do not disturb each other.
    fn free_ports(count: u16) -> u16 {
        let all_free = |first: &u16| {
            let mut claims = PortClaims::default();
            (*first..*first + count).all(|port| is_free(port, true) && claims.claim(port).unwrap())
        };
        static CALLS: AtomicU16 = AtomicU16::new(0);
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let offset = (std::process::id() % 400) as u16 * 10 + call * 1_000;
        (0..400).map(|step| 15_000 + (offset + step * 10) % 4_000).find(all_free).unwrap()
    }

    #[test]
    fn two_platforms_on_a_machine_never_choose_the_same_port() {
        let directory = tempfile::tempdir().unwrap();
        let first = free_ports(2);
        let connect = |name| LocalPlatform::builder(directory.path().join(name)).ports(first..=first + 1).connect();
        let (one, other) = (connect("one").unwrap(), connect("other").unwrap());
        let (id, another) = (InstanceId::new_v4(), InstanceId::new_v4());
        let port = one.0.ensure_port(id, false).unwrap();
        assert_ne!(other.0.ensure_port(another, false).unwrap(), port);
        assert_eq!(other.0.ensure_port(InstanceId::new_v4(), false).unwrap_err().kind(), Kind::NoSpace);
        // A reservation is claimed again by the next process, and until it is released.
        drop(one);
        let one = connect("one").unwrap();
        assert_eq!(other.0.ensure_port(InstanceId::new_v4(), false).unwrap_err().kind(), Kind::NoSpace);
        one.0.release_port(id).unwrap();
        assert_eq!(other.0.ensure_port(InstanceId::new_v4(), false).unwrap(), port);
    }

    #[test]
    fn ports_are_persistent_distinct_and_released() {
        let directory = tempfile::tempdir().unwrap();
        let first = free_ports(4);
        let connect = || LocalPlatform::builder(directory.path()).ports(first..=first + 3).connect().unwrap();
        let local = connect();
        let busy = TcpListener::bind(("127.0.0.1", first + 1)).unwrap();
        let ids: Vec<_> = (0..3).map(|_| InstanceId::new_v4()).collect();
        let mut ports: Vec<_> = ids.iter().map(|id| local.0.ensure_port(*id, false).unwrap()).collect();
        assert_eq!(local.0.ensure_port(InstanceId::new_v4(), false).unwrap_err().kind(), Kind::NoSpace);
        drop((local, busy));
        let local = connect();
        let again: Vec<_> = ids.iter().map(|id| local.0.ensure_port(*id, false).unwrap()).collect();
        assert_eq!(ports, again);
        ports.sort_unstable();
        assert_eq!(ports, [first, first + 2, first + 3]);
        assert!(!local.0.release_port(ids[0]).unwrap() && !local.0.release_port(ids[0]).unwrap());
        assert!(!local.0.release_port(ids[1]).unwrap() && local.0.release_port(ids[2]).unwrap());
        assert_eq!(fs::read_dir(directory.path().join("ports")).unwrap().count(), 0);
    }

    #[test]
    fn interrupted_port_reservations_do_not_affect_others() {
        let directory = tempfile::tempdir().unwrap();
        let first_port = free_ports(6);
        let ports = first_port..=first_port + 5;
        let connect = || LocalPlatform::builder(directory.path()).ports(ports.clone()).connect().unwrap();
        let (local, first, second) = (connect(), InstanceId::new_v4(), InstanceId::new_v4());
        let port = local.0.ensure_port(first, false).unwrap();
        let draft = directory.path().join("ports/draft");
        // Killed after the reservation was linked and before the draft was removed.
        let half_done = || fs::hard_link(directory.path().join(format!("ports/{port}")), &draft).unwrap();
        half_done();
        let names = super::super::inventory::names(&directory.path().join("ports"), "port").unwrap();
        assert_eq!(names, [format!("port {port}")]);
        assert_ne!(local.0.ensure_port(second, false).unwrap(), port);
        assert_eq!(local.0.ensure_port(first, false).unwrap(), port);
        assert!(!draft.exists());
        half_done();
        drop(local);
        let local = connect();
        assert!(!draft.exists());
        assert_eq!(local.0.ensure_port(first, false).unwrap(), port);
    }
}
