use std::{env, process::ExitCode, sync::Arc, time::Duration};

use libtest_mimic::{Arguments, Completion, Failed, Trial};
use tokio::{
    runtime::{Builder, Runtime},
    sync::OnceCell,
};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::store;
use super::{
    CaseOutcome, driver, platform,
    suite::{Coverage, Suite, SuiteCase},
    transport,
};
use crate::error::{Error, Result};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::store::Store;

/// The time that tasks which outlive the last case have to end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A test program that runs conformance suites, with one test for each case.
///
/// Declare a test target without the standard harness in `Cargo.toml`:
///
/// ```toml
/// [[test]]
/// name = "conformance"
/// harness = false
/// ```
///
/// Its `main` function adds the implementations to test and runs the program:
///
/// ```
/// use std::process::ExitCode;
///
/// use trove_core::conformance::{Harness, Selection, memory::World};
///
/// fn main() -> ExitCode {
///     let contract = Selection::Matching("contract::");
///     Harness::from_args()
///         .driver("mydb_1_0", contract, async || Ok(World::new().testbed()))
///         .platform_in_memory("memory", World::new)
///         .run()
/// }
/// # main();
/// ```
///
/// A test is named after the implementation, the group and the case, such as
/// `mydb_1_0::contract::attaching_creates_nothing`. The program accepts the arguments of the
/// standard harness:
///
/// ```sh
/// cargo test --test conformance                              # all tests
/// cargo test --test conformance mydb_1_0::accounts           # those whose names contain the text
/// cargo test --test conformance -- --list                    # print the names
/// cargo test --test conformance -- --test-threads 4          # four cases at a time
/// ```
///
/// A case that does not apply is reported as ignored, with the reason. A testbed is created when
/// the first of its cases runs and closed after the last one, even if cases fail. Cases that leave
/// a server clean share it; each testbed has at most as many shared servers as there are test
/// threads.
pub struct Harness {
    arguments: Arguments,
    tests: Vec<Trial>,
    runtime: Arc<Runtime>,
}

/// The cases to run on an implementation.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Selection {
    /// All cases.
    All,
    /// The cases that exercise code of the single implementation, such as its SQL. Leaves out those
    /// that exercise code which implementations usually share, such as fencing.
    Specific,
    /// Those of them whose names contain none of these texts, which name the groups that exercise code
    /// shared with another implementation that runs them.
    SpecificWithout(&'static [&'static str]),
    /// The cases whose names, without the name of the implementation, contain this text.
    Matching(&'static str),
}

impl Selection {
    fn includes<C>(self, case: &SuiteCase<C>) -> bool {
        match self {
            Self::All => true,
            Self::Specific => case.coverage == Coverage::Specific,
            Self::SpecificWithout(texts) => {
                case.coverage == Coverage::Specific && !texts.iter().any(|text| case.name.contains(text))
            }
            Self::Matching(text) => case.name.contains(text),
        }
    }
}

impl Harness {
    /// Creates a harness with the command-line arguments of this process.
    ///
    /// As in the standard harness, the environment variable `RUST_TEST_THREADS` sets the number of
    /// threads if no argument does. Prints the help text and exits if the arguments request it or
    /// are invalid.
    ///
    /// # Panics
    ///
    /// Panics if the operating system cannot start threads.
    pub fn from_args() -> Self {
        let mut arguments = Arguments::from_args();
        let threads = || env::var("RUST_TEST_THREADS").ok()?.parse().ok();
        arguments.test_threads = arguments.test_threads.or_else(threads);
        let runtime = Builder::new_multi_thread().enable_all().build().expect("could not start the runtime");
        Self { arguments, tests: Vec::new(), runtime: Arc::new(runtime) }
    }

    /// Adds the [driver suite](driver) with a testbed. The tests are named after `name`.
    #[must_use]
    pub fn driver<T: driver::DriverTestbed>(
        self,
        name: &str,
        selection: Selection,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(name, selection, async move || Ok(driver::DriverSuite::new(testbed().await?)))
    }

