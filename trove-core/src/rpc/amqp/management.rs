//! The administration of the users of a broker. Used by the control plane only.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, ClientBuilder, Method, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
#[cfg(feature = "amqp-tls")]
use tokio_rustls::rustls::RootCertStore;
use zeroize::Zeroizing;

#[cfg(feature = "amqp-tls")]
use super::certificates::{CaCertificates, client_config};
use crate::{
    error::{Error, Result},
    id::InstanceId,
    rpc::{Address, BrokerLogin},
    secret::{ExposeSecret, SecretString, fill_random},
};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// The limits of a guest's user. A guest needs one connection with two channels; broken connections
/// count until the broker detects them.
const MAX_CONNECTIONS: usize = 16;
const MAX_CHANNELS: usize = 64;

/// The [management API](https://www.rabbitmq.com/docs/management) of RabbitMQ.
///
/// The control plane uses it to create a user for each guest, which has access to the queues of its
/// instance and nothing else.
///
/// ```
/// use trove_core::rpc::{BrokerLogin, Management};
///
/// let login = BrokerLogin::new("trove", "password");
/// let management = Management::new("http://rabbit.example:15672", "/", login)?;
/// # Ok::<_, trove_core::error::Error>(())
/// ```
#[derive(Clone)]
pub struct Management {
    client: Client,
    url: Url,
    vhost: String,
    login: BrokerLogin,
}

impl Management {
    /// Creates a client of the management API at `url`, such as `http://broker:15672`, for the
    /// queues in a virtual host. The login must have the tag `administrator`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if `url` is not an HTTP URL. An HTTPS URL needs
    /// [`with_tls`](Self::with_tls).
    pub fn new(url: &str, vhost: impl Into<String>, login: BrokerLogin) -> Result<Self> {
        #[cfg(not(feature = "amqp-tls"))]
        let client = Client::builder();
        // Otherwise a client would need the authorities of the system, although it does not use them.
        #[cfg(feature = "amqp-tls")]
        let client = Client::builder().tls_backend_preconfigured(client_config(RootCertStore::empty())?);
        Self::build(url, "http", client, (vhost.into(), login))
    }

    /// Creates a client like [`new`](Self::new) at an HTTPS URL, such as `https://broker:15671`. The
    /// server must present a certificate of a trusted authority for the host of the URL.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) if `url` is not an HTTPS URL.
    #[cfg(feature = "amqp-tls")]
    pub fn with_tls(url: &str, trusted: &CaCertificates, vhost: impl Into<String>, login: BrokerLogin) -> Result<Self> {
        let client = Client::builder().tls_backend_preconfigured(trusted.client().as_ref().clone()).https_only(true);
        Self::build(url, "https", client, (vhost.into(), login))
    }

    fn build(url: &str, scheme: &str, client: ClientBuilder, (vhost, login): (String, BrokerLogin)) -> Result<Self> {
        let invalid = || Error::invalid(format!("the URL of the RabbitMQ management API must begin with {scheme}://"));
        let url = Url::parse(url).map_err(|_| invalid())?;
        if url.cannot_be_a_base() || url.scheme() != scheme {
            return Err(invalid());
        }
        let client = client.timeout(REQUEST_TIMEOUT).build();
        let client = client.map_err(|error| Error::internal("could not build the HTTP client").with_source(error))?;
        Ok(Self { client, url, vhost, login })
    }

    /// Warns if requests are not encrypted.
    pub(super) fn warn_without_tls(&self) {
        if self.url.scheme() != "https" {
            tracing::warn!(
                host = self.url.host_str(),
                "requests to the RabbitMQ management API are not encrypted: an eavesdropper can read the login"
            );
        }
    }

    /// Creates the user of a guest with the permissions and limits it needs, or updates an existing
    /// one.
    pub async fn ensure_guest(&self, instance: InstanceId, login: &BrokerLogin) -> Result<()> {
        let (user, hash) = (login.user.as_str(), password_hash(&login.password)?);
        self.send(Method::PUT, &["users", user], Some(json!({ "password_hash": hash, "tags": "" }))).await?;
        let only = |address: Address| format!("^{}$", address.to_string().replace('.', "\\."));
        let permissions = json!({
            "configure": "^$",
            "write": only(Address::control(instance)),
            "read": only(Address::guest(instance)),
        });
        for (limit, value) in [("max-connections", MAX_CONNECTIONS), ("max-channels", MAX_CHANNELS)] {
            self.send(Method::PUT, &["user-limits", user, limit], Some(json!({ "value": value }))).await?;
        }
        self.send(Method::PUT, &["permissions", &self.vhost, user], Some(permissions)).await
    }

    /// Deletes a user and closes its connections. Deleting an absent user is `Ok`.
    pub async fn remove_user(&self, user: &str) -> Result<()> {
        self.send(Method::DELETE, &["users", user], None).await
    }

    async fn send(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<()> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let may_be_absent = method == Method::DELETE;
        let mut request = self.client.request(method, url);
        request = request.basic_auth(&self.login.user, Some(self.login.password.expose_secret()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable = |error: reqwest::Error| {
            Error::unavailable("could not reach the RabbitMQ management API").with_source(error.without_url())
        };
        let response = request.send().await.map_err(unreachable)?;
        match response.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if may_be_absent => Ok(()),
            status if status.is_server_error() => {
                Err(Error::unavailable("the RabbitMQ management API failed").with("status", status))
            }
            status => Err(Error::invalid("the RabbitMQ management API rejected a request").with("status", status)),
        }
    }
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Management")
            .field("url", &self.url.as_str())
            .field("vhost", &self.vhost)
            .finish_non_exhaustive()
    }
}

/// Computes the hash that the [broker
/// stores](https://www.rabbitmq.com/docs/passwords#computing-password-hash), so that the password
/// itself is not sent.
fn password_hash(password: &SecretString) -> Result<String> {
    let mut salt = [0; 4];
    fill_random(&mut salt)?;
    let salted = Zeroizing::new([&salt, password.expose_secret().as_bytes()].concat());
    Ok(BASE64_STANDARD.encode([&salt[..], &Sha256::digest(salted.as_slice())].concat()))
}
