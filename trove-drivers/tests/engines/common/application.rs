//! Statements of an application on an instance of the service.

use mysql_async::prelude::Queryable;
use trove_core::{
    control::InstanceHandle,
    secret::{ExposeSecret, SecretString},
};

use super::mysql;

/// Runs a statement as user `app` in database `app`, in a new session, and returns the first value
/// of the result.
pub async fn query_as_app(instance: &InstanceHandle, sql: &str) -> Option<String> {
    if instance.datastore != "postgresql" {
        let endpoint = instance.endpoint.clone().unwrap();
        let mut conn = mysql::login(&endpoint, "app", "secret", "app").await.unwrap();
        let value = conn.query_first(sql).await.unwrap();
        conn.disconnect().await.unwrap();
        return value;
    }
    let uri = instance.uri("app").unwrap().user("app").with_password(&SecretString::from("secret"));
    let (client, connection) = tokio_postgres::connect(uri.expose_secret(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let messages = client.simple_query(sql).await.unwrap();
    messages.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}
