//! Bugs of accounts.

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
    driver::{Faulty, another},
};

const ALL: PageRequest = PageRequest { limit: 1000, after: None };

impl Faulty {
    /// What the driver makes of a name.
    fn name(&self, name: &str) -> String {
        match self.faults.bug {
            Bug::CutsNames => name.chars().take(20).collect(),
            Bug::LowersNames => name.to_lowercase(),
            Bug::DoublesQuotes => name.replace('\'', "''"),
            Bug::EndsNamesAtComments => name.split("--").next().unwrap_or_default().to_owned(),
            Bug::TakesBackslashesForEscapes => name.replace('\\', ""),
            Bug::JoinsSpaces => name.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
            Bug::DropsInvisibleLetters => name.replace(['\u{200b}', '\u{202e}', '\u{feff}', '\u{ad}'], ""),
            Bug::ReadsPercentEscapes => name.replace("%41", "A"),
            _ => name.to_owned(),
        }
    }

    fn user_name(&self, user: &UserName) -> UserName {
        UserName { name: self.name(&user.name), host: user.host.clone() }
    }

    /// What the driver makes of a password.
    fn password(&self, password: &SecretString) -> SecretString {
        let text = password.expose_secret();
        match self.faults.bug {
            Bug::CutsLongPasswords => text.chars().take(72).collect::<String>().into(),
            Bug::TrimsPasswords => text.trim().into(),
            Bug::HashesWhatLooksLikeAHashAgain if text.starts_with("md5") => "hashed".into(),
            _ => password.clone(),
        }
    }

    fn new_user(&self, user: &NewUser) -> NewUser {
        let mut new = NewUser::new(self.user_name(&user.user), self.password(&user.password));
        new.databases = user.databases.iter().map(|name| self.name(name)).collect();
        new
    }

    /// What a driver that swallows or changes errors says.
    fn said<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if self.has(Bug::SaysInternalForNotFound) && error.kind() == Kind::NotFound => {
                Err(Error::internal(error.to_string()))
            }
            other => other,
        }
    }

    async fn all_databases(&self, cx: &Cx) -> Result<Vec<Database>> {
        Ok(self.accounts().databases(cx, &ALL).await?.items)
    }

    async fn all_users(&self, cx: &Cx) -> Result<Vec<User>> {
        let shut_out = self.faults.state().shut_out.clone();
        let users = self.accounts().users(cx, &ALL).await?.items;
        Ok(users.into_iter().filter(|user| !shut_out.contains(&user.user)).collect())
    }

    async fn exists(&self, cx: &Cx, user: &UserName) -> Result<bool> {
        Ok(self.all_users(cx).await?.iter().any(|found| found.user == *user))
    }

    /// The databases that a right on one opens, too.
    async fn opened(&self, cx: &Cx, databases: &[String]) -> Result<Vec<String>> {
        let fits = |database: &Database| match self.faults.bug {
            Bug::GrantsAllDatabases => true,
            Bug::TakesNamesForPatterns => databases.iter().any(|pattern| matches(pattern, &database.name)),
            _ => false,
        };
        let more = self.all_databases(cx).await?.into_iter().filter(fits).map(|database| database.name);
        let there = self.all_databases(cx).await?;
        let can =
            |name: &&String| !self.has(Bug::GrantsWhatItCan) || there.iter().any(|database| database.name == ***name);
        Ok(databases.iter().filter(can).cloned().chain(more).collect())
    }

    pub(crate) async fn forget_accounts(&self, cx: &Cx) -> Result<()> {
        for user in self.all_users(cx).await? {
            if user.user.name != "app" {
                self.accounts().drop_user(&another(cx), &user.user).await?;
            }
        }
        Ok(())
    }
}

/// True where a name is of a pattern of SQL.
fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.chars().next(), name.chars().next()) {
        (None, None) => true,
        (Some('%'), _) => {
            matches(&pattern[1..], name)
                || name.chars().next().is_some_and(|first| matches(pattern, &name[first.len_utf8()..]))
        }
        (Some(wanted), Some(first)) if wanted == '_' || wanted == first => {
            matches(&pattern[wanted.len_utf8()..], &name[first.len_utf8()..])
        }
        _ => false,
    }
}

