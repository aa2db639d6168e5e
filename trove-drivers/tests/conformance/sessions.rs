//! Client sessions for the driver suite, which store texts in a table.

use std::fmt::Debug;

use async_trait::async_trait;
use mysql_async::{Conn, prelude::Queryable};
use tokio_postgres::Client;
use trove_core::{
    conformance::driver::{ClientLogin, ClientSession},
    error::{Error, Result},
    model::Endpoint,
};
use trove_drivers::conformance::Sessions;

use crate::common::{mysql, postgresql};

pub struct PostgreSqlSessions;

pub struct MySqlSessions;

struct PostgreSqlSession(Client);

struct MySqlSession(Conn);

#[async_trait]
impl Sessions for PostgreSqlSessions {
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let database = login.database.as_deref().unwrap_or("postgres");
        let client = postgresql::login(endpoint, &login.user, &login.password, database).await;
        Ok(Box::new(PostgreSqlSession(client.map_err(unavailable)?)))
    }
}

#[async_trait]
impl ClientSession for PostgreSqlSession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.0
            .batch_execute("CREATE TABLE IF NOT EXISTS texts (name text PRIMARY KEY, content text)")
            .await
            .map_err(unavailable)?;
        let sql = "INSERT INTO texts VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET content = EXCLUDED.content";
        self.0.execute(sql, &[&name, &text]).await.map(drop).map_err(unavailable)
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        let exists = self.0.query_one("SELECT to_regclass('texts') IS NOT NULL", &[]).await.map_err(unavailable)?;
        if !exists.get::<_, bool>(0) {
            return Ok(None);
        }
        let row = self.0.query_opt("SELECT content FROM texts WHERE name = $1", &[&name]).await.map_err(unavailable)?;
        Ok(row.map(|row| row.get(0)))
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        let sql = "SELECT session_user::text, current_database()::text";
        let row = self.0.query_one(sql, &[]).await.map_err(unavailable)?;
        Ok((row.get(0), Some(row.get(1))))
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        let sql = "SELECT setting FROM pg_settings WHERE name = $1";
        Ok(self.0.query_one(sql, &[&name]).await.map_err(unavailable)?.get(0))
    }
}

#[async_trait]
impl Sessions for MySqlSessions {
    async fn open(&self, endpoint: &Endpoint, login: &ClientLogin) -> Result<Box<dyn ClientSession>> {
        let database = login.database.as_deref().unwrap_or("");
        let conn = mysql::login(endpoint, &login.user, &login.password, database).await;
        Ok(Box::new(MySqlSession(conn.map_err(unavailable)?)))
    }
}

#[async_trait]
impl ClientSession for MySqlSession {
    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        self.0
            .query_drop("CREATE TABLE IF NOT EXISTS texts (name varchar(100) PRIMARY KEY, content longtext)")
            .await
            .map_err(unavailable)?;
        self.0.exec_drop("REPLACE INTO texts VALUES (?, ?)", (name, text)).await.map_err(unavailable)
    }

    async fn get(&mut self, name: &str) -> Result<Option<String>> {
        let exists: Option<String> = self.0.query_first("SHOW TABLES LIKE 'texts'").await.map_err(unavailable)?;
        match exists {
            None => Ok(None),
            Some(_) => {
                self.0.exec_first("SELECT content FROM texts WHERE name = ?", (name,)).await.map_err(unavailable)
            }
        }
    }

    async fn current_user(&mut self) -> Result<(String, Option<String>)> {
        let row = self.0.query_first("SELECT CURRENT_USER(), DATABASE()").await.map_err(unavailable)?;
        let (account, database): (String, Option<String>) = row.ok_or_else(|| Error::internal("no row"))?;
        let user = account.rsplit_once('@').map_or(account.as_str(), |(user, _)| user);
        Ok((user.to_owned(), database))
    }

    async fn parameter(&mut self, name: &str) -> Result<String> {
        let sql = format!("SELECT CAST(@@GLOBAL.{name} AS CHAR)");
        let value: Option<String> = self.0.query_first(sql).await.map_err(unavailable)?;
        value.ok_or_else(|| Error::not_found("no such parameter"))
    }
}

fn unavailable(error: impl Debug) -> Error {
    Error::unavailable(format!("{error:?}"))
}
