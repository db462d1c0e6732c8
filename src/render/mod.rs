//! Templates to files: postgresql.conf, pg_hba.conf, repmgr.conf, password files, barman's
//! configuration, the crontab. Pure: what to write, where, with which mode and for whom; `sys`
//! writes it. Every placeholder of a template goes through a quoting filter.

mod archive;
mod drills;
mod filters;
mod include;
pub mod quote;
mod settings;
mod shipping;
mod sizes;
mod synchronous;
mod view;

pub use archive::{Destination, archive_conf};
pub use include::{managed_include_line, with_include};
pub use quote::{Unwritable, conninfo};
pub use settings::{Setting, enforced};
pub use synchronous::synchronous_conf;

use crate::config::{BarmanMode, Config, NodeKind};
use crate::domain::{Fault, Role};
use std::error::Error as _;
use std::fmt;
use std::path::PathBuf;
use tera::Tera;

/// What rendering needs to know besides the configuration. Found by the runtime.
#[derive(Clone, Debug)]
pub struct RenderFacts {
    /// What the node is: only a primary archives and takes backups.
    pub role: Role,
    /// barman's directory of this node holds another cluster's archive: it stays as it is.
    pub foreign_archive: bool,
    /// The cgroup's memory limit in bytes, if there is one.
    pub memory_limit: Option<u64>,
    /// Size in bytes of the filesystem that holds PGDATA.
    pub volume_bytes: Option<u64>,
    /// PostgreSQL's major version.
    pub pg_major: u32,
    /// Name of the account that runs barman.
    pub barman_account: String,
    /// Name of the account that runs postgres.
    pub postgres_account: String,
    /// Name of the account that pgnode runs as.
    pub our_account: String,
    /// Whether pgnode runs as root.
    pub root: bool,
    /// Whether the user's `conf.d` exists: `include_dir` of a missing directory stops the server.
    pub user_conf_dir_exists: bool,
    /// The user's fragments of pg_hba.conf: file name and text, in the order they take effect.
    pub user_hba: Vec<(String, String)>,
    /// The user's own `shared_preload_libraries`, as written.
    pub user_preload: Option<String>,
    /// Directory of the server's binaries.
    pub pg_bin: PathBuf,
    /// This program, for the commands that repmgr calls.
    pub pgnode: PathBuf,
}

/// Whose file it is. Not started as root, everything is ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// root.
    Root,
    /// The account of the server.
    Postgres,
    /// The account of barman.
    Barman,
}

/// A file to be written.
#[derive(Clone, PartialEq, Eq)]
pub struct RenderedFile {
    /// Where.
    pub path: PathBuf,
    /// Permission bits.
    pub mode: u32,
    /// For whom.
    pub owner: Owner,
    /// What.
    pub text: String,
    /// It holds passwords: never shown.
    pub secret: bool,
}

impl fmt::Debug for RenderedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedFile")
            .field("path", &self.path)
            .field("mode", &format_args!("{:04o}", self.mode))
            .field("owner", &self.owner)
            .field("text", if self.secret { &"********" } else { &self.text })
            .finish_non_exhaustive()
    }
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// A setting has a value that the file's format cannot carry.
    #[error("{file} cannot be written")]
    Unwritable {
        /// The file.
        file: &'static str,
        /// What it cannot carry.
        #[source]
        source: Unwritable,
    },
    /// A template is broken.
    #[error("the template of {file} is broken")]
    Template {
        /// The file.
        file: &'static str,
        /// What tera says.
        #[source]
        source: tera::Error,
    },
}

impl RenderError {
    /// How bad it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unwritable { .. } => Fault::Config(Fault::chain(self)),
            Self::Template { .. } => Fault::Bug(Fault::chain(self)),
        }
    }

    /// Tells a refused value from a broken template by the type in the chain of sources.
    fn from_tera(file: &'static str, source: tera::Error) -> Self {
        let mut next = source.source();
        while let Some(error) = next {
            if let Some(&refused) = error.downcast_ref::<Unwritable>() {
                return Self::Unwritable {
                    file,
                    source: refused,
                };
            }
            next = error.source();
        }
        Self::Template { file, source }
    }
}

