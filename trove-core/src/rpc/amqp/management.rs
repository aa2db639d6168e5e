//! The users of a broker, one for each guest.

use std::{fmt, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use reqwest::{Client, Method, StatusCode, Url};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::broker::Login;
use crate::{
    error::{Error, Result},
    id::InstanceId,
    rpc::Address,
    secret::{ExposeSecret, SecretString, fill_random},
};

/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How many connections and channels a guest may have at a time. It needs one connection with two channels; those that broke
/// count until the broker notices.
const CONNECTIONS: usize = 16;
const CHANNELS: usize = 64;

/// RabbitMQ's [management API](https://www.rabbitmq.com/docs/management), by which each guest is given a user that may use
/// the guest's own mailboxes and nothing else.
#[derive(Clone)]
pub struct Management {
    client: Client,
    url: Url,
    vhost: String,
    login: Login,
}

impl Management {
    /// The API at `url`, such as `http://broker:15672`, for the mailboxes in a virtual host. The login is one with the tag
    /// `administrator`.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::error::Kind::Invalid) for what is no address of the web.
    pub fn new(url: &str, vhost: impl Into<String>, login: Login) -> Result<Self> {
        let invalid =
            || Error::invalid("the address of the message broker's management is not like http://broker:15672");
        let url = Url::parse(url).map_err(|_| invalid())?;
        if url.cannot_be_a_base() || !url.scheme().starts_with("http") {
            return Err(invalid());
        }
        let client = Client::builder().timeout(LIMIT).build();
        let client = client.map_err(|error| Error::internal("no client of the web can be made").because(error))?;
        Ok(Self { client, url, vhost: vhost.into(), login })
    }

    /// Makes sure that a guest's user exists, with this password and the rights that it needs. Each number stands for a user
    /// of its own: a guest changes from one to the next.
    pub async fn ensure_guest(&self, instance: InstanceId, number: u32, password: SecretString) -> Result<Login> {
        let user = name(instance, number);
        let hash = hash(&password)?;
        self.ask(Method::PUT, &["users", &user], Some(json!({ "password_hash": hash, "tags": "" }))).await?;
        let only = |address: Address| format!("^{}$", address.to_string().replace('.', "\\."));
        let rights = json!({
            "configure": "^$",
            "write": only(Address::control(instance)),
            "read": only(Address::guest(instance)),
        });
        for (limit, value) in [("max-connections", CONNECTIONS), ("max-channels", CHANNELS)] {
            self.ask(Method::PUT, &["user-limits", &user, limit], Some(json!({ "value": value }))).await?;
        }
        self.ask(Method::PUT, &["permissions", &self.vhost, &user], Some(rights)).await?;
        Ok(Login { user, password })
    }

    /// Removes a guest's user and ends its connections. One that is absent is `Ok`.
    pub async fn remove_guest(&self, instance: InstanceId, number: u32) -> Result<()> {
        self.ask(Method::DELETE, &["users", &name(instance, number)], None).await
    }

    async fn ask(&self, method: Method, path: &[&str], body: Option<Value>) -> Result<()> {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("api").extend(path);
        }
        let absent_is_fine = method == Method::DELETE;
        let mut request = self.client.request(method, url);
        request = request.basic_auth(&self.login.user, Some(self.login.password.expose_secret()));
        if let Some(body) = body {
            request = request.json(&body);
        }
        let away = |error: reqwest::Error| {
            Error::unavailable("the message broker's management cannot be reached").because(error.without_url())
        };
        let answer = request.send().await.map_err(away)?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            StatusCode::NOT_FOUND if absent_is_fine => Ok(()),
            status if status.is_server_error() => {
                Err(Error::unavailable("the message broker's management failed").with("status", status))
            }
            status => Err(Error::invalid("the message broker's management refused").with("status", status)),
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

fn name(instance: InstanceId, number: u32) -> String {
    format!("{}.{number}", Address::guest(instance))
}

/// As the [broker stores it](https://www.rabbitmq.com/docs/passwords#computing-password-hash): the password itself is not
/// sent.
fn hash(password: &SecretString) -> Result<String> {
    let mut salt = [0; 4];
    fill_random(&mut salt)?;
    let salted = Zeroizing::new([&salt, password.expose_secret().as_bytes()].concat());
    Ok(BASE64_STANDARD.encode([&salt[..], &Sha256::digest(salted.as_slice())].concat()))
}
