use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Call, Layer, Next};
use crate::{
    datastore::{Cx, GuestHost},
    error::{Error, Kind, Result},
};

/// How many keys are remembered. An operation makes a handful of calls, and operations follow each other.
const KEYS: usize = 32;

/// Refuses callers that another one has followed, and keys that were used for something else.
///
/// A call that changes anything with a lower [epoch](Cx::epoch) than one before is
/// [`Fenced`](crate::error::Kind::Fenced). One with the [operation](Cx::operation) and [step](Cx::step) of a former call
/// of its name and other arguments is [`Conflict`](crate::error::Kind::Conflict); arguments that differ in a secret only
/// count as the same. What only looks is let through.
///
/// What was seen is kept in the file [`FILE`](Self::FILE) of the instance's [directory](GuestHost::directory), so that
/// it outlives this process, and the instance's server: whoever removed it is followed by nobody older. It goes with the
/// directory. A control plane that was given back an older database begins below what was seen and is refused, as is right
/// for one that another has followed; who knows better removes the file.
#[derive(Clone, Debug)]
pub struct Fence(Kept);

/// Where what was seen is kept.
#[derive(Clone, Debug)]
enum Kept {
    InFile(Arc<Path>),
    InMemory(Arc<Mutex<Seen>>),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Seen {
    epoch: u64,
    /// Which library noted the keys: another one may tell the same arguments otherwise.
    library: String,
    keys: VecDeque<Key>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    /// Operation, step and name of the call.
    name: String,
    arguments: String,
}

impl Fence {
    /// The name of the file that keeps what was seen. It stays when the driver removes all else.
    pub const FILE: &str = "fence";

    /// The fence of the instance that lives here.
    pub fn new(host: &GuestHost) -> Self {
        Self(Kept::InFile(host.directory.join(Self::FILE).into()))
    }

    /// A fence for an engine that is in memory itself. Clones are the same fence.
    pub fn in_memory() -> Self {
        Self(Kept::InMemory(Arc::default()))
    }
}

impl Layer for Fence {
    async fn around<'a, T: Send + 'a>(&'a self, cx: &'a Cx, call: &'a Call<'a>, next: Next<'a, T>) -> Result<T> {
        if call.changes {
            let (epoch, key) = (cx.epoch(), Key::of(cx, call));
            match &self.0 {
                Kept::InMemory(seen) => {
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    *seen = seen.clone().with(epoch, key)?;
                }
                Kept::InFile(path) => {
                    let (path, removes) = (path.clone(), call.name == "remove");
                    let admitted = tokio::task::spawn_blocking(move || admit(&path, epoch, key, removes)).await;
                    admitted
                        .map_err(|error| Error::internal("noting who owns the instance broke off").because(error))??;
                }
            }
        }
        next().await
    }
}

impl Seen {
    /// What was seen, and this call.
    fn with(mut self, epoch: u64, key: Key) -> Result<Self> {
        if epoch < self.epoch {
            let error = Error::fenced("another owner has taken the instance over");
            return Err(error.with("epoch", epoch).with("seen", self.epoch));
        }
        self.epoch = epoch;
        if self.library != env!("CARGO_PKG_VERSION") {
            self.keys.clear();
            self.library = env!("CARGO_PKG_VERSION").to_owned();
        }
        match self.keys.iter().find(|known| known.name == key.name) {
            Some(known) if known.arguments != key.arguments => {
                let message = "the operation asked for the same with other arguments before";
                Err(Error::conflict(message).with("call", key.name))
            }
            Some(_) => Ok(self),
            None => {
                self.keys.push_back(key);
                if self.keys.len() > KEYS {
                    self.keys.pop_front();
                }
                Ok(self)
            }
        }
    }
}

impl Key {
    fn of(cx: &Cx, call: &Call<'_>) -> Self {
        let mut arguments = String::new();
        for byte in Sha256::digest(format!("{:?}", call.arguments)) {
            // Writing to a string does not fail.
            let _ = write!(arguments, "{byte:02x}");
        }
        Self { name: format!("{}/{}/{}", cx.operation(), cx.step(), call.name), arguments }
    }
}

/// Admits a caller and notes it, or refuses it. Blocks.
///
/// On a full disk a caller who is no newer than the last is admitted without a note, and so is one who removes the
/// instance: that is what makes room.
fn admit(path: &Path, epoch: u64, key: Key, removes: bool) -> Result<()> {
    // Others may be at it, in this process or in another one.
    let _turn = lock(path).map_err(|error| failed(path, error))?;
    let known = read(path)?;
    let next = known.clone().with(epoch, key)?;
    if next == known {
        return Ok(());
    }
    let raised = next.epoch > known.epoch;
    match write(path, &next, raised) {
        Err(error) if error.kind() == Kind::NoSpace && (removes || !raised) => {
            tracing::warn!(path = %path.display(), error = error.report(), "who owns the instance is not noted");
            Ok(())
        }
        written => written,
    }
}

/// The directory of the note, to be held by one at a time.
fn lock(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let directory = File::open(directory)?;
    directory.lock()?;
    Ok(directory)
}

fn read(path: &Path) -> Result<Seen> {
    match fs::read(path) {
        // An instance that nobody may change any more would be worse than one whose former owners are forgotten.
        Ok(note) => Ok(serde_json::from_slice(&note).unwrap_or_else(|error| {
            tracing::warn!(path = %path.display(), %error, "the note of who owns the instance is damaged; begun anew");
            Seen::default()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Seen::default()),
        Err(error) => Err(failed(path, error)),
    }
}

/// Replaces the note. An epoch is on disk before anything is done in it; the last key has to outlive this process only.
fn write(path: &Path, seen: &Seen, raised: bool) -> Result<()> {
    let done = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let draft: PathBuf = path.with_extension("new");
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec(seen)?)?;
        // What was noted before may not be lost for it.
        file.sync_all()?;
        fs::rename(&draft, path)?;
        if raised { File::open(directory)?.sync_all() } else { Ok(()) }
    };
    done().map_err(|error| failed(path, error))
}

fn failed(path: &Path, error: io::Error) -> Error {
    let message = "who owns the instance cannot be noted";
    let told = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::no_space(message),
        _ => Error::unavailable(message),
    };
    told.with("path", path.display()).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{InstanceId, OperationId};

    async fn call(fence: &Fence, cx: &Cx, name: &'static str, arguments: &str, changes: bool) -> Result<()> {
        let call = Call { name, changes, repeatable: true, arguments: &arguments };
        fence.around(cx, &call, &|| Box::pin(async { Ok(()) })).await
    }

    #[tokio::test]
    async fn former_owners_and_keys_used_otherwise_are_refused_by_whoever_reads_the_note() {
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
        let anew = Fence::new(&host);
        call(&anew, &second, "apply", "b", true).await.unwrap();
        assert_eq!(call(&anew, &first, "apply", "b", true).await.unwrap_err().kind(), Kind::Fenced);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_else_has_the_instance_is_heard_of_at_once() {
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
        let seen = read(&directory.path().join(Fence::FILE)).unwrap();
        assert_eq!((seen.epoch, seen.keys.len()), (2, 22));
    }

    #[tokio::test]
    async fn only_so_many_keys_are_kept() {
        let fence = Fence::in_memory();
        for _ in 0..3 * KEYS {
            call(&fence, &Cx::new(OperationId::new_v4(), 1), "apply", "a", true).await.unwrap();
        }
        let Kept::InMemory(seen) = fence.0 else { panic!("it is in memory") };
        assert_eq!(seen.lock().unwrap().keys.len(), KEYS);
    }
}
