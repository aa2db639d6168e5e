use std::time::Duration;

use tokio::time::timeout;

use super::{Call, Layer, Next};
use crate::{
    datastore::Cx,
    error::{Effect, Error, Result},
};

/// Gives every call a limit of time.
///
/// A call that is not done by then is dropped, which loses nothing by the [contract](crate::datastore), and ends as
/// [`Timeout`](crate::error::Kind::Timeout) of which the effect may have happened, where it is one that has any. The
/// guest agent has this layer with its defaults around every driver:
///
/// | calls | limit |
/// |---|---|
/// | `observe` | 10 s |
/// | `accounts` | 60 s |
/// | `upgrade` | 6 h: it may copy all data |
/// | others | 30 min |
///
/// ```
/// use std::time::Duration;
/// use trove_core::{datastore::Driver, layer::Deadline};
///
/// fn strict(driver: impl Driver) -> impl Driver {
///     let limits = Deadline::default().limit("accounts", Duration::from_secs(5)).limit("stop", Duration::from_secs(90));
///     driver.layer(move |_| limits.clone())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Deadline {
    limits: Vec<(&'static str, Duration)>,
    others: Duration,
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new(Duration::from_secs(30 * 60))
            .limit("observe", Duration::from_secs(10))
            .limit("accounts", Duration::from_secs(60))
            .limit("upgrade", Duration::from_secs(6 * 3600))
    }
}

impl Deadline {
    /// This limit for all calls.
    pub fn new(limit: Duration) -> Self {
        Self { limits: Vec::new(), others: limit }
    }

    /// Another limit for one call (`observe`, `accounts.create_users`), or for all calls of an ability that have none of
    /// their own (`accounts`).
    #[must_use]
    pub fn limit(mut self, name: &'static str, limit: Duration) -> Self {
        self.limits.retain(|(known, _)| *known != name);
        self.limits.push((name, limit));
        self
    }

    fn of(&self, name: &str) -> Duration {
        let find = |wanted: &str| self.limits.iter().find(|(known, _)| *known == wanted);
        let ability = name.split_once('.').map(|(ability, _)| ability);
        let found = find(name).or_else(|| ability.and_then(find));
        found.map_or(self.others, |(_, limit)| *limit)
    }
}

impl Layer for Deadline {
    async fn around<'a, T: Send + 'a>(&'a self, _cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        let limit = self.of(call.name);
        timeout(limit, next()).await.unwrap_or_else(|_| {
            let effect = if call.changes { Effect::Unknown } else { Effect::None };
            let error = Error::timeout("the server did not answer in time").having(effect);
            Err(error.with("call", call.name).with("seconds", limit.as_secs_f64()))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;
    use crate::{error::Kind, id::OperationId};

    #[tokio::test(start_paused = true)]
    async fn a_call_that_takes_too_long_ends_as_timeout() {
        let cx = Cx::new(OperationId::new_v4(), 1);
        for (name, changes, seconds) in [
            ("observe", false, 10),
            ("accounts.grant", true, 60),
            ("prepare", true, 1800),
            ("upgrade.upgrade", true, 21600),
        ] {
            let call = Call { name, changes, repeatable: true, arguments: &() };
            let begun = Instant::now();
            let error =
                Deadline::default().around(&cx, &call, &|| Box::pin(pending::<Result<()>>())).await.unwrap_err();
            assert_eq!(begun.elapsed().as_secs(), seconds, "{name}");
            let effect = if changes { Effect::Unknown } else { Effect::None };
            assert_eq!((error.kind(), error.effect()), (Kind::Timeout, effect), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_ends_in_time_is_left_alone() {
        let cx = Cx::new(OperationId::new_v4(), 1);
        let call = Call { name: "observe", changes: false, repeatable: true, arguments: &() };
        let slow = || {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(9)).await;
                Ok(7)
            }) as _
        };
        assert_eq!(Deadline::default().around(&cx, &call, &slow).await.unwrap(), 7);
    }

    #[test]
    fn a_call_may_have_a_limit_of_its_own() {
        let deadline = Deadline::new(Duration::from_secs(9))
            .limit("accounts.users", Duration::from_secs(1))
            .limit("accounts", Duration::from_secs(2))
            .limit("accounts", Duration::from_secs(3));
        let limits = ["accounts.users", "accounts.user", "start"].map(|name| deadline.of(name).as_secs());
        assert_eq!(limits, [1, 3, 9]);
    }
}
