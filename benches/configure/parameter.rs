//! The parameters that the benchmark changes.

use trove_benches::Engine;
use trove_core::model::Setting;

/// A server parameter with two values to alternate between. Neither is the default.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    values: [&'static str; 2],
    query: &'static str,
    /// Returns the statements that set a value on a running server.
    statements: fn(&str) -> Vec<String>,
}

impl Parameter {
    /// Returns a parameter that a running server can apply.
    pub(super) fn dynamic(engine: Engine) -> Self {
        match engine {
            Engine::PostgreSql => Self {
                name: "work_mem",
                values: ["5MB", "6MB"],
                query: "SHOW work_mem",
                statements: |value| {
                    vec![format!("ALTER SYSTEM SET work_mem = '{value}'"), "SELECT pg_reload_conf()".to_owned()]
                },
            },
            Engine::MySql | Engine::MariaDb => Self {
                name: "wait_timeout",
                values: ["600", "700"],
                query: "SELECT @@global.wait_timeout",
                statements: |value| vec![format!("SET GLOBAL wait_timeout = {value}")],
            },
        }
    }

    /// Returns a parameter that requires a restart.
    pub(super) fn restart_required(engine: Engine) -> Self {
        let (name, query) = match engine {
            Engine::PostgreSql => ("max_locks_per_transaction", "SHOW max_locks_per_transaction"),
            Engine::MySql | Engine::MariaDb => ("back_log", "SELECT @@global.back_log"),
        };
        Self { name, values: ["80", "96"], query, statements: |_| Vec::new() }
    }

    /// Returns the value of a round, which differs from that of the next round.
    pub(super) fn value(&self, round: usize) -> &'static str {
        self.values[round % 2]
    }

    /// Returns the value of a round as a setting of a configuration group.
    pub(super) fn setting(&self, round: usize) -> Setting {
        let value = self.value(round);
        value.parse::<i64>().map_or_else(|_| Setting::from(value), Setting::from)
    }

    /// Returns the query whose result is the value in effect.
    pub(super) fn query(&self) -> &'static str {
        self.query
    }

    /// Returns the statements that set the value of a round on a running server.
    pub(super) fn statements(&self, round: usize) -> Vec<String> {
        (self.statements)(self.value(round))
    }

    /// Returns the command-line option of the server that sets the value of a round.
    pub(super) fn server_option(&self, round: usize) -> String {
        format!("--{}={}", self.name, self.value(round))
    }
}
