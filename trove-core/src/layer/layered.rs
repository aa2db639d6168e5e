use std::sync::Arc;

use async_trait::async_trait;

use super::{CallInfo, Layer};
use crate::{
    datastore::{
        Abilities, Accounts, Configuration, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Release, Resize,
        Upgrade,
    },
    error::{Error, Result},
    model::{
        Database, Flavor, NewDatabase, NewUser, Observed, Page, PageRequest, ParameterCatalog, Settings, User, UserName,
    },
    secret::SecretString,
};

/// A datastore with a layer around every call. It has the abilities of the inner datastore.
pub struct Layered<L> {
    layer: L,
    inner: Arc<dyn Datastore>,
}

impl<L: Layer> Layered<L> {
    /// Wraps a datastore in a layer.
    pub fn new(layer: L, inner: Arc<dyn Datastore>) -> Self {
        Self { layer, inner }
    }
}

/// Adds layers to drivers.
///
/// ```
/// use trove_core::{datastore::Driver, layer::{Deadline, DriverExt, Trace}};
///
/// fn traced(driver: impl Driver) -> impl Driver {
///     driver.layer(|_| Deadline::default()).layer(|host| Trace::new(host.instance))
/// }
/// ```
pub trait DriverExt: Driver + Sized {
    /// Wraps every datastore of the driver in a [`Layer`], which `layer` creates for each.
    fn layer<L, F>(self, layer: F) -> LayeredDriver<Self, F>
    where
        L: Layer,
        F: Fn(&GuestHost) -> L + Send + Sync + 'static,
    {
        LayeredDriver { driver: self, layer }
    }
}

impl<D: Driver> DriverExt for D {}

/// A driver whose datastores are wrapped in a layer. Created by [`DriverExt::layer`].
pub struct LayeredDriver<D, F> {
    driver: D,
    layer: F,
}

impl<D, F, L> Driver for LayeredDriver<D, F>
where
    D: Driver,
    L: Layer,
    F: Fn(&GuestHost) -> L + Send + Sync + 'static,
{
    fn manifest(&self) -> &Manifest {
        self.driver.manifest()
    }

    fn attach(&self, host: GuestHost) -> Result<Arc<dyn Datastore>> {
        let layer = (self.layer)(&host);
        Ok(Arc::new(Layered::new(layer, self.driver.attach(host)?)))
    }

    fn check_settings(&self, flavor: &Flavor, settings: &Settings) -> Result<()> {
        self.driver.check_settings(flavor, settings)
    }
}

/// Implements a trait so that each method calls the layer around the inner datastore's method.
macro_rules! layered {
    ($ability:ident, $inner:expr, $name:literal, {$(
        $kind:literal fn $method:ident($($argument:ident: $type:ty),*) -> $output:ty;
    )*} $($rest:tt)*) => {
        #[async_trait]
        impl<L: Layer> $ability for Layered<L> {
            $(async fn $method(&self, cx: &Cx $(, $argument: $type)*) -> Result<$output> {
                let find: fn(&dyn Datastore) -> Option<&dyn $ability> = $inner;
                let inner = find(&*self.inner).ok_or_else(|| Error::internal("the datastore lost an ability"))?;
                let arguments = ($($argument,)*);
                let name = concat!($name, stringify!($method));
                let call = CallInfo { name, changes: $kind == "changes", arguments: &arguments };
                self.layer.around(cx, &call, &|| inner.$method(cx $(, $argument)*)).await
            })*
            $($rest)*
        }
    };
}

layered!(Datastore, |inner| Some(inner), "", {
    "changes" fn prepare(spec: &Prepare) -> ();
    "changes" fn start() -> ();
    "changes" fn stop() -> ();
    "changes" fn remove() -> ();
    "reads" fn observe() -> Observed;
}
    async fn changed(&self) {
        self.inner.changed().await;
    }

    fn abilities(&self) -> Abilities<'_> {
        let Abilities { accounts, configuration, upgrade, resize } = self.inner.abilities();
        Abilities {
            accounts: accounts.map(|_| self as &dyn Accounts),
            configuration: configuration.map(|_| self as &dyn Configuration),
            upgrade: upgrade.map(|_| self as &dyn Upgrade),
            resize: resize.map(|_| self as &dyn Resize),
        }
    }
);

layered!(Accounts, |inner| inner.abilities().accounts, "accounts.", {
    "changes" fn create_databases(databases: &[NewDatabase]) -> ();
    "reads" fn databases(page: &PageRequest) -> Page<Database>;
    "changes" fn drop_database(name: &str) -> ();
    "changes" fn create_users(users: &[NewUser]) -> ();
    "reads" fn users(page: &PageRequest) -> Page<User>;
    "reads" fn user(user: &UserName) -> User;
    "changes" fn rename_user(user: &UserName, to: &UserName) -> ();
    "changes" fn set_password(user: &UserName, password: &SecretString) -> ();
    "changes" fn grant(user: &UserName, databases: &[String]) -> ();
    "changes" fn revoke(user: &UserName, database: &str) -> ();
    "changes" fn drop_user(user: &UserName) -> ();
    "changes" fn enable_root(password: &SecretString) -> String;
    "changes" fn disable_root() -> ();
    "reads" fn root_enabled() -> bool;
});

layered!(Configuration, |inner| inner.abilities().configuration, "configuration.", {
    "reads" fn digest() -> String;
    "reads" fn catalog() -> ParameterCatalog;
    "changes" fn apply(settings: &Settings) -> ();
});

layered!(Upgrade, |inner| inner.abilities().upgrade, "upgrade.", {
    "reads" fn check(to: &Release) -> ();
    "changes" fn upgrade(to: &Release) -> ();
    "changes" fn revert(from: &Release) -> ();
    "changes" fn commit() -> ();
});

layered!(Resize, |inner| inner.abilities().resize, "resize.", {
    "changes" fn resize(flavor: &Flavor) -> ();
});
