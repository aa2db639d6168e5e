use std::{future::Future, process::ExitCode};

use tokio::runtime::Runtime;

/// The result of a part of a benchmark. Any error ends the benchmark.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Runs a benchmark until it ends, fails or is interrupted with Ctrl-C, and prints the error.
///
/// No task of `body` is left running on return, so the caller can remove what the benchmark
/// created.
pub fn run(body: impl Future<Output = Result<()>>) -> ExitCode {
    let interruptible = async {
        tokio::select! {
            outcome = body => outcome,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                Err("interrupted".into())
            }
        }
    };
    match Runtime::new().map_err(Into::into).and_then(|runtime| runtime.block_on(interruptible)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error_of_library = error.downcast_ref::<trove_core::error::Error>();
            eprintln!(
                "error: {}",
                error_of_library.map_or_else(|| error.to_string(), trove_core::error::Error::report)
            );
            ExitCode::FAILURE
        }
    }
}
