use std::{future::Future, process::ExitCode};

use tokio::runtime::Runtime;

/// The result of what a benchmark does; whatever goes wrong ends it.
pub type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Runs a benchmark to its end, to its first error or to Ctrl-C, and says what went wrong.
///
/// When it returns nothing of `body` is left running, so that what the caller drops next can tidy up undisturbed.
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
            // Ours tell an operator more than their sentence.
            let ours = error.downcast_ref::<trove_core::error::Error>();
            eprintln!("error: {}", ours.map_or_else(|| error.to_string(), trove_core::error::Error::report));
            ExitCode::FAILURE
        }
    }
}
