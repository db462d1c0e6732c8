//! Keeps ssh between the nodes and their barman host: our own keys and card, the trust in those of the
//! others, sshd, and on a data node the `archive_command` that follows from the barman host's card.
//!
//! A task beside the machine: nothing of it decides what the node is, and without it only backups wait.

use super::survey::blocking;
use super::world::World;
use crate::barman::ssh::{Card, Files, Kind, Trust};
use crate::config::{BarmanMode, Config, Method, incoming_wals};
use crate::domain::Fault;
use crate::pg::Session;
use crate::render::{Destination, RunFiles, archive_conf};
use crate::sys::{self, Account, Changed, Format, Spec};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How often the shared directory is looked at: a volume of another host tells nobody of a change.
const LOOK: Duration = Duration::from_secs(2);
/// sshd that ended is started again after this, twice as long each time, at most [`LONGEST`].
const AGAIN: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// Two keys are made in milliseconds.
const MAKE_KEY: Duration = Duration::from_secs(60);

/// Runs as long as the process; ends at once where ssh is not wanted.
pub(super) async fn keep(world: Arc<World>) {
    let config = world.config();
    let Some(shared) = config.ssh.keys.clone() else {
        return;
    };
    let mut told = None;
    let ours = loop {
        match introduce(&world, &shared).await {
            Ok(card) => break card,
            Err(fault) => remark(&mut told, &fault),
        }
        tokio::time::sleep(LOOK).await;
    };
    let (mut known, mut unfit) = (None, BTreeMap::new());
    let mut serves = serves(&config);
    loop {
        match look(&world, &shared, &ours, &mut known, &mut unfit).await {
            Ok(()) => {
                told = None;
                // Its files are there now. It lives as long as the process.
                if std::mem::take(&mut serves) {
                    drop(tokio::spawn(sshd(world.clone())));
                }
            }
            Err(fault) => remark(&mut told, &fault),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A fault that stays the same is said once.
fn remark(told: &mut Option<String>, fault: &Fault) {
    if told.as_deref() != Some(fault.why()) {
        tracing::warn!(
            source = "ssh",
            "{}; tried again every {LOOK:?}",
            fault.why()
        );
        *told = Some(fault.why().to_owned());
    }
}

/// A barman host hands out backups and takes WAL in; a node lets barman's rsync read.
fn serves(config: &Config) -> bool {
    config.kind.keeps_backups() || ships(config)
}

fn ships(config: &Config) -> bool {
    config.barman.method == Method::Rsync && config.barman.mode == BarmanMode::Remote
}

fn account(world: &World) -> &Account {
    match world.config().kind.keeps_backups() {
        true => &world.accounts.barman,
        false => &world.accounts.postgres,
    }
}

fn owner(world: &World) -> Option<(u32, u32)> {
    let account = account(world);
    world.accounts.root.then_some((account.uid, account.gid))
}

fn program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pgnode"))
}

/// Makes our keys, where they are not there, and leaves our card with the others. The keys live as long as
/// the container: none of them ends up on a volume or in a backup, and the card says who we are now.
async fn introduce(world: &World, shared: &Path) -> Result<Card, Fault> {
    let config = world.config();
    let files = Files::of(&config);
    let (root, owner) = (world.accounts.root.then_some((0, 0)), owner(world));
    let (run, keys) = (files.run.clone(), files.keys.clone());
    blocking(move || {
        sys::ensure_dir(&run, 0o755, root)?;
        sys::ensure_dir(&keys, 0o700, owner).map(drop)
    })
    .await?;
    let client_key = key(world, files.client_key()).await?;
    let host_key = key(world, files.host_key()).await?;
    let home = &config.paths.barman_backup_dir;
    let incoming = |name: &String| {
        let dir = incoming_wals(home, name);
        (name.clone(), dir.to_string_lossy().into_owned())
    };
    let keeps = config.kind.keeps_backups();
    let card = Card {
        kind: if keeps { Kind::Barman } else { Kind::Node },
        host: config.identity.network_name.clone(),
        port: config.ssh.port,
        cluster: (!keeps).then(|| config.barman.server_name.clone()),
        incoming: config
            .barman
            .servers
            .iter()
            .map(|s| incoming(&s.name))
            .collect(),
        client_key,
        host_key,
    };
    let text = serde_json::to_vec_pretty(&card)
        .map_err(|e| Fault::Bug(format!("a card cannot be written: {e}")))?;
    let path = shared.join(card.file_name());
    blocking(move || sys::write_atomic(&path, &text, 0o644, None)).await?;
    Ok(card)
}

/// The public part of a key, made at need by its owner.
async fn key(world: &World, path: PathBuf) -> Result<String, Fault> {
    let public = path.with_extension("pub");
    let read = {
        let public = public.clone();
        move || match std::fs::read_to_string(&public) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    };
    if let Some(text) = blocking(read.clone()).await? {
        return Ok(without_comment(&text));
    }
    let config = world.config();
    let args = ["-q", "-t", "ed25519", "-N", "", "-C", "pgnode", "-f"];
    let args = args
        .iter()
        .map(std::ffi::OsString::from)
        .chain([path.into()]);
    let spec = Spec::new("ssh-keygen", args)
        .env(config.environment.base.clone())
        .account(Some(account(world).clone()));
    let end = world
        .children
        .run(spec, MAKE_KEY)
        .await
        .map_err(|e| Fault::Transient(Fault::chain(&e)))?;
    match blocking(read).await? {
        Some(text) if end.exit.is_success() => Ok(without_comment(&text)),
        Some(_) | None => Err(Fault::Transient(format!(
            "ssh-keygen ended with {}: {}",
            end.exit,
            end.last_words()
        ))),
    }
}

fn without_comment(public: &str) -> String {
    let words: Vec<&str> = public.split_whitespace().take(2).collect();
    words.join(" ")
}

/// Reads the others' cards and, when they have changed, writes what follows from them.
async fn look(
    world: &World,
    shared: &Path,
    ours: &Card,
    known: &mut Option<Vec<Card>>,
    unfit: &mut BTreeMap<PathBuf, String>,
) -> Result<(), Fault> {
    let dir = shared.to_owned();
    let texts = blocking(move || read_cards(&dir)).await?;
    let mut cards = Vec::new();
    for (path, text) in texts {
        match Card::parse(&text) {
            Ok(card) => {
                unfit.remove(&path);
                cards.push(card);
            }
            Err(fault) => {
                let why = fault.to_string();
                if unfit.insert(path.clone(), why.clone()).as_ref() != Some(&why) {
                    tracing::warn!(source = "ssh", "{} is not trusted: {why}", path.display());
                }
            }
        }
    }
    // Somebody else's volume may have been mounted, or cleaned.
    if !cards.contains(ours) {
        introduce(world, shared).await?;
    }
    if known.as_ref() == Some(&cards) {
        return Ok(());
    }
    trust(world, ours, &cards).await?;
    let others = cards.iter().filter(|c| c.kind != ours.kind);
    let names: Vec<&str> = others.map(|c| c.host.as_str()).collect();
    let names = if names.is_empty() {
        "nobody yet".to_owned()
    } else {
        names.join(", ")
    };
    tracing::info!(source = "ssh", "trusts {names}");
    *known = Some(cards);
    Ok(())
}

fn read_cards(dir: &Path) -> std::io::Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "json") {
            found.push((path.clone(), std::fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

async fn trust(world: &World, ours: &Card, cards: &[Card]) -> Result<(), Fault> {
    let config = world.config();
    let files = Files::of(&config);
    let (program, http) = (program(), config.http_locally().to_string());
    let trust = Trust {
        ours,
        cards,
        files: &files,
        program: &program,
        http: &http,
        home: &config.paths.barman_backup_dir,
    };
    let clusters: BTreeMap<&str, Vec<&str>> = config
        .barman
        .servers
        .iter()
        .map(|s| {
            (
                s.name.as_str(),
                s.hosts.iter().map(|h| h.host.as_str()).collect(),
            )
        })
        .collect();
    let clusters = serde_json::to_string(&clusters)
        .map_err(|e| Fault::Bug(format!("the clusters cannot be written: {e}")))?;
    let texts = [
        (files.known_hosts(), trust.known_hosts()),
        (files.ssh_config(), trust.ssh_config()),
        (files.sshd_config(), trust.sshd_config()),
        (files.clusters(), clusters),
        // Last: who is let in finds everything else in its place.
        (files.authorized_keys(), trust.authorized_keys()),
    ];
    let root = world.accounts.root.then_some((0, 0));
    blocking(move || {
        for (path, text) in &texts {
            sys::write_volatile(path, text.as_bytes(), 0o644, root)?;
        }
        Ok(())
    })
    .await?;
    if ships(&config) {
        archive_to(world, &program, cards).await?;
    }
    Ok(())
}

/// The `archive_command`, from the barman host's own word.
async fn archive_to(world: &World, program: &Path, cards: &[Card]) -> Result<(), Fault> {
    let config = world.config();
    let cluster = config.barman.server_name.as_str();
    let is_ours = |c: &&Card| {
        c.kind == Kind::Barman && config.barman.host.as_deref() == Some(c.host.as_str())
    };
    let to = cards.iter().find(is_ours).and_then(|card| {
        let into = card.incoming.get(cluster)?;
        Some(Destination {
            host: &card.host,
            cluster,
            into,
        })
    });
    let text = archive_conf(program, &config.paths.run_dir, to.as_ref())
        .map_err(|e| Fault::Bug(Fault::chain(&e)))?;
    let path = RunFiles::of(&config).archive_conf;
    let root = world.accounts.root.then_some((0, 0));
    let changed =
        blocking(move || sys::write_volatile(&path, text.as_bytes(), 0o644, root)).await?;
    match &to {
        Some(to) => tracing::info!(source = "ssh", "WAL goes to {}:{}", to.host, to.into),
        None => tracing::warn!(
            source = "ssh",
            "the barman host {} has not said where WAL of {cluster} goes: it is kept here meanwhile; is \
             {cluster} in its BARMAN_SERVERS, and PGNODE_SSH_KEYS the same directory?",
            config.barman.host.as_deref().unwrap_or_default()
        ),
    }
    // A server that does not run reads it when it starts.
    if changed != Changed::No
        && let Ok(session) = Session::local(&config, config.postgres.port, "postgres").await
    {
        session
            .execute(
                "reading the archive_command again",
                "SELECT pg_reload_conf()",
            )
            .await
            .map_err(|e| e.fault())?;
    }
    Ok(())
}

/// Runs sshd as long as the process lives.
async fn sshd(world: Arc<World>) {
    let config = world.config();
    let args = ["-D", "-e", "-f"].map(std::ffi::OsString::from);
    let args: Vec<_> = args
        .into_iter()
        .chain([Files::of(&config).sshd_config().into()])
        .collect();
    let mut pause = AGAIN;
    loop {
        let began = tokio::time::Instant::now();
        // sshd runs itself again for each connection and wants an absolute path for that.
        let spec = Spec::new("/usr/sbin/sshd", args.clone())
            .env(config.environment.base.clone())
            .account(Some(account(&world).clone()));
        let how = run(&world, spec).await;
        if began.elapsed() > LONGEST {
            pause = AGAIN;
        }
        tracing::warn!(
            source = "sshd",
            "sshd ended with {how}; started again in {pause:?}"
        );
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn run(world: &World, spec: Spec) -> String {
    let mut child = match world.children.spawn(spec).await {
        Ok(child) => child,
        Err(error) => return Fault::chain(&error),
    };
    for pipe in [child.stdout.take(), child.stderr.take()]
        .into_iter()
        .flatten()
    {
        drop(tokio::spawn(sys::pump(pipe, Format::plain("sshd"))));
    }
    match child.wait().await {
        Ok(exit) => exit.to_string(),
        Err(error) => error.to_string(),
    }
}
