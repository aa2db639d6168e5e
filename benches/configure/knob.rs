//! The parameters that are changed.

use trove_benches::Engine;
use trove_core::model::Setting;

/// A parameter with two values to change between, neither its default.
pub(super) struct Knob {
    pub(super) name: &'static str,
    values: [&'static str; 2],
    ask: &'static str,
    /// What changes it by hand, where a running server can.
    by_hand: fn(&str) -> Vec<String>,
}

impl Knob {
    /// One that a running server takes.
    pub(super) fn live(engine: Engine) -> Self {
        match engine {
            Engine::PostgreSql => Self {
                name: "work_mem",
                values: ["5MB", "6MB"],
                ask: "SHOW work_mem",
                by_hand: |value| {
                    vec![format!("ALTER SYSTEM SET work_mem = '{value}'"), "SELECT pg_reload_conf()".to_owned()]
                },
            },
            Engine::MySql | Engine::MariaDb => Self {
                name: "wait_timeout",
                values: ["600", "700"],
                ask: "SELECT @@global.wait_timeout",
                by_hand: |value| vec![format!("SET GLOBAL wait_timeout = {value}")],
            },
        }
    }

    /// One that needs a restart.
    pub(super) fn at_start(engine: Engine) -> Self {
        let (name, ask) = match engine {
            Engine::PostgreSql => ("max_locks_per_transaction", "SHOW max_locks_per_transaction"),
            Engine::MySql | Engine::MariaDb => ("back_log", "SELECT @@global.back_log"),
        };
        Self { name, values: ["80", "96"], ask, by_hand: |_| Vec::new() }
    }

    /// The value of a round; the next round has another.
    pub(super) fn value(&self, round: usize) -> &'static str {
        self.values[round % 2]
    }

    /// The same for the library.
    pub(super) fn setting(&self, round: usize) -> Setting {
        let value = self.value(round);
        value.parse::<i64>().map_or_else(|_| Setting::from(value), Setting::from)
    }

    /// The query whose answer is the value in force.
    pub(super) fn ask(&self) -> &'static str {
        self.ask
    }

    /// The statements that change it by hand.
    pub(super) fn by_hand(&self, round: usize) -> Vec<String> {
        (self.by_hand)(self.value(round))
    }

    /// The option of the server's command line that sets it.
    pub(super) fn option(&self, round: usize) -> String {
        format!("--{}={}", self.name, self.value(round))
    }
}