    /// Adds the [driver suite](driver) with in-memory servers. Each case has its own testbed, and
    /// runs with [paused time](tokio::time::pause), so that it does not wait for timers.
    ///
    /// ```
    /// use trove_core::conformance::{Harness, memory::World};
    ///
    /// let harness = Harness::from_args().driver_in_memory("memory", || World::new().testbed());
    /// # drop(harness);
    /// ```
    #[must_use]
    pub fn driver_in_memory<T: driver::DriverTestbed>(
        self,
        name: &str,
        testbed: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.add_in_memory(name, move || driver::DriverSuite::new(testbed()))
    }

    /// Adds the [platform suite](platform). Each case has its own testbed.
    #[must_use]
    pub fn platform<T: platform::PlatformTestbed>(
        self,
        name: &str,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add_isolated(name, async move || Ok(platform::PlatformSuite::new(testbed().await?)))
    }

    /// Adds the [platform suite](platform) with an in-memory platform. Cases run as those of
    /// [`driver_in_memory`](Self::driver_in_memory) do.
    #[must_use]
    pub fn platform_in_memory<T: platform::PlatformTestbed>(
        self,
        name: &str,
        testbed: impl Fn() -> T + Send + Sync + 'static,
    ) -> Self {
        self.add_in_memory(name, move || platform::PlatformSuite::new(testbed()))
    }

    /// Adds the [transport suite](transport).
    #[must_use]
    pub fn transport<T: transport::TransportTestbed>(
        self,
        name: &str,
        testbed: impl AsyncFn() -> Result<T> + Send + Sync + 'static,
    ) -> Self {
        self.add(name, Selection::All, async move || Ok(transport::TransportSuite::new(testbed().await?)))
    }

    /// Adds the [store suite](store) with an empty store. Its cases run one at a time.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    #[must_use]
    pub fn store(self, name: &str, store: impl AsyncFn() -> Result<Store> + Send + Sync + 'static) -> Self {
        self.add(name, Selection::All, async move || Ok(store::StoreSuite::new(store().await?)))
    }

    /// Runs the tests that the arguments select. Returns the exit code for `main`.
    pub fn run(self) -> ExitCode {
        let conclusion = libtest_mimic::run(&self.arguments, self.tests);
        if let Some(runtime) = Arc::into_inner(self.runtime) {
            runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
        }
        conclusion.exit_code()
    }

    fn add<S: Suite>(
        mut self,
        name: &str,
        selection: Selection,
        create: impl AsyncFn() -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new((create, OnceCell::new()));
        for case in S::cases().into_iter().filter(|case| selection.includes(case)) {
            let (runtime, shared) = (self.runtime.clone(), shared.clone());
            self.tests.push(Trial::ignorable_test(format!("{name}::{}", case.name), move || {
                let (create, suite) = &*shared;
                let outcome = runtime.block_on(async {
                    match suite.get_or_try_init(|| async { create().await }).await {
                        Ok(suite) => suite.run(&case.case).await,
                        Err(error) => creation_failure(&error),
                    }
                });
                // The last test closes the suite. Tests that are filtered out are dropped before the first one runs.
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

    fn add_isolated<S: Suite>(
        mut self,
        name: &str,
        create: impl AsyncFn() -> Result<S> + Send + Sync + 'static,
    ) -> Self {
        let create = Arc::new(create);
        for case in S::cases() {
            let (runtime, create) = (self.runtime.clone(), create.clone());
            self.tests.push(Trial::ignorable_test(format!("{name}::{}", case.name), move || {
                completion(runtime.block_on(async {
                    match create().await {
                        Ok(suite) => run_and_close(&suite, &case.case).await,
                        Err(error) => creation_failure(&error),
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

async fn run_and_close<S: Suite>(suite: &S, case: &S::Case) -> CaseOutcome {
    let outcome = suite.run(case).await;
    suite.close().await;
    outcome
}

fn creation_failure(error: &Error) -> CaseOutcome {
    CaseOutcome::Failed(format!("could not create the testbed: {error:?}"))
}

fn completion(outcome: CaseOutcome) -> std::result::Result<Completion, Failed> {
    match outcome {
        CaseOutcome::Passed => Ok(Completion::Completed),
        CaseOutcome::Skipped(reason) => Ok(Completion::ignored_with(reason)),
        CaseOutcome::Failed(reason) => Err(reason.into()),
    }
}