#[async_trait]
impl Accounts for Faulty {
    async fn create_databases(&self, cx: &Cx, databases: &[NewDatabase]) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let mut new = Vec::new();
        for database in databases {
            let mut asked = NewDatabase::new(self.name(&database.name));
            if !self.has(Bug::IgnoresCharacterSets) {
                (asked.character_set, asked.collation) = (database.character_set.clone(), database.collation.clone());
            }
            new.push(asked);
        }
        let there = self.all_databases(cx).await?;
        let known = |name: &str| there.iter().any(|database| database.name == name);
        if self.has(Bug::CannotCreateADatabaseAgain) && new.iter().any(|database| known(&database.name)) {
            return Err(Error::conflict("the database exists"));
        }
        if self.has(Bug::EmptiesADatabaseCreatedAgain) {
            for database in new.iter().filter(|database| known(&database.name)) {
                inner.drop_database(&another(cx), &database.name).await?;
            }
        }
        inner.create_databases(cx, &new).await?;
        let rights = self.faults.state().rights.clone();
        for (user, database) in rights.iter().filter(|(_, name)| new.iter().any(|new| new.name == *name)) {
            // Its user may be gone.
            let _ = inner.grant(&another(cx), user, std::slice::from_ref(database)).await;
        }
        Ok(())
    }

    async fn databases(&self, cx: &Cx, page: &PageRequest) -> Result<Page<Database>> {
        let cx = &self.cx(cx);
        if self.has(Bug::ListsWithoutRegardToCase) && page.after.is_none() {
            let mut all = self.all_databases(cx).await?;
            all.sort_by_key(|database| database.name.to_lowercase());
            return Ok(Page { items: all, next: None });
        }
        self.accounts().databases(cx, page).await
    }

    async fn drop_database(&self, cx: &Cx, name: &str) -> Result<()> {
        let (cx, inner, name) = (&self.cx(cx), self.accounts(), &self.name(name));
        if self.has(Bug::KeepsRightsOnADroppedDatabase) {
            let users = self.all_users(cx).await?.into_iter().filter(|user| user.databases.contains(name));
            let rights = users.map(|user| (user.user, name.clone()));
            self.faults.state().rights.extend(rights);
        }
        if self.has(Bug::DropsDatabasesByPrefix) {
            for database in self.all_databases(cx).await?.iter().filter(|found| found.name.starts_with(name)) {
                inner.drop_database(&another(cx), &database.name).await?;
            }
        }
        match inner.drop_database(cx, name).await {
            Err(error) if self.has(Bug::PretendsToDropTheEnginesOwn) && error.kind() == Kind::Invalid => Ok(()),
            dropped => dropped,
        }
    }

    async fn create_users(&self, cx: &Cx, users: &[NewUser]) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let mut new: Vec<_> = users.iter().map(|user| self.new_user(user)).collect();
        match self.faults.bug {
            Bug::GrantsAllDatabases | Bug::TakesNamesForPatterns => {
                for user in new.iter_mut().filter(|user| !user.databases.is_empty()) {
                    user.databases = self.opened(cx, &user.databases).await?;
                }
            }
            Bug::OverwritesAUserThatExists => {
                for user in &new {
                    inner.drop_user(&another(cx), &user.user).await?;
                }
            }
            Bug::LooksBeforeItCreates => {
                for user in &new {
                    if self.exists(cx, &user.user).await? {
                        return Err(Error::conflict("the user exists"));
                    }
                }
                if inner.create_users(&another(cx), &new).await.is_err() {
                    for user in &new {
                        inner.set_password(&another(cx), &user.user, &user.password).await?;
                    }
                }
                return Ok(());
            }
            Bug::CreatesUsersOneByOne => {
                for user in &new {
                    inner.create_users(&another(cx), std::slice::from_ref(user)).await?;
                }
                return Ok(());
            }
            Bug::LosesACancelledCall => {
                // Only a caller who waits sees it end.
                let (first, rest) = new.split_at(new.len().min(1));
                let last = rest.iter().map(|user| &user.user);
                for user in last {
                    if self.exists(cx, user).await? {
                        return Err(Error::conflict("the user exists"));
                    }
                }
                inner.create_users(&another(cx), first).await?;
                if let Err(error) = inner.create_users(&another(cx), rest).await {
                    for user in first {
                        inner.drop_user(&another(cx), &user.user).await?;
                    }
                    return Err(error);
                }
                return Ok(());
            }
            Bug::TellsAPasswordInAnError => {
                let told: String = new.iter().map(|user| user.password.expose_secret()).collect();
                return inner.create_users(cx, &new).await.map_err(|error| error.with("passwords", told));
            }
            Bug::SwallowsErrorsOfCreateUsers => {
                let _ = inner.create_users(cx, &new).await;
                return Ok(());
            }
            _ => {}
        }
        inner.create_users(cx, &new).await
    }

    async fn users(&self, cx: &Cx, page: &PageRequest) -> Result<Page<User>> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        if self.has(Bug::FencesThoseWhoLook) && cx.epoch() == 0 {
            return Err(Error::fenced("another owner has taken the instance over"));
        }
        if self.has(Bug::CountsEntriesForPages) {
            let from = page.after.as_ref().and_then(|after| after.parse::<usize>().ok()).unwrap_or_default();
            let (all, limit) = (self.all_users(cx).await?, page.limit as usize);
            let next = Some(from + limit).filter(|next| *next < all.len()).map(|next| next.to_string());
            return Ok(Page { items: all.into_iter().skip(from).take(limit).collect(), next });
        }
        let mut found = inner.users(cx, page).await?;
        match self.faults.bug {
            Bug::SkipsAnEntryBetweenPages if page.after.is_some() && found.items.len() > 1 => {
                found.items.remove(0);
            }
            Bug::NeverEndsItsPages if found.next.is_none() => {
                found.next = found.items.last().map(|user| format!("{}@", user.user.name));
            }
            Bug::ListsRoot if page.after.is_none() && inner.root_enabled(cx).await? => {
                found.items.insert(0, User::new("root", Vec::new()));
            }
            Bug::TellsOfTheEnginesOwnUsers if page.after.is_none() => {
                found.items.insert(0, User::new("system", Vec::new()));
            }
            Bug::ShutsOutBeforeItDrops => {
                let shut_out = self.faults.state().shut_out.clone();
                found.items.retain(|user| !shut_out.contains(&user.user));
            }
            _ => {}
        }
        Ok(found)
    }

    async fn user(&self, cx: &Cx, user: &UserName) -> Result<User> {
        let user = &self.user_name(user);
        if self.has(Bug::ShutsOutBeforeItDrops) && self.faults.state().shut_out.contains(user) {
            return Err(Error::not_found("there is no such user"));
        }
        self.said(self.accounts().user(&self.cx(cx), user).await)
    }

    async fn rename_user(&self, cx: &Cx, user: &UserName, to: &UserName) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let (user, to) = (&self.user_name(user), &self.user_name(to));
        if self.has(Bug::RenamesOverAnother) && user != to {
            inner.drop_user(&another(cx), to).await?;
        }
        if self.has(Bug::RenamingLosesRights) {
            for database in inner.user(cx, user).await?.databases {
                inner.revoke(&another(cx), user, &database).await?;
            }
        }
        inner.rename_user(cx, user, to).await
    }

    async fn set_password(&self, cx: &Cx, user: &UserName, password: &SecretString) -> Result<()> {
        let (outer, cx, inner) = (cx, &self.cx(cx), self.accounts());
        let (user, new) = (&self.user_name(user), &self.password(password));
        match self.faults.bug {
            Bug::SetsAPasswordOnlyOnce => {
                if self.faults.present_password(&user.name, "").is_some() {
                    return Ok(());
                }
                self.faults.remember_password(user, "", new);
            }
            Bug::LetsTheOldPasswordIn => {
                self.faults.remember_password(user, "secret", new);
            }
            Bug::EndsSessionsWithAPassword => self.faults.state().sessions_end = true,
            Bug::TellsAPasswordInProgress => outer.phase(password.expose_secret()),
            Bug::LogsAPassword => self.faults.note(password),
            Bug::HoldsALockForEver => {
                while self.faults.state().locked {
                    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                }
                self.faults.state().locked = true;
            }
            _ => {}
        }
        let done = inner.set_password(cx, user, new).await;
        self.faults.state().locked = false;
        self.said(done)
    }

    async fn grant(&self, cx: &Cx, user: &UserName, databases: &[String]) -> Result<()> {
        let cx = &self.cx(cx);
        let databases: Vec<_> = databases.iter().map(|name| self.name(name)).collect();
        let opened = self.opened(cx, &databases).await?;
        self.said(self.accounts().grant(cx, &self.user_name(user), &opened).await)?;
        match opened.len() < databases.len() {
            true => Err(Error::not_found("some databases are not there")),
            false => Ok(()),
        }
    }

    async fn revoke(&self, cx: &Cx, user: &UserName, database: &str) -> Result<()> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        let (user, database) = (&self.user_name(user), &self.name(database));
        match self.faults.bug {
            Bug::ForgetsToRevoke => return inner.user(cx, user).await.map(drop),
            Bug::RevokesButNotTheSessions => self.faults.keep_sessions(),
            Bug::RevokesEverything => {
                for database in inner.user(cx, user).await?.databases {
                    inner.revoke(&another(cx), user, &database).await?;
                }
            }
            _ => {}
        }
        self.said(inner.revoke(cx, user, database).await)
    }

    async fn drop_user(&self, cx: &Cx, user: &UserName) -> Result<()> {
        let (cx, inner, user) = (&self.cx(cx), self.accounts(), &self.user_name(user));
        match self.faults.bug {
            Bug::ForgetsToDropAUser => return Ok(()),
            Bug::DropsAUserButNotItsSessions => self.faults.keep_sessions(),
            Bug::CannotDropAnAbsentUser => inner.user(cx, user).await.map(drop)?,
            Bug::DropsUsersByPrefix => {
                for other in self.all_users(cx).await? {
                    if other.user.name.starts_with(&user.name) {
                        inner.drop_user(&another(cx), &other.user).await?;
                    }
                }
            }
            Bug::ShutsOutBeforeItDrops => {
                // It is out of sight before it is gone; a second call then finds nothing to do.
                if self.faults.state().shut_out.contains(user) {
                    return Ok(());
                }
                self.faults.state().shut_out.push(user.clone());
                yield_now().await;
                inner.drop_user(cx, user).await?;
                self.faults.state().shut_out.retain(|other| other != user);
                return Ok(());
            }
            _ => {}
        }
        inner.drop_user(cx, user).await
    }

    async fn enable_root(&self, cx: &Cx, password: &SecretString) -> Result<String> {
        let (cx, inner) = (&self.cx(cx), self.accounts());
        match self.faults.bug {
            Bug::KeepsRootsFirstPassword if inner.root_enabled(cx).await? => return Ok("root".to_owned()),
            Bug::RemembersRootItself => *self.root.lock().expect("nothing panics with it") = true,
            _ => {}
        }
        inner.enable_root(cx, &self.password(password)).await
    }

    async fn disable_root(&self, cx: &Cx) -> Result<()> {
        match self.faults.bug {
            Bug::LeavesRootEnabled => return Ok(()),
            Bug::LeavesRootsSessions => self.faults.keep_sessions(),
            Bug::RemembersRootItself => *self.root.lock().expect("nothing panics with it") = false,
            _ => {}
        }
        self.accounts().disable_root(&self.cx(cx)).await
    }

    async fn root_enabled(&self, cx: &Cx) -> Result<bool> {
        if self.has(Bug::RemembersRootItself) {
            return Ok(*self.root.lock().expect("nothing panics with it"));
        }
        self.accounts().root_enabled(&self.cx(cx)).await
    }
}
