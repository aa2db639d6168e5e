//! An AMQP client that is independent of the library.

use std::cell::RefCell;

use lapin::{
    Connection, ConnectionProperties,
    runtime::default_runtime,
    tcp::{AMQPUriTcpExt, OwnedTLSConfig},
    uri::{AMQPAuthority, AMQPUri, AMQPUserInfo},
};
use tracing::dispatcher::{self, DefaultGuard, Dispatch};
use trove_core::{rpc::BrokerLogin, secret::ExposeSecret};

use crate::broker::RabbitMqContainer;

thread_local! {
    static SILENCE: RefCell<Option<DefaultGuard>> = const { RefCell::new(None) };
}

impl RabbitMqContainer {
    /// Connects with this login, with tracing disabled because lapin logs the password.
    pub async fn connect(&self, login: &BrokerLogin) -> lapin::Result<Connection> {
        let BrokerLogin { user, password } = login.clone();
        let userinfo = AMQPUserInfo { username: user, password: password.expose_secret().to_owned() };
        let authority = AMQPAuthority { userinfo, host: self.host(), port: 5672 };
        let uri = AMQPUri { authority, vhost: "/".to_owned(), ..AMQPUri::default() };
        let connect = async |uri: AMQPUri, runtime| {
            SILENCE.set(Some(dispatcher::set_default(&Dispatch::none())));
            Ok(uri.connect_with_config_async(OwnedTLSConfig::default().as_ref(), &runtime).await?)
        };
        Connection::connector(uri, default_runtime()?, connect, ConnectionProperties::default()).await
    }
}
