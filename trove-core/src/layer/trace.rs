use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, warn};

use super::{CallInfo, Layer, NextCall};
use crate::{
    datastore::Cx,
    error::{Kind, Result},
    id::InstanceId,
};

/// Logs every call to a datastore.
///
/// A call runs in a span `datastore` of level `debug` with the instance, the name of the call, the
/// operation and its step. Its end is an event of level `debug`, or `warn` if a call that changes
/// something failed for a reason outside the request, such as a full volume. Arguments are not logged:
/// tenants choose them, and they may be long. The guest agent installs this layer around every
/// driver.
///
/// ```
/// use trove_core::{datastore::Driver, layer::{DriverExt, Trace}};
///
/// fn traced(driver: impl Driver) -> impl Driver {
///     driver.layer(|host| Trace::new(host.instance))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    instance: InstanceId,
}

impl Trace {
    /// Creates the layer for the datastore of this instance.
    pub fn new(instance: InstanceId) -> Self {
        Self { instance }
    }
}

impl Layer for Trace {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        let (started, instance, operation) = (Instant::now(), self.instance, cx.operation());
        let span = debug_span!("datastore", %instance, call = call.name, %operation, step = cx.step());
        let result = next().instrument(span.clone()).await;
        let elapsed = started.elapsed();
        let _entered = span.enter();
        match &result {
            Ok(_) => debug!(?elapsed, "datastore call succeeded"),
            Err(error) => {
                let (kind, report) = (error.kind(), error.report());
                // The span may be disabled where the event is not.
                if call.changes && concerns_operator(kind) {
                    warn!(%instance, call = call.name, ?elapsed, ?kind, error = report, "datastore call failed");
                } else {
                    debug!(?elapsed, ?kind, error = report, "datastore call failed");
                }
            }
        }
        result
    }
}

/// Whether the cause is outside the request. Other failures are the caller's, and would let a tenant fill the log.
fn concerns_operator(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::Timeout | Kind::NoSpace | Kind::Corrupt | Kind::Internal)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::{datastore::Prepare, error::Error, id::OperationId, model::NewUser};

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn calls_are_logged_without_their_arguments() {
        let log = Log::default();
        let sink = log.clone();
        let format = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_writer(move || sink.clone());
        let _guard = tracing::subscriber::set_default(format.with_ansi(false).finish());
        let (instance, cx) = (InstanceId::new_v4(), Cx::new(OperationId::new_v4(), 1));
        let spec = Prepare::new(Vec::new(), vec![NewUser::new("tenant_user", "hunter2")]);
        let trace = Trace::new(instance);
        let prepare = CallInfo { name: "prepare", changes: true, arguments: &spec };
        trace.around(&cx, &prepare, &|| Box::pin(async { Ok(()) })).await.unwrap();
        let failing = || Box::pin(async { Err::<(), _>(Error::no_space("the volume is full").with("free", 0)) }) as _;
        trace.around(&cx, &prepare, &failing).await.unwrap_err();
        let observe = CallInfo { name: "observe", changes: false, arguments: &() };
        trace.around(&cx, &observe, &failing).await.unwrap_err();
        let refusing = || Box::pin(async { Err::<(), _>(Error::conflict("the user exists")) }) as _;
        trace.around(&cx, &prepare, &refusing).await.unwrap_err();

        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 4, "{log}");
        for (line, level) in lines.iter().zip(["DEBUG", "WARN", "DEBUG", "DEBUG"]) {
            for part in [&instance.to_string(), &cx.operation().to_string(), level, "elapsed="] {
                assert!(line.contains(part), "no {part} in {line}");
            }
        }
        assert!(lines[1].contains("NoSpace") && lines[1].contains("free"), "{log}");
        assert!(!log.contains("tenant_user") && !log.contains("hunter2"), "{log}");
    }
}
