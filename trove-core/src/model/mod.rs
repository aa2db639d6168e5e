//! Plain data that is stored and shown. No behaviour beyond reading it.

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
pub use configuration::{ConfigurationGroup, GivenSettings};
pub use datastore::DatastoreVersion;
pub use event::{Event, EventKind, Progress};
pub use health::{Condition, Disk, Health, Observed, Problem};
pub use instance::{Endpoint, Fault, Flavor, Instance, Status};
pub use operation::{Operation, OperationError, OperationStatus};
pub use parameter::{Catalogue, Parameter, ParameterKind, Setting, Settings, SettingsState};
pub use size::{ByteSize, gib, mib};
