use std::time::Duration;

use tokio::time::timeout;

use super::{CallInfo, Layer, NextCall};
use crate::{
    datastore::Cx,
    error::{Effect, Error, Result},
};

/// Limits the duration of every call.
///
/// A call that exceeds its limit is dropped, which is safe by the [contract](crate::datastore), and
/// fails with [`Timeout`](crate::error::Kind::Timeout); its effect may have happened. The guest
/// agent installs this layer with its default limits around every driver:
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
/// use trove_core::{datastore::Driver, layer::{Deadline, DriverExt}};
///
/// fn strict(driver: impl Driver) -> impl Driver {
///     let limits = Deadline::default()
///         .limit("accounts", Duration::from_secs(5))
///         .limit("stop", Duration::from_secs(90));
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
    /// Sets one limit for all calls.
    pub fn new(limit: Duration) -> Self {
        Self { limits: Vec::new(), others: limit }
    }

    /// Sets the limit of one call (`observe`, `accounts.create_users`), or of all calls of an
    /// ability that have no limit of their own (`accounts`).
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
    async fn around<'a, T: Send + 'a>(
        &'a self,
        _cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        let limit = self.of(call.name);
        timeout(limit, next()).await.unwrap_or_else(|_| {
            let effect = if call.changes { Effect::Unknown } else { Effect::None };
            let error = Error::timeout("the server did not answer in time").with_effect(effect);
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
    async fn slow_calls_fail_with_timeout() {
        let cx = Cx::new(OperationId::new_v4(), 1);
        for (name, changes, seconds) in [
            ("observe", false, 10),
            ("accounts.grant", true, 60),
            ("prepare", true, 1800),
            ("upgrade.upgrade", true, 21600),
        ] {
            let call = CallInfo { name, changes, arguments: &() };
            let begun = Instant::now();
            let error =
                Deadline::default().around(&cx, &call, &|| Box::pin(pending::<Result<()>>())).await.unwrap_err();
            assert_eq!(begun.elapsed().as_secs(), seconds, "{name}");
            let effect = if changes { Effect::Unknown } else { Effect::None };
            assert_eq!((error.kind(), error.effect()), (Kind::Timeout, effect), "{name}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn fast_calls_return_their_result() {
        let cx = Cx::new(OperationId::new_v4(), 1);
        let call = CallInfo { name: "observe", changes: false, arguments: &() };
        let slow = || {
            Box::pin(async {
                tokio::time::sleep(Duration::from_secs(9)).await;
                Ok(7)
            }) as _
        };
        assert_eq!(Deadline::default().around(&cx, &call, &slow).await.unwrap(), 7);
    }

    #[test]
    fn the_most_specific_limit_applies() {
        let deadline = Deadline::new(Duration::from_secs(9))
            .limit("accounts.users", Duration::from_secs(1))
            .limit("accounts", Duration::from_secs(2))
            .limit("accounts", Duration::from_secs(3));
        let limits = ["accounts.users", "accounts.user", "start"].map(|name| deadline.of(name).as_secs());
        assert_eq!(limits, [1, 3, 9]);
    }
}