/// Where run-time files are; all of them can be made again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFiles {
    /// Included by PGDATA/postgresql.conf.
    pub postgresql_conf: PathBuf,
    /// Included by that: `synchronous_standby_names`, rewritten while the server runs.
    pub synchronous_conf: PathBuf,
    /// Included as well: `archive_command`, rewritten as the barman host comes and goes.
    pub archive_conf: PathBuf,
    /// `hba_file`.
    pub pg_hba: PathBuf,
    /// `ident_file`.
    pub pg_ident: PathBuf,
    /// PGPASSFILE of repmgr, repmgrd, pg_basebackup and the walreceiver.
    pub pgpass: PathBuf,
    /// repmgr.conf for the registration on the technical port.
    pub repmgr_register_conf: PathBuf,
    /// repmgr.conf.
    pub repmgr_conf: PathBuf,
    /// barman's password file.
    pub barman_pgpass: PathBuf,
    /// What `/etc/barman.conf` points to.
    pub barman_conf: PathBuf,
    /// barman's view of this node.
    pub barman_server_conf: PathBuf,
    /// What `/etc/cron.d/pgnode` points to.
    pub crontab: PathBuf,
    /// The control socket.
    pub control_socket: PathBuf,
    /// Directory of the pipes below.
    pub log_dir: PathBuf,
    /// Pipe: the server's log collector opens it and writes two lines.
    pub postgres_log: PathBuf,
    /// Pipe: the server's log.
    pub postgres_json: PathBuf,
    /// Pipe: barman's log.
    pub barman_log: PathBuf,
}

impl RunFiles {
    /// From the configured directories.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let paths = &config.paths;
        let run = |name: &str| paths.run_dir.join(name);
        let server = format!("{}.conf", config.barman.server_name);
        Self {
            postgresql_conf: run("postgresql.conf"),
            synchronous_conf: run("synchronous.conf"),
            archive_conf: run("archive.conf"),
            pg_hba: run("pg_hba.conf"),
            pg_ident: run("pg_ident.conf"),
            pgpass: run("pgpass"),
            repmgr_register_conf: run("repmgr.register.conf"),
            repmgr_conf: paths.repmgr_config_dir.join("repmgr.conf"),
            barman_pgpass: run("barman.pgpass"),
            barman_conf: run("barman.conf"),
            barman_server_conf: paths.barman_config_dir.join(server),
            crontab: run("crontab"),
            control_socket: run("control.sock"),
            log_dir: run("log"),
            postgres_log: run("log/postgres.log"),
            postgres_json: run("log/postgres.json"),
            barman_log: run("log/barman.log"),
        }
    }
}

struct Template {
    /// File name in `templates/` without `.tera`.
    name: &'static str,
    text: &'static str,
    mode: u32,
    owner: Owner,
    secret: bool,
    /// Only where barman runs in this container.
    barman: bool,
    /// Only where postgres runs in this container.
    node: bool,
    path: fn(RunFiles) -> PathBuf,
}

macro_rules! template {
    ($name:literal, $path:ident, $mode:literal, $owner:ident $(, $flag:ident)*) => {
        Template {
            $($flag: true,)*
            ..Template {
                name: $name,
                text: include_str!(concat!("../../templates/", $name, ".tera")),
                mode: $mode,
                owner: Owner::$owner,
                secret: false,
                barman: false,
                node: false,
                path: |files| files.$path,
            }
        }
    };
}

