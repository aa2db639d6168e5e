use std::sync::Arc;

use async_trait::async_trait;

use super::{Call, Layer};
use crate::{
    datastore::{
        Accounts, Configuration, Cx, Datastore, Driver, GuestHost, Manifest, Prepare, Release, Resize, Upgrade,
    },
    error::{Error, Result},
    model::{
        Database, Flavor, NewDatabase, NewUser, Observed, Page, PageRequest, ParameterCatalog, Settings, User, UserName,
    },
    secret::SecretString,
};

/// A datastore with a layer around every call. It has the abilities of the one inside.
pub struct Layered<L> {
    layer: L,
    inner: Arc<dyn Datastore>,
}

impl<L: Layer> Layered<L> {
    /// This layer around this datastore.
    pub fn new(layer: L, inner: Arc<dyn Datastore>) -> Self {
        Self { layer, inner }
    }
}

/// A driver whose datastores have a layer around them. Made by [`Driver::layer`].
pub struct LayeredDriver<D, F> {
    driver: D,
    layer: F,
}

impl<D, F> LayeredDriver<D, F> {
    pub(crate) fn new(driver: D, layer: F) -> Self {
        Self { driver, layer }
    }
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

/// An ability whose methods ask the layer around the same method of the one inside.
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
                let (changes, repeatable) = ($kind != "looks", $kind != "changes once");
                let call = Call { name, changes, repeatable, arguments: &arguments };
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
    "looks" fn observe() -> Observed;
}
    async fn changed(&self) {
        self.inner.changed().await;
    }

    fn accounts(&self) -> Option<&dyn Accounts> {
        self.inner.accounts().is_some().then_some(self)
    }

    fn configuration(&self) -> Option<&dyn Configuration> {
        self.inner.configuration().is_some().then_some(self)
    }

    fn upgrade(&self) -> Option<&dyn Upgrade> {
        self.inner.upgrade().is_some().then_some(self)
    }

    fn resize(&self) -> Option<&dyn Resize> {
        self.inner.resize().is_some().then_some(self)
    }
);

layered!(Accounts, |inner| inner.accounts(), "accounts.", {
    "changes" fn create_databases(databases: &[NewDatabase]) -> ();
    "looks" fn databases(page: &PageRequest) -> Page<Database>;
    "changes" fn drop_database(name: &str) -> ();
    "changes once" fn create_users(users: &[NewUser]) -> ();
    "looks" fn users(page: &PageRequest) -> Page<User>;
    "looks" fn user(user: &UserName) -> User;
    "changes once" fn rename_user(user: &UserName, to: &UserName) -> ();
    "changes" fn set_password(user: &UserName, password: &SecretString) -> ();
    "changes" fn grant(user: &UserName, databases: &[String]) -> ();
    "changes" fn revoke(user: &UserName, database: &str) -> ();
    "changes" fn drop_user(user: &UserName) -> ();
    "changes" fn enable_root(password: &SecretString) -> String;
    "changes" fn disable_root() -> ();
    "looks" fn root_enabled() -> bool;
});

layered!(Configuration, |inner| inner.configuration(), "configuration.", {
    "looks" fn digest() -> String;
    "looks" fn catalog() -> ParameterCatalog;
    "changes" fn apply(settings: &Settings) -> ();
});

layered!(Upgrade, |inner| inner.upgrade(), "upgrade.", {
    "looks" fn check(to: &Release) -> ();
    "changes" fn upgrade(to: &Release) -> ();
    "changes" fn revert(from: &Release) -> ();
    "changes" fn conclude() -> ();
});

layered!(Resize, |inner| inner.resize(), "resize.", {
    "changes" fn resize(flavor: &Flavor) -> ();
});
