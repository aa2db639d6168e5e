use std::{collections::VecDeque, fmt::Write as _, fs::File, io, path::Path, sync::Arc};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CallInfo, Layer, NextCall};
use crate::{
    datastore::{Cx, GuestHost},
    error::{Error, Kind, Result},
    fs,
};

/// The number of operation keys that are kept. An operation makes a handful of calls, and the
/// operations of an instance follow each other.
const MAX_KEYS: usize = 32;

/// Rejects calls of superseded owners, and operation keys that are reused with other arguments.
///
/// A call that changes anything and has a lower [epoch](Cx::epoch) than an earlier call is
/// [`Fenced`](crate::error::Kind::Fenced). A call with the [operation](Cx::operation),
/// [step](Cx::step) and name of an earlier call, but other arguments, is
/// [`Conflict`](crate::error::Kind::Conflict); secrets in the arguments are not compared. Calls
/// that change nothing pass.
///
/// The highest epoch and the latest keys are persisted in the file [`FILE`](Self::FILE) of the
/// instance's [directory](GuestHost::directory), so that they survive this process and the removal
/// of the server; they are lost with the directory. A control plane whose database was restored
/// from an older backup starts with lower epochs and is fenced. To let it take over, an operator
/// deletes the file.
#[derive(Clone, Debug)]
pub struct Fence(FenceStore);

