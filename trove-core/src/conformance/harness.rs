use std::{env, process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::store;
use super::{
    Outcome, driver, platform,
    suite::{Coverage, Suite, SuiteCase},
    transport,
};
use crate::error::{Error, Result};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::Store;

/// How long tasks that outlive the last case may take to end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(10);

/// A test program in which each case of each suite on each implementation is a test of its own.
///
/// It takes the arguments of the standard test harness and prints the same result lines, so that one case is run by
/// `cargo test --test conformance postgresql_17::accounts`. A driver author needs a test target with
/// `harness = false` and this `main`:
///
/// ```
/// use std::process::ExitCode;
///
/// use trove_core::conformance::{Harness, Selection, memory::World};
///
/// fn main() -> ExitCode {
///     Harness::from_args()
///         .driver("memory", Selection::Matching("contract::"), async || Ok(World::new().testbed()))
///         .platform_in_memory("memory", World::new)
///         .run()
/// }
/// # main();
/// ```
///
/// An implementation is created when its first case runs and closed after its last one, whatever their outcomes. Cases
/// that leave a server clean share it: there are at most as many shared servers of an implementation as test threads.
pub struct Harness {
    arguments: Arguments,
    tests: Vec<Trial>,
    runtime: Arc<Runtime>,
}

/// Which cases run on an implementation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// All.
    All,
    /// Those that exercise what the implementation does by itself, and not what it shares with others.
    Specific,
    /// Those whose names contain this text.
    Matching(&'static str),
}

impl Selection {
    fn includes<C>(self, case: &SuiteCase<C>) -> bool {
        match self {
            Self::All => true,
            Self::Specific => case.coverage == Coverage::Specific,
            Self::Matching(text) => case.name.contains(text),
        }
    }
}

impl Harness {
    /// Reads the arguments of this process. As in the standard harness, `RUST_TEST_THREADS` is the number of threads
    /// where no argument says it.
    ///
    /// # Panics
    ///
    /// Where no thread can be started.
    pub fn from_args() -> Self {
        let mut arguments = Arguments::from_args();
        let threads = || env::var("RUST_TEST_THREADS").ok()?.parse().ok();
        arguments.test_threads = arguments.test_threads.or_else(threads);
        let runtime = Builder::new_multi_thread().enable_all().build().expect("could not start the runtime");
        Self { arguments, tests: Vec::new(), runtime: Arc::new(runtime) }
    }

    /// Adds the suite of drivers on the servers of a testbed.
    #[must_use]
    pub fn driver<T: driver::Testbed>(
        self,
        name: &str,
        selection: Selection,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(name, selection, async move || Ok(driver::DriverSuite::new(testbed().await?)))
    }

    /// Adds the suite of drivers on servers in memory: each case has a testbed of its own and a clock that does not
    /// wait.
    #[must_use]
    pub fn driver_in_memory<T: driver::Testbed>(
        self,
        name: &str,
        testbed: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.add_in_memory(name, move || driver::DriverSuite::new(testbed()))
    }

    /// Adds the suite of platforms. Each case has a testbed of its own.
    #[must_use]
    pub fn platform<T: platform::Testbed>(
        self,
        name: &str,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add_isolated(name, async move || Ok(platform::PlatformSuite::new(testbed().await?)))
    }

    /// Adds the suite of platforms on one in memory, like [`driver_in_memory`](Self::driver_in_memory).
    #[must_use]
    pub fn platform_in_memory<T: platform::Testbed>(
        self,
        name: &str,
        testbed: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.add_in_memory(name, move || platform::PlatformSuite::new(testbed()))
    }

    /// Adds the suite of transports.
    #[must_use]
    pub fn transport<T: transport::Testbed>(
        self,
        name: &str,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(name, Selection::All, async move || Ok(transport::TransportSuite::new(testbed().await?)))
    }

    /// Adds the suite of stores on an empty one. Its cases run one at a time.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[must_use]
    pub fn store(self, name: &str, store: impl AsyncFn() -> Result<Store> + Send + Sync + 'static) -> Self {
        self.add(name, Selection::All, async move || Ok(store::StoreSuite::new(store().await?)))
    }

    /// Runs the tests that the arguments select. To be returned from `main`.
    pub fn run(self) -> ExitCode {
        let conclusion = libtest_mimic::run(&self.arguments, self.tests);
        if let Some(runtime) = Arc::into_inner(self.runtime) {
            runtime.shutdown_timeout(SHUTDOWN_LIMIT);
        }
        conclusion.exit_code()
    }

    fn add<S: Suite>(
        mut self,
        name: &str,
        selection: Selection,
        open: impl AsyncFn() -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new((open, OnceCell::new()));
        for case in S::cases().into_iter().filter(|case| selection.includes(case)) {
            let (runtime, shared) = (self.runtime.clone(), shared.clone());
            self.tests.push(Trial::ignorable_test(format!("{name}::{}", case.name), move || {
                let (open, suite) = &*shared;
                let outcome = runtime.block_on(async {
                    match suite.get_or_try_init(|| async { open().await }).await {
                        Ok(suite) => suite.run(&case.case).await,
                        Err(error) => not_opened(&error),
                    }
                });
                // Tests that are filtered out are dropped before the first one runs.
                if let Some((_, suite)) = Arc::into_inner(shared) {
                    runtime.block_on(async {
                        if let Some(suite) = suite.get() {
                            suite.close().await;
                        }
                    });
                }
                completion(outcome)
            }));
        }
        self
    }

    fn add_isolated<S: Suite>(mut self, name: &str, open: impl AsyncFn() -> Result<S> + Send + Sync + 'static) -> Self {
        let open = Arc::new(open);
        for case in S::cases() {
            let (runtime, open) = (self.runtime.clone(), open.clone());
            self.tests.push(Trial::ignorable_test(format!("{name}::{}", case.name), move || {
                completion(runtime.block_on(async {
                    match open().await {
                        Ok(suite) => run_and_close(&suite, &case.case).await,
                        Err(error) => not_opened(&error),
                    }
                }))
            }));
        }
        self
    }

    fn add_in_memory<S: Suite>(mut self, name: &str, suite: impl Fn() -> S + Send + Sync + 'static) -> Self {
        let suite = Arc::new(suite);
        for case in S::cases() {
            let suite = suite.clone();
            self.tests.push(Trial::ignorable_test(format!("{name}::{}", case.name), move || {
                let runtime = Builder::new_current_thread().enable_all().start_paused(true).build()?;
                completion(runtime.block_on(async { run_and_close(&suite(), &case.case).await }))
            }));
        }
        self
    }
}

async fn run_and_close<S: Suite>(suite: &S, case: &S::Case) -> Outcome {
    let outcome = suite.run(case).await;
    suite.close().await;
    outcome
}

fn not_opened(error: &Error) -> Outcome {
    Outcome::Failed(format!("could not open the testbed: {error:?}"))
}

fn completion(outcome: Outcome) -> std::result::Result<Completion, Failed> {
    match outcome {
        Outcome::Passed => Ok(Completion::Completed),
        Outcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        Outcome::Failed(reason) => Err(reason.into()),
    }
}
