//! Accounts: who a child runs as, and who owns a file.

use crate::domain::Fault;
use std::path::PathBuf;

/// A user of the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Numeric user.
    pub uid: u32,
    /// Numeric primary group.
    pub gid: u32,
    /// Name.
    pub name: String,
    /// Home directory.
    pub home: PathBuf,
}

impl Account {
    /// Looks a name up in the user database.
    ///
    /// # Errors
    /// What the system said; `Ok(None)` when there is no such user.
    pub fn named(name: &str) -> nix::Result<Option<Self>> {
        Ok(nix::unistd::User::from_name(name)?.map(|user| Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            name: user.name,
            home: user.dir,
        }))
    }

    /// Ourselves; an arbitrary uid (`docker run --user 12345`) has no name in the user database.
    #[must_use]
    pub fn ours() -> Self {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        match nix::unistd::User::from_uid(uid) {
            Ok(Some(user)) => Self {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                name: user.name,
                home: user.dir,
            },
            Ok(None) | Err(_) => Self {
                uid: uid.as_raw(),
                gid: gid.as_raw(),
                name: format!("uid{uid}"),
                home: PathBuf::from("/"),
            },
        }
    }

    /// Whether a child must change to this account: we are somebody else.
    #[must_use]
    pub fn must_switch(&self) -> bool {
        nix::unistd::geteuid().as_raw() != self.uid || nix::unistd::getegid().as_raw() != self.gid
    }
}

/// The accounts that a node uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accounts {
    /// Whether we can be anybody: started as root.
    pub root: bool,
    /// Runs postgres, repmgr, repmgrd; owns PGDATA.
    pub postgres: Account,
    /// Runs barman; owns the backups.
    pub barman: Account,
}

impl Accounts {
    /// Those of the image; everything is ours where we are not root and cannot change.
    ///
    /// # Errors
    /// An account that is missing, or a user database that cannot be read.
    pub fn find() -> Result<Self, Fault> {
        let root = nix::unistd::geteuid().is_root();
        if !root {
            let ours = Account::ours();
            return Ok(Self {
                root,
                postgres: ours.clone(),
                barman: ours,
            });
        }
        let named = |name: &str| match Account::named(name) {
            Ok(Some(account)) => Ok(account),
            Ok(None) => Err(Fault::NeedsPerson(format!(
                "there is no user `{name}`: use the image, or make the account"
            ))),
            Err(error) => Err(Fault::Transient(format!(
                "cannot look up user `{name}`: {error}"
            ))),
        };
        Ok(Self {
            root,
            postgres: named("postgres")?,
            barman: named("barman")?,
        })
    }
}
