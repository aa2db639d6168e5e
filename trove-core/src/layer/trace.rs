use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, warn};

use super::{Call, Layer, Next};
use crate::{datastore::Cx, error::Result, id::InstanceId};

/// Tells of every call in the log: of which instance, with what, how long it took and how it ended.
///
/// What a call does is in a span `datastore` of level `debug` with the instance, the call, its arguments and the
/// operation; its end is an event in it, of level `warn` where it failed. Arguments hold no secret that prints.
///
/// ```
/// use trove_core::{datastore::Driver, layer::Trace};
///
/// fn told(driver: impl Driver) -> impl Driver {
///     driver.layer(|host| Trace::new(host.instance))
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Trace {
    instance: InstanceId,
}

impl Trace {
    /// Tells of calls to this instance's datastore.
    pub fn new(instance: InstanceId) -> Self {
        Self { instance }
    }
}

impl Layer for Trace {
    async fn around<'a, T: Send + 'a>(&'a self, cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        let (begun, instance, operation) = (Instant::now(), self.instance, cx.operation());
        let span = debug_span!("datastore", %instance, call = call.name, arguments = ?call.arguments, %operation);
        let done = next().instrument(span.clone()).await;
        let took = begun.elapsed();
        // An event that is enabled where the span is not says itself what it is about.
        let _inside = span.enter();
        match &done {
            Ok(_) => debug!(?took, "done"),
            Err(error) => {
                let (kind, report) = (error.kind(), error.report());
                warn!(%instance, call = call.name, ?took, ?kind, error = report, "a call to a datastore failed");
            }
        }
        done
    }
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
    async fn a_call_is_told_of_without_its_secrets() {
        let log = Log::default();
        let sink = log.clone();
        let format = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG).with_writer(move || sink.clone());
        let _guard = tracing::subscriber::set_default(format.with_ansi(false).finish());
        let (instance, cx) = (InstanceId::new_v4(), Cx::new(OperationId::new_v4(), 1));
        let spec = Prepare::new(Vec::new(), vec![NewUser::new("app", "hunter2")]);
        let call = Call { name: "prepare", changes: true, repeatable: true, arguments: &spec };
        let trace = Trace::new(instance);
        trace.around(&cx, &call, &|| Box::pin(async { Ok(()) })).await.unwrap();
        let failing = || Box::pin(async { Err::<(), _>(Error::no_space("the volume is full").with("free", 0)) }) as _;
        trace.around(&cx, &call, &failing).await.unwrap_err();

        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<_> = log.lines().collect();
        assert_eq!(lines.len(), 2, "{log}");
        for line in lines {
            for part in [instance.to_string(), cx.operation().to_string(), "prepare".to_owned(), "took=".to_owned()] {
                assert!(line.contains(&part), "no {part} in {line}");
            }
            assert!(line.contains("app") && !line.contains("hunter2"), "{line}");
        }
        assert!(log.contains("WARN") && log.contains("NoSpace") && log.contains("free"), "{log}");
    }
}
