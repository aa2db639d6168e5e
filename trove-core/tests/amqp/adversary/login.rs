//! What the stolen login may do at the broker.

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
    PATIENCE,
    scene::{Home, Scene},
    wire::{is_refused, published},
};
use crate::broker::MANAGEMENT;

/// The larger of the limits that a guest's user has at the broker, of connections and of channels.
const CHANNEL_LIMIT: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_login_reaches_its_own_mailboxes_only() {
    let scene = Scene::new(Home::Apart).await;
    let (own, other) = (scene.stolen.id, scene.innocent.id);
    let thief = scene.broker.connect(&scene.loot.login).await.unwrap();
    let [own_guest, own_control] = [Address::guest(own), Address::control(own)].map(|address| address.to_string());
    let [guest, control] = [Address::guest(other), Address::control(other)].map(|address| address.to_string());
    let table = FieldTable::default;

    for queue in [&guest, &control, &own_control] {
        is_refused(&thief, "reading", async |channel| {
            channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await
        })
        .await;
        is_refused(&thief, "consuming", async |channel| {
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.as_str().into(), "".into(), options, table()).await
        })
        .await;
        is_refused(&thief, "emptying", async |channel| {
            channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await
        })
        .await;
    }
    for queue in [&guest, &control, &own_guest, &own_control] {
        is_refused(&thief, "deleting", async |channel| {
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await
        })
        .await;
        for exchange in ["trove.guests", "amq.topic", &control, &own_control] {
            is_refused(&thief, "binding", async |channel| {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(queue.as_str().into(), exchange.into(), guest.as_str().into(), options, table())
                    .await
            })
            .await;
            is_refused(&thief, "unbinding", async |channel| {
                channel.queue_unbind(queue.as_str().into(), exchange.into(), guest.as_str().into(), table()).await
            })
            .await;
        }
        is_refused(&thief, "publishing past the exchanges", async |channel| {
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
        is_refused(&thief, "publishing", async |channel| published(&channel, exchange, key, b"anything").await).await;
    }
    for name in ["", "mine", "trove.mine", "guest.mine"] {
        is_refused(&thief, "a queue", async |channel| {
            let options = QueueDeclareOptions { exclusive: name.is_empty(), ..QueueDeclareOptions::default() };
            channel.queue_declare(name.into(), options, table()).await
        })
        .await;
    }
    is_refused(&thief, "an exchange", async |channel| {
        let options = ExchangeDeclareOptions::default();
        channel.exchange_declare("mine".into(), ExchangeKind::Fanout, options, table()).await
    })
    .await;
    for exchange in ["trove.guests", "trove.nowhere", &control, &own_control] {
        is_refused(&thief, "deleting an exchange", async |channel| {
            channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await
        })
        .await;
        is_refused(&thief, "binding an exchange", async |channel| {
            let options = ExchangeBindOptions::default();
            channel.exchange_bind(own_control.as_str().into(), exchange.into(), "".into(), options, table()).await
        })
        .await;
    }

    // What may be published goes nowhere else, whatever it asks for.
    let before = scene.count(DropReason::Malformed);
    let elsewhere = FieldArray::from(vec![AMQPValue::LongString(guest.as_str().into())]);
    let mut headers = table();
    headers.insert("CC".into(), AMQPValue::FieldArray(elsewhere.clone()));
    headers.insert("BCC".into(), AMQPValue::FieldArray(elsewhere));
    let properties = BasicProperties::default().with_headers(headers).with_reply_to(guest.as_str().into());
    let channel = thief.create_channel().await.unwrap();
    let sent = channel.basic_publish(own_control.as_str().into(), "".into(), Default::default(), b"junk", properties);
    sent.await.unwrap();
    scene.until_refused(DropReason::Malformed, before + 1).await;

    // No other login has this password.
    let password = scene.loot.login.password.clone();
    for user in ["control".to_owned(), format!("{guest}.1"), format!("{own_guest}.2")] {
        let login = BrokerLogin { user, password: password.clone() };
        assert!(scene.broker.connect(&login).await.is_err(), "{login:?}");
    }
    assert_eq!(scene.count(DropReason::Malformed), before + 1);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_login_takes_a_bounded_part_of_the_broker() {
    let scene = Scene::new(Home::Apart).await;
    let connections = until_limited(async || scene.broker.connect(&scene.loot.login).await).await;
    let channels = until_limited(async || connections[0].create_channel().await).await;
    // The other guest is not affected.
    scene.end().await;
    drop(channels);
}

/// Opens connections or channels until the broker refuses another one because of the user's limit, and returns those open.
///
/// The broker counts them asynchronously, so it accepts more than the limit for a while.
async fn until_limited<T>(open: impl AsyncFn() -> lapin::Result<T>) -> Vec<T> {
    let mut opened = Vec::new();
    let refused = async {
        loop {
            match open().await {
                Ok(another) => opened.push(another),
                Err(error) => return error,
            }
            if opened.len() > CHANNEL_LIMIT {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
    };
    let error = tokio::time::timeout(PATIENCE, refused).await.expect("the limit is not enforced");
    assert!(format!("{error:?}").contains("limit"), "{error:?}");
    opened
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_login_does_not_manage_the_broker() {
    let scene = Scene::new(Home::Apart).await;
    let (user, client) = (&scene.loot.login.user, Client::new());
    let queue = Address::guest(scene.innocent.id).to_string();
    let rights = serde_json::json!({ "configure": ".*", "write": ".*", "read": ".*" });
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
        (Method::PUT, format!("permissions/%2F/{user}"), Some(rights)),
        (Method::PUT, format!("users/{user}"), Some(serde_json::json!({ "password": "x", "tags": "administrator" }))),
        (Method::DELETE, "users/control".to_owned(), None),
        (Method::POST, "exchanges/%2F/amq.default/publish".to_owned(), Some(message)),
    ] {
        let url = format!("http://{}:{MANAGEMENT}/api/{path}", scene.broker.host());
        let asked = client.request(method.clone(), url).json(&body);
        let asked = asked.basic_auth(user, Some(scene.loot.login.password.expose_secret()));
        let status = asked.send().await.unwrap().status();
        assert!([StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(&status), "{method} {path}: {status}");
    }
    scene.end().await;
}