/// All templates. Whoever may read a file has a reason to: no mode is wider than that.
const TEMPLATES: &[Template] = &[
    template!("postgresql.conf", postgresql_conf, 0o644, Root, node),
    template!("pg_hba.conf", pg_hba, 0o640, Postgres, node),
    template!("pg_ident.conf", pg_ident, 0o640, Postgres, node),
    template!("pgpass", pgpass, 0o600, Postgres, secret, node),
    template!("repmgr.conf", repmgr_conf, 0o640, Postgres, node),
    template!(
        "repmgr.register.conf",
        repmgr_register_conf,
        0o640,
        Postgres,
        node
    ),
    template!(
        "barman.pgpass",
        barman_pgpass,
        0o600,
        Barman,
        secret,
        barman
    ),
    template!("barman.conf", barman_conf, 0o644, Root, barman),
    template!(
        "barman.server.conf",
        barman_server_conf,
        0o640,
        Barman,
        barman
    ),
    // Always there: the image's /etc/cron.d/pgnode is a symbolic link to it.
    template!("crontab", crontab, 0o644, Root),
];

/// barman's file of one server: the first line says whose it is, so that another's is never removed.
const SERVER_CONF: &str = "barman.server.conf";

/// All files of a node or of a barman host. The same input gives the same bytes.
///
/// # Errors
/// See [`RenderError`]; nothing is half done.
pub fn render(config: &Config, facts: &RenderFacts) -> Result<Vec<RenderedFile>, RenderError> {
    let engine = engine()?;
    let view = view::View::of(config, facts);
    let context = tera::Context::from_serialize(&view).map_err(|source| RenderError::Template {
        file: "every file",
        source,
    })?;
    let file = |t: &Template, path: PathBuf, context: &tera::Context| {
        Ok(RenderedFile {
            path,
            mode: t.mode,
            owner: t.owner,
            text: engine
                .render(t.name, context)
                .map_err(|e| RenderError::from_tera(t.name, e))?,
            secret: t.secret,
        })
    };
    let mut files = Vec::new();
    for t in wanted(config) {
        if t.name != SERVER_CONF || !config.kind.keeps_backups() {
            files.push(file(t, (t.path)(RunFiles::of(config)), &context)?);
            continue;
        }
        for server in &config.barman.servers {
            let mut own = context.clone();
            view::cluster(&mut own, config, facts, server);
            files.push(file(t, server_conf(config, &server.name), &own)?);
        }
    }
    Ok(files)
}

/// barman's file of a cluster that a barman host keeps.
#[must_use]
pub fn server_conf(config: &Config, name: &str) -> PathBuf {
    config.paths.barman_config_dir.join(format!("{name}.conf"))
}

/// Whether a text is one of barman's files that pgnode wrote.
#[must_use]
pub fn is_ours(text: &str) -> bool {
    text.starts_with("; Written by pgnode")
}

/// Files of ours that this configuration has no use for: left over from another one, to be removed.
#[must_use]
pub fn unwanted(config: &Config) -> Vec<PathBuf> {
    let keep: Vec<&str> = wanted(config).map(|t| t.name).collect();
    TEMPLATES
        .iter()
        .filter(|t| !keep.contains(&t.name))
        .map(|t| (t.path)(RunFiles::of(config)))
        .collect()
}

fn wanted(config: &Config) -> impl Iterator<Item = &'static Template> {
    let barman = config.barman.mode == BarmanMode::Local || config.kind.keeps_backups();
    let node = config.kind != NodeKind::Barman;
    TEMPLATES
        .iter()
        .filter(move |t| (barman || !t.barman) && (node || !t.node))
}

fn engine() -> Result<Tera, RenderError> {
    let mut tera = Tera::default();
    tera.autoescape_on(Vec::new());
    filters::register(&mut tera);
    for t in TEMPLATES {
        tera.add_raw_template(t.name, t.text)
            .map_err(|source| RenderError::Template {
                file: t.name,
                source,
            })?;
    }
    Ok(tera)
}

#[cfg(test)]
mod tests;
