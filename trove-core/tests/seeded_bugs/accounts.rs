//! Bugs in accounts.

use async_trait::async_trait;
use tokio::task::yield_now;
use trove_core::{
    datastore::{Accounts, Cx},
    error::{Error, Kind, Result},
    model::{Database, NewDatabase, NewUser, Page, PageRequest, User, UserName},
    secret::{ExposeSecret, SecretString},
};

use crate::{
    bugs::Bug,
    driver::{BuggyDatastore, new_operation},
};

const ALL: PageRequest = PageRequest { limit: 1000, after: None };

impl BuggyDatastore {
    /// Returns a name as the buggy driver passes it to the server.
    fn name(&self, name: &str) -> String {
        match self.seeded.bug {
            Bug::TruncatesNames => name.chars().take(20).collect(),
            Bug::LowercasesNames => name.to_lowercase(),
            Bug::EscapesQuotesTwice => name.replace('\'', "''"),
            Bug::StripsCommentsFromNames => name.split("--").next().unwrap_or_default().to_owned(),
            Bug::StripsBackslashes => name.replace('\\', ""),
            Bug::CollapsesSpaces => name.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
            Bug::StripsInvisibleCharacters => name.replace(['\u{200b}', '\u{202e}', '\u{feff}', '\u{ad}'], ""),
            Bug::DecodesPercentEscapes => name.replace("%41", "A"),
            _ => name.to_owned(),
        }
    }

    fn user_name(&self, user: &UserName) -> UserName {
        UserName { name: self.name(&user.name), host: user.host.clone() }
    }

    /// Returns a password as the buggy driver passes it to the server.
    fn password(&self, password: &SecretString) -> SecretString {
        let text = password.expose_secret();
        match self.seeded.bug {
            Bug::TruncatesPasswords => text.chars().take(72).collect::<String>().into(),
            Bug::TrimsPasswords => text.trim().into(),
            Bug::RehashesPasswordsThatLookHashed if text.starts_with("md5") => "hashed".into(),
            _ => password.clone(),
        }
    }

    fn new_user(&self, user: &NewUser) -> NewUser {
        let mut new = NewUser::new(self.user_name(&user.user), self.password(&user.password));
        new.databases = user.databases.iter().map(|name| self.name(name)).collect();
        new
    }

    /// Changes the kind of errors, if the bug does.
    fn map_error<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if self.has(Bug::ReportsNotFoundAsInternal) && error.kind() == Kind::NotFound => {
                Err(Error::internal(error.to_string()))
            }
            other => other,
        }
    }

    async fn all_databases(&self, cx: &Cx) -> Result<Vec<Database>> {
        Ok(self.accounts().databases(cx, &ALL).await?.items)
    }

    async fn all_users(&self, cx: &Cx) -> Result<Vec<User>> {
        let hidden = self.seeded.state().hidden_users.clone();
        let users = self.accounts().users(cx, &ALL).await?.items;
        Ok(users.into_iter().filter(|user| !hidden.contains(&user.user)).collect())
    }

    async fn exists(&self, cx: &Cx, user: &UserName) -> Result<bool> {
        Ok(self.all_users(cx).await?.iter().any(|found| found.user == *user))
    }

    /// Returns the databases on which the buggy driver grants a privilege.
    async fn databases_to_grant(&self, cx: &Cx, databases: &[String]) -> Result<Vec<String>> {
        let applies = |database: &Database| match self.seeded.bug {
            Bug::GrantsAllDatabases => true,
            Bug::TreatsNamesAsPatterns => databases.iter().any(|pattern| matches(pattern, &database.name)),
            _ => false,
        };
        let existing = self.all_databases(cx).await?;
        let grants =
            |name: &&String| !self.has(Bug::GrantsPartially) || existing.iter().any(|database| database.name == **name);
        let requested: Vec<_> = databases.iter().filter(grants).cloned().collect();
        let more = existing.into_iter().filter(applies).map(|database| database.name);
        Ok(requested.into_iter().chain(more).collect())
    }

    pub(crate) async fn drop_accounts(&self, cx: &Cx) -> Result<()> {
        for user in self.all_users(cx).await? {
            if user.user.name != "app" {
                self.accounts().drop_user(&new_operation(cx), &user.user).await?;
            }
        }
        Ok(())
    }
}

