//! Broker permissions of the stolen login.

use std::time::Duration;

use lapin::{
    BasicProperties, ExchangeKind,
    options::{
        BasicConsumeOptions, BasicGetOptions, ExchangeBindOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldArray, FieldTable},
};
use reqwest::{Client, Method, StatusCode};
use trove_core::{
    rpc::{Address, BrokerLogin, DropReason},
    secret::ExposeSecret,
};

use super::{
    TIMEOUT,
    fixture::AdversaryFixture,
    tap::{assert_access_refused, published},
};
use crate::{broker::MANAGEMENT_PORT, remote_agent::GuestPlacement};

/// The larger of the broker's limits for a guest, which are on connections and on channels.
const CHANNEL_LIMIT: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_login_accesses_only_its_own_queues() {
    let fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let (own, other) = (fixture.stolen.id, fixture.innocent.id);
    let attacker = fixture.broker.connect(&fixture.secrets.login).await.unwrap();
    let [own_guest, own_control] = [Address::guest(own), Address::control(own)].map(|address| address.to_string());
    let [guest, control] = [Address::guest(other), Address::control(other)].map(|address| address.to_string());
    let table = FieldTable::default;

    for queue in [&guest, &control, &own_control] {
        assert_access_refused(&attacker, "getting", async |channel| {
            channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await
        })
        .await;
        assert_access_refused(&attacker, "consuming", async |channel| {
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.as_str().into(), "".into(), options, table()).await
        })
        .await;
        assert_access_refused(&attacker, "purging", async |channel| {
            channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await
        })
        .await;
    }
    for queue in [&guest, &control, &own_guest, &own_control] {
        assert_access_refused(&attacker, "deleting", async |channel| {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await
        })
        .await;
        for exchange in ["trove.guests", "amq.topic", &control, &own_control] {
            assert_access_refused(&attacker, "binding", async |channel| {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue.as_str().into(), exchange.into(), guest.as_str().into(), options, table())
                    .await
            })
            .await;
            assert_access_refused(&attacker, "unbinding", async |channel| {
                channel.queue_unbind(queue.as_str().into(), exchange.into(), guest.as_str().into(), table()).await
            })
            .await;
        }
        assert_access_refused(&attacker, "publishing to the default exchange", async |channel| {
            published(&channel, "", queue, b"anything").await
        })
        .await;
    }
    for (exchange, key) in [
        ("trove.guests", guest.as_str()),
        ("trove.guests", &own_guest),
        ("trove.nowhere", ""),
        ("amq.fanout", ""),
        ("amq.direct", &guest),
        (&control, ""),
    ] {
        assert_access_refused(&attacker, "publishing", async |channel| {
            published(&channel, exchange, key, b"anything").await
        })
        .await;
    }
    for name in ["", "mine", "trove.mine", "guest.mine"] {
        assert_access_refused(&attacker, "declaring a queue", async |channel| {
            let options = QueueDeclareOptions { exclusive: name.is_empty(), ..QueueDeclareOptions::default() };
            channel.queue_declare(name.into(), options, table()).await
        })
        .await;
    }
    assert_access_refused(&attacker, "declaring an exchange", async |channel| {
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare("mine".into(), ExchangeKind::Fanout, options, table()).await
    })
    .await;
    for exchange in ["trove.guests", "trove.nowhere", &control, &own_control] {
        assert_access_refused(&attacker, "deleting an exchange", async |channel| {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await
        })
        .await;
        assert_access_refused(&attacker, "binding an exchange", async |channel| {
            let options = ExchangeBindOptions::default();
            channel.exchange_bind(own_control.as_str().into(), exchange.into(), "".into(), options, table()).await
        })
        .await;
    }

    // The permitted exchange routes to no other queue, whatever the headers request.
    let before = fixture.count(DropReason::Malformed);
    let other_queues = FieldArray::from(vec![AMQPValue::LongString(guest.as_str().into())]);
    let mut headers = table();
    headers.insert("CC".into(), AMQPValue::FieldArray(other_queues.clone()));
    headers.insert("BCC".into(), AMQPValue::FieldArray(other_queues));
    let properties = BasicProperties::default().with_headers(headers).with_reply_to(guest.as_str().into());
    let channel = attacker.create_channel().await.unwrap();
    let sent = channel.basic_publish(own_control.as_str().into(), "".into(), Default::default(), b"junk", properties);
    sent.await.unwrap();
    fixture.until_dropped(DropReason::Malformed, before + 1).await;

    // No other user has this password.
    let password = fixture.secrets.login.password.clone();
    for user in ["control".to_owned(), format!("{guest}.1"), format!("{own_guest}.2")] {
        let login = BrokerLogin { user, password: password.clone() };
        assert!(fixture.broker.connect(&login).await.is_err(), "{login:?}");
    }
    assert_eq!(fixture.count(DropReason::Malformed), before + 1);
    fixture.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_channels_of_a_stolen_login_are_limited() {
    let fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let connections = until_limited(async || fixture.broker.connect(&fixture.secrets.login).await).await;
    let channels = until_limited(async || connections[0].create_channel().await).await;
    // The other guest is not affected.
    fixture.finish().await;
    drop(channels);
}

/// Opens connections or channels until the user's limit is enforced, and returns them.
///
/// The broker counts asynchronously, so it accepts more than the limit for a while.
async fn until_limited<T>(open: impl AsyncFn() -> lapin::Result<T>) -> Vec<T> {
    let mut opened = Vec::new();
    let limited = async {
        loop {
            match open().await {
                Ok(handle) => opened.push(handle),
                Err(error) => return error,
            }
            if opened.len() > CHANNEL_LIMIT {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    let error = tokio::time::timeout(TIMEOUT, limited).await.expect("the limit is not enforced");
    assert!(format!("{error:?}").contains("limit"), "{error:?}");
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_login_is_denied_the_management_api() {
    let fixture = AdversaryFixture::new(GuestPlacement::Remote).await;
    let (user, client) = (&fixture.secrets.login.user, Client::new());
    let queue = Address::guest(fixture.innocent.id).to_string();
    let permissions = serde_json::json!({ "configure": ".*", "write": ".*", "read": ".*" });
    let message = serde_json::json!({
        "properties": {}, "routing_key": queue, "payload": "anything", "payload_encoding": "string",
    });
    let read = serde_json::json!({ "count": 1, "ackmode": "ack_requeue_false", "encoding": "base64" });
    for (method, path, body) in [
        (Method::GET, "overview".to_owned(), None),
        (Method::GET, "definitions".to_owned(), None),
        (Method::GET, "users".to_owned(), None),
        (Method::GET, format!("queues/%2F/{queue}"), None),
        (Method::DELETE, format!("queues/%2F/{queue}"), None),
        (Method::POST, format!("queues/%2F/{queue}/get"), Some(read)),
        (Method::PUT, format!("permissions/%2F/{user}"), Some(permissions)),
        (Method::PUT, format!("users/{user}"), Some(serde_json::json!({ "password": "x", "tags": "administrator" }))),
        (Method::DELETE, "users/control".to_owned(), None),
        (Method::POST, "exchanges/%2F/amq.default/publish".to_owned(), Some(message)),
    ] {
        let url = format!("http://{}:{MANAGEMENT_PORT}/api/{path}", fixture.broker.host());
        let request = client.request(method.clone(), url).json(&body);
        let request = request.basic_auth(user, Some(fixture.secrets.login.password.expose_secret()));
        let status = request.send().await.unwrap().status();
        assert!([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status), "{method} {path}: {status}");
    }
    fixture.finish().await;
}
