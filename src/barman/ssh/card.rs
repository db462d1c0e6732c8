//! What a member of the cluster tells the others about its ssh, and what they make of it.

use super::Files;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// What left the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A data node.
    Node,
    /// A barman host.
    Barman,
}

impl Kind {
    /// The account behind its sshd.
    const fn account(self) -> &'static str {
        match self {
            Self::Node => "postgres",
            Self::Barman => "barman",
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Barman => "barman",
        }
    }
}

/// A member's public keys and where its sshd listens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// What it is.
    pub kind: Kind,
    /// Where others reach it (`REPMGR_NODE_NETWORK_NAME`).
    pub host: String,
    /// sshd's port.
    pub port: u16,
    /// A data node: what barman calls its cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// A barman host: where it takes WAL in, for each of its clusters. From here comes the
    /// `archive_command` of the nodes, so that the two cannot differ.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incoming: BTreeMap<String, String>,
    /// `ssh-ed25519 AAAA…`: who logs in from there.
    pub client_key: String,
    /// `ssh-ed25519 AAAA…`: who answers there.
    pub host_key: String,
}

/// Why a card is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CardFault {
    /// Not a card at all.
    #[error("it is not understood: {0}")]
    Garbled(String),
    /// A text that could mean something else in one of ssh's files.
    #[error("its {0} is not what it should be")]
    Unfit(&'static str),
}

impl Card {
    /// Its name in the shared directory.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}-{}.json", self.kind.word(), self.host)
    }

    /// Reads one, and refuses what ssh's files could take for something else.
    ///
    /// # Errors
    /// [`CardFault`].
    pub fn parse(text: &str) -> Result<Self, CardFault> {
        let card: Self =
            serde_json::from_str(text).map_err(|e| CardFault::Garbled(e.to_string()))?;
        let is_name = |text: &str| {
            !text.is_empty()
                && !text.starts_with('-')
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':'))
        };
        if !is_name(&card.host) {
            return Err(CardFault::Unfit("host"));
        }
        if !card
            .cluster
            .iter()
            .chain(card.incoming.keys())
            .all(|n| is_name(n))
        {
            return Err(CardFault::Unfit("cluster"));
        }
        if !card.incoming.values().all(|dir| is_plain_path(dir)) {
            return Err(CardFault::Unfit("directory"));
        }
        if !is_key(&card.client_key) || !is_key(&card.host_key) {
            return Err(CardFault::Unfit("key"));
        }
        Ok(card)
    }
}

fn is_plain_path(dir: &str) -> bool {
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | '=' | '~');
    dir.starts_with('/') && !dir.contains("/../") && dir.chars().all(plain)
}

/// Exactly `ssh-ed25519` and its text: no option before it, no second line.
fn is_key(text: &str) -> bool {
    text.strip_prefix("ssh-ed25519 ").is_some_and(|rest| {
        (60..=100).contains(&rest.len())
            && rest
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '='))
    })
}

/// What one member makes of the others' cards.
#[derive(Clone, Debug)]
pub struct Trust<'a> {
    /// Our own card.
    pub ours: &'a Card,
    /// Those of the shared directory.
    pub cards: &'a [Card],
    /// Where our files are.
    pub files: &'a Files,
    /// This program.
    pub program: &'a Path,
    /// Where our node answers (`host:port`), on a data node.
    pub http: &'a str,
    /// barman's home, on a barman host.
    pub home: &'a Path,
}