/// Returns whether a name matches an SQL `LIKE` pattern.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('%'), _) => {
            matches(&pattern[1..], name)
                || name.chars().next().is_some_and(|first| matches(pattern, &name[first.len_utf8()..]))
        }
        (Some(expected), Some(first)) if expected == '_' || expected == first => {
            matches(&pattern[expected.len_utf8()..], &name[first.len_utf8()..])
        }
        _ => false,
    }
}

#[async_trait]
impl Accounts for BuggyDatastore {
    async fn create_databases(&self, cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let mut new = Vec::new();
        for database in databases {
            let mut requested = NewDatabase::new(self.name(&database.name));
            if !self.has(Bug::IgnoresCharacterSets) {
                (requested.character_set, requested.collation) =
                    (database.character_set.clone(), database.collation.clone());
            }
            new.push(requested);
        }
        let existing = self.all_databases(cx).await?;
        let exists = |name: &str| existing.iter().any(|database| database.name == name);
        if self.has(Bug::FailsToCreateExistingDatabase) && new.iter().any(|database| exists(&database.name)) {
            return Err(Error::conflict("the database exists"));
        }
        if self.has(Bug::EmptiesExistingDatabaseOnCreate) {
            for database in new.iter().filter(|database| exists(&database.name)) {
                inner.drop_database(&new_operation(cx), &database.name).await?;
            }
        }
        inner.create_databases(cx, &new).await?;
        let privileges = self.seeded.state().dangling_privileges.clone();
        for (user, database) in privileges.iter().filter(|(_, name)| new.iter().any(|new| new.name == *name)) {
            // Fails if the user was dropped.
            let _ = inner.grant(&new_operation(cx), user, std::slice::from_ref(database)).await;
        }
        Ok(())
    }

    async fn databases(&self, cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        let cx = &self.cx(cx);
        if self.has(Bug::SortsCaseInsensitively) && page.after.is_none() {
            let mut all = self.all_databases(cx).await?;
            all.sort_by_key(|database| database.name.to_lowercase());
            return Ok(Page { items: all, next: None });
        }
        self.accounts().databases(cx, page).await
    }

