//! Connections with TLS, and what listeners learn that are not the broker.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};
use trove_core::{
    Trove,
    control::NewInstance,
    error::{Error, Kind},
    id::InstanceId,
    rpc::{Address, Amqp, Broker, BrokerLogin, CaCertificates, Management, RabbitMq, Transport},
};

use crate::{
    broker::{MANAGEMENT_TLS_PORT, RabbitMqContainer, TLS_PORT},
    certificates::{Authority, Certificate},
    logs,
    proxy::Proxy,
    remote_agent::{RemoteAgents, users},
};

/// Bounds how long a broken test hangs.
const TIMEOUT: Duration = Duration::from_secs(300);

fn broker(port: u16, trusted: &CaCertificates) -> Broker {
    Broker { port, ..Broker::at("localhost").with_tls(trusted.clone()) }
}

/// The control plane and remote agents call each other over TLS, and reach the broker by addresses
/// of their own.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_and_its_guests_use_tls() {
    let (container, agents) = (RabbitMqContainer::shared().await, RemoteAgents::new());
    let trusted = CaCertificates::from_pem(container.authority()).unwrap();
    let [control, guests] = [Proxy::to(container.host(), TLS_PORT).await, Proxy::to(container.host(), TLS_PORT).await];
    let connected = futures_util::future::join(control.connected(), guests.connected());
    let management = Proxy::to(container.host(), MANAGEMENT_TLS_PORT).await;
    let url = format!("https://localhost:{}", management.port);
    let message_broker = RabbitMq::new(
        broker(control.port, &trusted),
        container.control_login(),
        Management::with_tls(&url, &trusted, "/", container.control_login()).unwrap(),
    );
    let message_broker = message_broker.guest_broker(broker(guests.port, &trusted));
    let service = Trove::builder()
        .message_broker(message_broker)
        .store("sqlite::memory:")
        .platform(agents.platform())
        .datastore(agents.world.driver());
    let trove = service.start().await.unwrap();
    let new = NewInstance::new("orders", "memory").database("app").user("app", "secret");
    let instance = trove.create(new).await.unwrap().active().await.unwrap();
    assert_eq!(users(&instance).await, 1);

    // Each side uses the address that it was told.
    timeout(TIMEOUT, connected).await.unwrap();
    instance.delete().await.unwrap().wait().await.unwrap();
    trove.shut_down().await;
}

/// Returns what a listener received from a transport that tried to send it a frame, and the error.
async fn learned(
    listener: impl AsyncFnOnce(TcpStream) -> Vec<u8>,
    host: &str,
    trusted: &CaCertificates,
) -> (Vec<u8>, Error) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let login = BrokerLogin::new("guest.user", "the password");
    let transport = Amqp::new(Broker { port, ..Broker::at(host).with_tls(trusted.clone()) }, login);
    let listening = async { listener(socket.accept().await.unwrap().0).await };
    let sending = async {
        let address = Address::control(InstanceId::new_v4());
        transport.send(&address, b"a frame".to_vec()).await.unwrap_err()
    };
    timeout(TIMEOUT, async { tokio::join!(listening, sending) }).await.unwrap()
}

/// Accepts a TLS connection and returns what arrives through it.
async fn accept_tls(stream: TcpStream, certificate: &Certificate) -> Vec<u8> {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).unwrap(),
        );
    let mut received = Vec::new();
    if let Ok(stream) = TlsAcceptor::from(Arc::new(config.unwrap())).accept(stream).await {
        let _ = stream.take(8).read_to_end(&mut received).await;
    }
    received
}

/// Returns what a listener with this certificate received, and the error of the transport.
async fn learned_with(certificate: &Certificate, host: &str, trusted: &CaCertificates) -> (Vec<u8>, Error) {
    loop {
        let (received, error) = learned(async |stream| accept_tls(stream, certificate).await, host, trusted).await;
        // On a busy machine, a handshake may take longer than the transport waits.
        if !["elapsed", "in time"].iter().any(|timeout| error.report().contains(timeout)) {
            return (received, error);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_without_the_certificate_of_the_broker_learns_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let trusted = CaCertificates::from_pem(authority.pem.as_str()).unwrap();

    // One that never answers receives the beginning of a handshake.
    let silent = async |mut stream: TcpStream| {
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        received
    };
    let (received, error) = learned(silent, "localhost", &trusted).await;
    assert_eq!(error.kind(), Kind::Unavailable);
    // A handshake record with a client hello, and nothing after it.
    assert_eq!((received[0], received[5]), (22, 1), "{received:?}");
    assert_eq!(received.len(), 5 + usize::from(u16::from_be_bytes([received[3], received[4]])));
    for secret in ["AMQP", "guest", "password"] {
        assert!(!String::from_utf8_lossy(&received).contains(secret), "{secret} was sent");
    }

    for (certificate, host, reason) in [
        (other.issue("localhost"), "localhost", "UnknownIssuer"),
        (authority.issue("rabbit.example"), "localhost", "not valid for name"),
        (authority.issue("localhost"), "127.0.0.1", "not valid for name"),
    ] {
        let (received, error) = learned_with(&certificate, host, &trusted).await;
        assert_eq!(received, b"", "{reason}");
        assert!(error.report().contains(reason), "{}", error.report());
    }
    // The same listener with the right certificate receives the beginning of the protocol.
    let certificate = authority.issue("localhost");
    assert_eq!(learned_with(&certificate, "localhost", &trusted).await.0, b"AMQP\0\0\x09\x01");
}

#[tokio::test]
async fn certificates_are_checked_when_they_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    let error = CaCertificates::read(&file).unwrap_err();
    assert!(error.kind() == Kind::Invalid && error.to_string().contains("ca.pem"), "{error}");
    let pem = Authority::new().pem;
    for wrong in ["", "certificate", &pem.replace("MII", "AAA"), &pem[..pem.len() / 2]] {
        std::fs::write(&file, wrong).unwrap();
        assert_eq!(CaCertificates::read(&file).unwrap_err().kind(), Kind::Invalid, "{wrong}");
    }
    std::fs::write(&file, &pem).unwrap();
    assert_eq!(CaCertificates::read(&file).unwrap().pem(), pem);
}

#[tokio::test]
async fn a_start_without_tls_logs_a_warning() {
    logs::capture();
    let container = RabbitMqContainer::shared().await;
    let trove = Trove::builder().message_broker(container.clone().shared_handle()).store("sqlite::memory:");
    let world = trove_core::conformance::memory::World::new();
    trove.platform(world.platform()).datastore(world.driver()).start().await.unwrap().shut_down().await;
    assert!(logs::contains("the connection to the message broker is not encrypted"));
    assert!(logs::contains("requests to the RabbitMQ management API are not encrypted"));
}
