//! Plain data types that are stored and shown. No behavior beyond accessors.

mod account;
mod configuration;
mod datastore;
mod event;
mod health;
mod instance;
mod operation;
mod parameter;
mod size;

pub use account::{Database, NewDatabase, NewUser, Page, PageRequest, RootChange, User, UserName};
pub use configuration::{AssignedSettings, ConfigurationGroup};
pub use datastore::DatastoreVersion;
pub use event::{Event, EventKind, Progress};
pub use health::{Condition, Disk, Health, Observed, Problem};
pub use instance::{Endpoint, Fault, Flavor, Instance, Status};
pub use operation::{Operation, OperationError, OperationStatus};
pub use parameter::{Parameter, ParameterCatalog, ParameterKind, Setting, Settings, SettingsState};
pub use size::{ByteSize, gib, mib};