    async fn drop_database(&self, cx: &Cx, name: &str) -> Result<()> {
        let (cx, inner, name) = (&self.cx(cx), self.accounts(), &self.name(name));
        if self.has(Bug::KeepsPrivilegesOnDroppedDatabase) {
            let users = self.all_users(cx).await?.into_iter().filter(|user| user.databases.contains(name));
            let privileges = users.map(|user| (user.user, name.clone()));
            self.seeded.state().dangling_privileges.extend(privileges);
        }
        if self.has(Bug::DropsDatabasesByPrefix) {
            for database in self.all_databases(cx).await?.iter().filter(|found| found.name.starts_with(name)) {
                inner.drop_database(&new_operation(cx), &database.name).await?;
            }
        }
        match inner.drop_database(cx, name).await {
            Err(error) if self.has(Bug::PretendsToDropSystemDatabase) && error.kind() == Kind::Invalid => Ok(()),
            result => result,
        }
    }

    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let mut new: Vec<_> = users.iter().map(|user| self.new_user(user)).collect();
        match self.seeded.bug {
            Bug::GrantsAllDatabases | Bug::TreatsNamesAsPatterns => {
                for user in new.iter_mut().filter(|user| !user.databases.is_empty()) {
                    user.databases = self.databases_to_grant(cx, &user.databases).await?;
                }
            }
            Bug::OverwritesExistingUser => {
                for user in &new {
                    inner.drop_user(&new_operation(cx), &user.user).await?;
                }
            }
            Bug::ChecksExistenceBeforeCreate => {
                for user in &new {
                    if self.exists(cx, &user.user).await? {
                        return Err(Error::conflict("the user exists"));
                    }
                }
                if inner.create_users(&new_operation(cx), &new).await.is_err() {
                    for user in &new {
                        inner.set_password(&new_operation(cx), &user.user, &user.password).await?;
                    }
                }
                return Ok(());
            }
            Bug::CreatesUsersNonAtomically => {
                for user in &new {
                    inner.create_users(&new_operation(cx), std::slice::from_ref(user)).await?;
                }
                return Ok(());
            }
            Bug::CannotRecoverCancelledCall => {
                // If the call is dropped between the two steps, a repeated call fails.
                let (first, rest) = new.split_at(new.len().min(1));
                for NewUser { user, .. } in rest {
                    if self.exists(cx, user).await? {
                        return Err(Error::conflict("the user exists"));
                    }
                }
                inner.create_users(&new_operation(cx), first).await?;
                if let Err(error) = inner.create_users(&new_operation(cx), rest).await {
                    for user in first {
                        inner.drop_user(&new_operation(cx), &user.user).await?;
                    }
                    return Err(error);
                }
                return Ok(());
            }
            Bug::LeaksPasswordInError => {
                let passwords: String = new.iter().map(|user| user.password.expose_secret()).collect();
                return inner.create_users(cx, &new).await.map_err(|error| error.with("passwords", passwords));
            }
            Bug::SwallowsCreateUsersErrors => {
                let _ = inner.create_users(cx, &new).await;
                return Ok(());
            }
            _ => {}
        }
        inner.create_users(cx, &new).await
    }

    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        if self.has(Bug::FencesReads) && cx.epoch() == 0 {
            return Err(Error::fenced("the epoch is stale"));
        }
        if self.has(Bug::PaginatesByOffset) {
            let offset = page.after.as_ref().and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
            let (all, limit) = (self.all_users(cx).await?, page.limit as usize);
            let next = Some(offset + limit).filter(|next| *next < all.len()).map(|next| next.to_string());
            return Ok(Page { items: all.into_iter().skip(offset).take(limit).collect(), next });
        }
        let mut users = inner.users(cx, page).await?;
        match self.seeded.bug {
            Bug::SkipsEntryBetweenPages if page.after.is_some() && users.items.len() > 1 => {
                users.items.remove(0);
            }
            Bug::NeverEndsPagination if users.next.is_none() => {
                users.next = users.items.last().map(|user| format!("{}@", user.user.name));
            }
            Bug::ListsRootUser if page.after.is_none() && inner.root_enabled(cx).await? => {
                users.items.insert(0, User::new("root", Vec::new()));
            }
            Bug::ListsSystemUsers if page.after.is_none() => {
                users.items.insert(0, User::new("system", Vec::new()));
            }
            Bug::HidesUserBeforeDrop => {
                let hidden = self.seeded.state().hidden_users.clone();
                users.items.retain(|user| !hidden.contains(&user.user));
            }
            _ => {}
        }
        Ok(users)
    }

    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User> {
        let user = &self.user_name(user);
        if self.has(Bug::HidesUserBeforeDrop) && self.seeded.state().hidden_users.contains(user) {
            return Err(Error::not_found("the user does not exist"));
        }
        self.map_error(self.accounts().user(&self.cx(cx), user).await)
    }

    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let (user, to) = (&self.user_name(user), &self.user_name(to));
        if self.has(Bug::OverwritesUserOnRename) && user != to {
            inner.drop_user(&new_operation(cx), to).await?;
        }
        if self.has(Bug::LosesPrivilegesOnRename) {
            for database in inner.user(cx, user).await?.databases {
                inner.revoke(&new_operation(cx), user, &database).await?;
            }
        }
        inner.rename_user(cx, user, to).await
    }

    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let (outer, cx, inner) = (cx, &self.cx(cx), self.accounts());
        let (user, new) = (&self.user_name(user), &self.password(password));
        match self.seeded.bug {
            Bug::SetsPasswordOnlyOnce => {
                if self.seeded.current_password(&user.name, "").is_some() {
                    return Ok(());
                }
                self.seeded.accept_password(user, "", new);
            }
            Bug::AcceptsOldPassword => {
                self.seeded.accept_password(user, "secret", new);
            }
            Bug::EndsSessionsOnPasswordChange => self.seeded.state().sessions_fail = true,
            Bug::LeaksPasswordInProgress => outer.phase(password.expose_secret()),
            Bug::LogsPassword => self.seeded.log_password(password),
            Bug::LeaksLockOnCancellation => {
                while self.seeded.state().locked {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                self.seeded.state().locked = true;
            }
            _ => {}
        }
        let result = inner.set_password(cx, user, new).await;
        self.seeded.state().locked = false;
        self.map_error(result)
    }

    async fn grant(&self, cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        let cx = &self.cx(cx);
        let databases: Vec<_> = databases.iter().map(|name| self.name(name)).collect();
        let granted = self.databases_to_grant(cx, &databases).await?;
        self.map_error(self.accounts().grant(cx, &self.user_name(user), &granted).await)?;
        match granted.len() < databases.len() {
            true => Err(Error::not_found("some databases do not exist")),
            false => Ok(()),
        }
    }

    async fn revoke(&self, cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let (user, database) = (&self.user_name(user), &self.name(database));
        match self.seeded.bug {
            Bug::IgnoresRevoke => return inner.user(cx, user).await.map(drop),
            Bug::KeepsSessionsOnRevoke => self.seeded.keep_sessions_open(),
            Bug::RevokesAllPrivileges => {
                for database in inner.user(cx, user).await?.databases {
                    inner.revoke(&new_operation(cx), user, &database).await?;
                }
            }
            _ => {}
        }
        self.map_error(inner.revoke(cx, user, database).await)
    }

    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()> {
        let (cx, inner, user) = (&self.cx(cx), self.accounts(), &self.user_name(user));
        match self.seeded.bug {
            Bug::IgnoresDropUser => return Ok(()),
            Bug::KeepsSessionsOfDroppedUser => self.seeded.keep_sessions_open(),
            Bug::FailsToDropAbsentUser => inner.user(cx, user).await.map(drop)?,
            Bug::DropsUsersByPrefix => {
                for other in self.all_users(cx).await? {
                    if other.user.name.starts_with(&user.name) {
                        inner.drop_user(&new_operation(cx), &other.user).await?;
                    }
                }
            }
            Bug::HidesUserBeforeDrop => {
                // The user is hidden before it is dropped, so that a repeated call does nothing.
                if self.seeded.state().hidden_users.contains(user) {
                    return Ok(());
                }
                self.seeded.state().hidden_users.push(user.clone());
                yield_now().await;
                inner.drop_user(cx, user).await?;
                self.seeded.state().hidden_users.retain(|other| other != user);
                return Ok(());
            }
            _ => {}
        }
        inner.drop_user(cx, user).await
    }

    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        match self.seeded.bug {
            Bug::KeepsFirstRootPassword if inner.root_enabled(cx).await? => return Ok("root".to_owned()),
            Bug::CachesRootStateInProcess => *self.root_enabled.lock() = true,
            _ => {}
        }
        inner.enable_root(cx, &self.password(password)).await
    }

    async fn disable_root(&self, cx: &Cx) -> Result<()> {
        match self.seeded.bug {
            Bug::LeavesRootEnabled => return Ok(()),
            Bug::KeepsRootSessions => self.seeded.keep_sessions_open(),
            Bug::CachesRootStateInProcess => *self.root_enabled.lock() = false,
            _ => {}
        }
        self.accounts().disable_root(&self.cx(cx)).await
    }

    async fn root_enabled(&self, cx: &Cx) -> Result<bool> {
        if self.has(Bug::CachesRootStateInProcess) {
            return Ok(*self.root_enabled.lock());
        }
        self.accounts().root_enabled(&self.cx(cx)).await
    }
}