impl Trust<'_> {
    /// The members on the other side: a barman host and its data nodes; two nodes have no business with
    /// each other here.
    fn others(&self) -> impl Iterator<Item = &Card> {
        self.cards.iter().filter(|c| c.kind != self.ours.kind)
    }

    /// `authorized_keys`: each key opens one command, and no terminal, forwarding or the like
    /// (`restrict`, sshd(8)).
    #[must_use]
    pub fn authorized_keys(&self) -> String {
        let program = shell_words::quote(&self.program.to_string_lossy()).into_owned();
        let line = |card: &Card| {
            let asked = match self.ours.kind {
                Kind::Node => format!("node --http={}", self.http),
                Kind::Barman => {
                    let cluster = card.cluster.as_deref().unwrap_or("-");
                    format!("barman --home={} --cluster={cluster}", self.home.display())
                }
            };
            let from = card.file_name();
            format!(
                "restrict,command=\"{program} ssh-serve {asked}\" {} {from}\n",
                card.client_key
            )
        };
        self.others().map(line).collect()
    }

    /// `known_hosts`: a host that shows another key is not talked to.
    #[must_use]
    pub fn known_hosts(&self) -> String {
        let line = |card: &Card| format!("[{}]:{} {}\n", card.host, card.port, card.host_key);
        self.others().map(line).collect()
    }

    /// ssh's settings.
    #[must_use]
    pub fn ssh_config(&self) -> String {
        let mut text = "# Written by pgnode as members come and go; changes are lost.\n".to_owned();
        for card in self.others() {
            text.push_str(&format!("Host {}\n  Port {}\n", card.host, card.port));
        }
        let other = match self.ours.kind {
            Kind::Node => Kind::Barman,
            Kind::Barman => Kind::Node,
        };
        text.push_str(&format!(
            "Host *\n  User {}\n  IdentityFile {}\n  IdentitiesOnly yes\n  UserKnownHostsFile {}\n  \
             GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
             ConnectTimeout 5\n  ServerAliveInterval 5\n  ServerAliveCountMax 3\n  LogLevel ERROR\n",
            other.account(),
            self.files.client_key().display(),
            self.files.known_hosts().display(),
        ));
        text
    }

    /// sshd's settings: keys only, and only the account that it runs under. Each WAL file is a login, and
    /// three lines at the level INFO.
    #[must_use]
    pub fn sshd_config(&self) -> String {
        format!(
            "# Written by pgnode at every start; changes are lost.\nPort {}\nHostKey {}\n\
             AuthorizedKeysFile {}\nPidFile none\nUsePAM no\nPasswordAuthentication no\n\
             KbdInteractiveAuthentication no\nAuthenticationMethods publickey\nPermitRootLogin no\n\
             DisableForwarding yes\nPermitUserEnvironment no\nPermitUserRC no\nPrintMotd no\n\
             ClientAliveInterval 15\nClientAliveCountMax 3\nLoginGraceTime 20\nLogLevel ERROR\n",
            self.ours.port,
            self.files.host_key().display(),
            self.files.authorized_keys().display(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOcwen3/io86Q0ByeGJAKho3vjEyHnu4EFGtYIPNEosg";

    fn card(kind: Kind, host: &str) -> Card {
        let barman = kind == Kind::Barman;
        let incoming = [(
            "main".to_owned(),
            "/home/barman/data/main/incoming".to_owned(),
        )];
        Card {
            kind,
            host: host.into(),
            port: 2222,
            cluster: (!barman).then(|| "main".to_owned()),
            incoming: incoming.into_iter().filter(|_| barman).collect(),
            client_key: KEY.into(),
            host_key: KEY.into(),
        }
    }

    #[test]
    fn a_card_says_nothing_that_ssh_could_misread() {
        let good = card(Kind::Barman, "barman1");
        let text = serde_json::to_string(&good).unwrap();
        assert_eq!(Card::parse(&text), Ok(good.clone()));
        assert_eq!(good.file_name(), "barman-barman1.json");
        let with = |change: &dyn Fn(&mut Card)| {
            let mut bad = good.clone();
            change(&mut bad);
            Card::parse(&serde_json::to_string(&bad).unwrap()).unwrap_err()
        };
        assert_eq!(with(&|c| c.host = "a b".into()), CardFault::Unfit("host"));
        assert_eq!(
            with(&|c| c.host = "-oProxyCommand=x".into()),
            CardFault::Unfit("host")
        );
        assert_eq!(
            with(&|c| c.cluster = Some("x\" y".into())),
            CardFault::Unfit("cluster")
        );
        let key = CardFault::Unfit("key");
        assert_eq!(
            with(&|c| c.client_key = format!("command=\"x\" {KEY}")),
            key
        );
        assert_eq!(with(&|c| c.client_key = format!("{KEY}\n{KEY}")), key);
        assert_eq!(with(&|c| c.host_key = "ssh-rsa AAAA".into()), key);
        let dir = |c: &mut Card| {
            c.incoming.insert("main".into(), "/x'; rm".into());
        };
        assert_eq!(with(&dir), CardFault::Unfit("directory"));
        assert!(matches!(Card::parse("{}"), Err(CardFault::Garbled(_))));
    }

    #[test]
    fn nodes_trust_their_barman_host_and_not_each_other() {
        let cards = [
            card(Kind::Node, "pg1"),
            card(Kind::Node, "pg2"),
            card(Kind::Barman, "b1"),
        ];
        let files = Files {
            keys: "/k".into(),
            run: "/r".into(),
        };
        let trust = |ours| Trust {
            ours,
            cards: &cards,
            files: &files,
            program: Path::new("/usr/local/bin/pgnode"),
            http: "127.0.0.1:8008",
            home: Path::new("/home/barman/data"),
        };
        let node = trust(&cards[0]);
        assert_eq!(
            node.authorized_keys(),
            format!(
                "restrict,command=\"/usr/local/bin/pgnode ssh-serve node --http=127.0.0.1:8008\" {KEY} barman-b1.json\n"
            )
        );
        assert_eq!(node.known_hosts(), format!("[b1]:2222 {KEY}\n"));
        assert!(
            node.ssh_config()
                .contains("Host b1\n  Port 2222\nHost *\n  User barman\n")
        );
        let barman = trust(&cards[2]);
        assert_eq!(barman.authorized_keys().lines().count(), 2);
        assert!(
            barman
                .authorized_keys()
                .contains("--home=/home/barman/data --cluster=main\"")
        );
        assert!(barman.ssh_config().contains("User postgres"));
        assert!(barman.sshd_config().contains("PasswordAuthentication no"));
    }
}
