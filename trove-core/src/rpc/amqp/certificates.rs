//! The certificate authorities that a connection trusts.

use std::{fmt, fs, path::Path};

#[cfg(feature = "amqp-tls")]
use std::sync::Arc;

#[cfg(feature = "amqp-tls")]
use tokio_rustls::rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::error::{Error, Kind, Result};

/// The certificate authorities that a TLS connection trusts, and no others: the server must present
/// a certificate that one of them issued for its host name.
///
/// ```no_run
/// use trove_core::rpc::{Broker, CaCertificates};
///
/// let ca = CaCertificates::read("/etc/trove/broker-ca.pem")?;
/// let broker = Broker::at("rabbit.example").with_tls(ca);
/// assert_eq!(broker.port, 5671);
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone)]
pub struct CaCertificates {
    pem: String,
    #[cfg(feature = "amqp-tls")]
    client: Arc<ClientConfig>,
}

impl CaCertificates {
    /// Reads certificates from a PEM file. Blocks on the file system.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if the file cannot be read, and the errors of
    /// [`from_pem`](Self::from_pem).
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let invalid = |what: &str| Error::invalid(format!("{what} {}", path.display()));
        let pem = fs::read_to_string(path);
        let pem = pem.map_err(|error| invalid("could not read certificates from").with_source(error))?;
        Self::from_pem(pem).map_err(|error| match error.kind() {
            Kind::Invalid => invalid("there are no usable certificates in").with_source(error),
            _ => error,
        })
    }

    /// Parses certificates in PEM format.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if the text contains no certificate or a malformed
    /// one, and [`Unsupported`](crate::error::Kind::Unsupported) if this program was built without
    /// the feature `amqp-tls`.
    pub fn from_pem(pem: impl Into<String>) -> Result<Self> {
        Self::parse(pem.into())
    }

    #[cfg(feature = "amqp-tls")]
    fn parse(pem: String) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| Error::invalid("malformed PEM").with_source(error))?;
            roots.add(certificate).map_err(|error| Error::invalid("malformed certificate").with_source(error))?;
        }
        if roots.is_empty() {
            return Err(Error::invalid("there is no certificate"));
        }
        Ok(Self { pem, client: Arc::new(client_config(roots)?) })
    }

    #[cfg(not(feature = "amqp-tls"))]
    fn parse(_pem: String) -> Result<Self> {
        Err(Error::unsupported("this program was built without TLS to the message broker (feature amqp-tls)"))
    }

    /// Returns the certificates in PEM format.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    #[cfg(feature = "amqp-tls")]
    pub(super) fn client(&self) -> &Arc<ClientConfig> {
        &self.client
    }
}

/// Returns the configuration of a client that trusts these authorities.
#[cfg(feature = "amqp-tls")]
pub(super) fn client_config(trusted: RootCertStore) -> Result<ClientConfig> {
    let versions = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::internal("could not configure TLS").with_source(error))?;
    Ok(versions.with_root_certificates(trusted).with_no_client_auth())
}

impl PartialEq for CaCertificates {
    fn eq(&self, other: &Self) -> bool {
        self.pem == other.pem
    }
}

impl Eq for CaCertificates {}

impl fmt::Debug for CaCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaCertificates").finish_non_exhaustive()
    }
}
