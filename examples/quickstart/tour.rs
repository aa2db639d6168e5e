//! The tour: the main operations on an instance, once each.

use trove_core::{
    control::{InstanceHandle, NewInstance},
    error::{Error, Kind, Result},
    id::InstanceId,
    model::{NewDatabase, NewUser, PageRequest},
    secret::{SecretString, generate_password},
};

use crate::{Options, client::Connection, configure::configure, report::Report, service::Service};

const ROWS: usize = 1000;
const PASSWORD_LENGTH: usize = 22;

/// A user of an instance, and its database if the datastore has databases.
pub(crate) struct App {
    user: &'static str,
    database: Option<&'static str>,
    password: SecretString,
}

impl App {
    fn new(user: &'static str, database: Option<&'static str>) -> Result<Self> {
        Ok(Self { user, database, password: generate_password(PASSWORD_LENGTH)? })
    }

    pub(crate) async fn connect(&self, instance: &InstanceHandle) -> Result<Connection> {
        Connection::open(instance, self.database, self.user, &self.password).await
    }
}

/// Creates the instance, uses it, changes it and restarts it.
pub(crate) async fn take(options: &Options, service: &Service, id: InstanceId, report: &Report) -> Result<()> {
    let datastores = service.trove.datastores();
    let rules = &datastores.manifest(&options.datastore)?.accounts;
    let has_databases = rules.as_ref().is_some_and(|rules| rules.databases);
    let app = App::new("app", has_databases.then_some("app"))?;
    let mut new = NewInstance::new("quickstart", &options.datastore).id(id);
    if let Some(database) = app.database {
        new = new.database(database);
    }
    new = new.user(app.user, app.password.clone());
    if let Some(version) = &options.version {
        new = new.version(version);
    }
    let phase = report.phase("create");
    let create = async { service.trove.create(new).await?.active().await };
    let instance = report.follow(service, create).await?;
    phase.end(&format!("{} is {}", instance.id, instance.status()));
    report.uri(&instance.uri(app.database)?.user(app.user));

    let phase = report.phase("use");
    let mut client = app.connect(&instance).await?;
    client.write(ROWS).await?;
    expect_rows(client.read(ROWS).await?)?;
    phase.end(&format!("{} {}: wrote and read {ROWS} rows", options.datastore, client.version().await?));

    let phase = report.phase("accounts");
    add_accounts(&instance, &App::new("analyst", has_databases.then_some("reports"))?).await?;
    phase.end(&format!("created and used a second {}user", if has_databases { "database and " } else { "" }));

    let phase = report.phase("restart");
    let instance = report.follow(service, async { instance.restart().await?.active().await }).await?;
    expect_rows(app.connect(&instance).await?.read(ROWS).await?)?;
    phase.end(&format!("read {ROWS} rows again"));

    let phase = report.phase("configure");
    phase.end(&configure(options, service, &instance, &app, report).await?);

    if options.keep {
        service.home.write_access(&instance, app.database, app.user, &app.password)?;
    }
    Ok(())
}

/// Deletes the instance and verifies that no resources are left.
pub(crate) async fn delete(service: &Service, id: InstanceId, report: &Report) -> Result<()> {
    let phase = report.phase("delete");
    match service.trove.instance(id).await {
        Ok(instance) => report.follow(service, async { instance.delete().await?.wait().await }).await?,
        // Its creation was rejected.
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => return Err(error),
    }
    let left = service.platform.inventory().await?;
    if !left.is_empty() || !service.trove.instances(None, None, 1).await?.is_empty() {
        return Err(Error::internal(format!("resources are left behind: {}", left.join(", "))));
    }
    phase.end("no container, network, port, directory or row is left");
    Ok(())
}

async fn add_accounts(instance: &InstanceHandle, analyst: &App) -> Result<()> {
    let accounts = instance.accounts();
    let mut user = NewUser::new(analyst.user, analyst.password.clone());
    if let Some(database) = analyst.database {
        accounts.create_databases([NewDatabase::new(database)]).await?;
        user = user.granted(database);
    }
    accounts.create_users([user]).await?;
    let mut client = analyst.connect(instance).await?;
    client.write(ROWS).await?;
    expect_rows(client.read(ROWS).await?)?;
    let names: Vec<_> =
        accounts.users(PageRequest::default()).await?.items.into_iter().map(|user| user.user.name).collect();
    if names == ["analyst", "app"] { Ok(()) } else { Err(Error::internal(format!("unexpected users {names:?}"))) }
}

fn expect_rows(rows: usize) -> Result<()> {
    if rows == ROWS { Ok(()) } else { Err(Error::internal(format!("read {rows} rows instead of {ROWS}"))) }
}