#[derive(Clone, Debug)]
enum FenceStore {
    File(Arc<Path>),
    Memory(Arc<Mutex<FenceState>>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct FenceState {
    epoch: u64,
    /// The version of the library that wrote the keys: another one may format arguments
    /// differently.
    library: String,
    keys: VecDeque<CallKey>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CallKey {
    /// Operation, step and name of the call.
    name: String,
    /// The SHA-256 digest of the arguments.
    arguments: String,
}

impl Fence {
    /// The name of the file with the persisted state. It stays when the driver removes the
    /// instance.
    pub const FILE: &str = "fence";

    /// Creates the fence of the instance on this host.
    pub fn new(host: &GuestHost) -> Self {
        Self(FenceStore::File(host.directory.join(Self::FILE).into()))
    }

    /// Creates a fence that persists nothing, for an in-memory engine. Clones share their state.
    pub fn in_memory() -> Self {
        Self(FenceStore::Memory(Arc::default()))
    }
}

impl Layer for Fence {
    async fn around<'a, T: Send + 'a>(
        &'a self,
        cx: &'a Cx,
        call: &'a CallInfo<'a>,
        next: NextCall<'a, T>,
    ) -> Result<T> {
        if call.changes {
            let (epoch, key) = (cx.epoch(), CallKey::new(cx, call));
            match &self.0 {
                FenceStore::Memory(state) => {
                    let mut state = state.lock();
                    *state = state.clone().record(epoch, key)?;
                }
                FenceStore::File(path) => {
                    let (path, removes) = (path.clone(), call.name == "remove");
                    let recorded = tokio::task::spawn_blocking(move || record(&path, epoch, key, removes)).await;
                    recorded.map_err(|error| {
                        Error::internal("the task that persists the fencing epoch failed").with_source(error)
                    })??;
                }
            }
        }
        next().await
    }
}

impl FenceState {
    /// Returns the state after this call, or the error with which the call is rejected.
    fn record(mut self, epoch: u64, key: CallKey) -> Result<Self> {
        if epoch < self.epoch {
            let error = Error::fenced("another owner has taken over the instance");
            return Err(error.with("epoch", epoch).with("current_epoch", self.epoch));
        }
        self.epoch = epoch;
        if self.library != env!("CARGO_PKG_VERSION") {
            self.keys.clear();
            self.library = env!("CARGO_PKG_VERSION").to_owned();
        }
        match self.keys.iter().find(|known| known.name == key.name) {
            Some(known) if known.arguments != key.arguments => {
                let message = "the operation already made this call with other arguments";
                Err(Error::conflict(message).with("call", key.name))
            }
            Some(_) => Ok(self),
            None => {
                self.keys.push_back(key);
                if self.keys.len() > MAX_KEYS {
                    self.keys.pop_front();
                }
                Ok(self)
            }
        }
    }
}

impl CallKey {
    fn new(cx: &Cx, call: &CallInfo<'_>) -> Self {
        let mut arguments = String::new();
        for byte in Sha256::digest(format!("{:?}", call.arguments)) {
            // Writing to a string does not fail.
            let _ = write!(arguments, "{byte:02x}");
        }
        Self { name: format!("{}/{}/{}", cx.operation(), cx.step(), call.name), arguments }
    }
}

/// Persists a call, or rejects it. Blocks.
///
/// On a full disk, a call passes unrecorded if its epoch is not new, and so does one that removes
/// the instance, which frees space.
fn record(path: &Path, epoch: u64, key: CallKey, removes: bool) -> Result<()> {
    // Other tasks and processes may hold a fence of the same instance.
    let _lock = lock_directory(path).map_err(|error| failed(path, error))?;
    let known = read(path)?;
    let next = known.clone().record(epoch, key)?;
    if next == known {
        return Ok(());
    }
    match write(path, &next) {
        Err(error) if error.kind() == Kind::NoSpace && (removes || next.epoch == known.epoch) => {
            tracing::warn!(path = %path.display(), error = error.report(), "failed to persist a fenced call");
            Ok(())
        }
        written => written,
    }
}

fn lock_directory(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(directory)?;
    let directory = File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

fn read(path: &Path) -> Result<FenceState> {
    match std::fs::read(path) {
        // An instance that nobody can change is worse than one that accepts a superseded owner.
        Ok(content) => Ok(serde_json::from_slice(&content).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "reset a damaged fence file");
            FenceState::default()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(FenceState::default()),
        Err(error) => Err(failed(path, error)),
    }
}

fn write(path: &Path, state: &FenceState) -> Result<()> {
    let content = serde_json::to_vec(state).map_err(|error| failed(path, error.into()))?;
    fs::replace(path, &content).map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> Error {
    let message = "could not persist the fencing epoch";
    let failed = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::no_space(message),
        _ => Error::unavailable(message),
    };
    failed.with("path", path.display()).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{InstanceId, OperationId};

    async fn call(fence: &Fence, cx: &Cx, name: &'static str, arguments: &str, changes: bool) -> Result<()> {
        let call = CallInfo { name, changes, arguments: &arguments };
        fence.around(cx, &call, &|| Box::pin(async { Ok(()) })).await
    }

    #[tokio::test]
    async fn superseded_owners_and_reused_keys_are_rejected_across_processes() {
        let directory = tempfile::tempdir().unwrap();
        let host = GuestHost::new(InstanceId::new_v4(), "/nonexistent", directory.path().join("guest"));
        let operation = OperationId::new_v4();
        let (first, second) = (Cx::new(operation, 1), Cx::new(operation, 2));
        for again in 0..2 {
            let fence = Fence::new(&host);
            if again == 0 {
                call(&fence, &first, "apply", "a", true).await.unwrap();
            }
            call(&fence, &second, "apply", "a", true).await.unwrap();
            call(&fence, &second, "grant", "b", true).await.unwrap();
            call(&fence, &second.clone().with_step("undo"), "apply", "b", true).await.unwrap();
            call(&fence, &first, "observe", "", false).await.unwrap();
            let refused = async |cx, with| call(&fence, cx, "apply", with, true).await.unwrap_err().kind();
            assert_eq!(refused(&first, "a").await, Kind::Fenced);
            assert_eq!(refused(&second, "b").await, Kind::Conflict);
        }
        std::fs::write(directory.path().join("guest/fence"), "{").unwrap();
        let reopened = Fence::new(&host);
        call(&reopened, &second, "apply", "b", true).await.unwrap();
        assert_eq!(call(&reopened, &first, "apply", "b", true).await.unwrap_err().kind(), Kind::Fenced);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn fences_of_one_instance_share_their_state() {
        let directory = tempfile::tempdir().unwrap();
        let host = GuestHost::new(InstanceId::new_v4(), "/nonexistent", directory.path());
        let (one, other) = (Fence::new(&host), Fence::new(&host));
        let cx = |epoch| Cx::new(OperationId::new_v4(), epoch);
        call(&one, &cx(1), "apply", "a", true).await.unwrap();
        call(&other, &cx(2), "apply", "a", true).await.unwrap();
        assert_eq!(call(&one, &cx(1), "apply", "a", true).await.unwrap_err().kind(), Kind::Fenced);
        let at_once = (0..20).map(|number| {
            let (fence, cx) = (if number % 2 == 0 { one.clone() } else { other.clone() }, cx(2));
            async move { call(&fence, &cx, "apply", "a", true).await }
        });
        futures_util::future::try_join_all(at_once).await.unwrap();
        let state = read(&directory.path().join(Fence::FILE)).unwrap();
        assert_eq!((state.epoch, state.keys.len()), (2, 22));
    }

    #[tokio::test]
    async fn the_number_of_keys_is_bounded() {
        let fence = Fence::in_memory();
        for _ in 0..3 * MAX_KEYS {
            call(&fence, &Cx::new(OperationId::new_v4(), 1), "apply", "a", true).await.unwrap();
        }
        let FenceStore::Memory(state) = fence.0 else { panic!("the fence is in memory") };
        assert_eq!(state.lock().keys.len(), MAX_KEYS);
    }
}
