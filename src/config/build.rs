//! From the raw environment to the [`Config`]: every rule is applied, also after a fault.

use super::address;
use super::fault::Faults;
use super::given::{RawEnv, Surroundings, gather};
use super::reader::Reader;
use super::source::{Source, Sources};
use super::table;
use super::types::{Config, Identity, Limits, NodeKind, Paths, Postgres, Repmgr, StartAs};
use super::{argv, environment, naming, paths, rules};
use crate::domain::{NodeId, NodeName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

impl Config {
    /// Makes the configuration from variables. Pure: the only way out is `ctx.read_file`, asked for
    /// the files that `NAME_FILE` names. Of a name given twice the first counts, as in `getenv`.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the table.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
        ctx: &Surroundings<'_>,
    ) -> Result<(Self, Sources), Faults> {
        let mut given = BTreeMap::new();
        for (name, value) in vars {
            given.entry(name).or_insert(value);
        }
        let mut reader = Reader::default();
        let raw = gather(&given, ctx, &mut reader.faults, &mut reader.sources);
        let config = raw.and_then(|raw| reader.config(raw, &given, ctx));
        match config {
            Some(config) if reader.faults.is_empty() => Ok((config, reader.sources)),
            _ => Err(reader.faults.sorted()),
        }
    }
}

impl Reader {
    fn config(
        &mut self,
        mut raw: RawEnv,
        given: &BTreeMap<String, String>,
        ctx: &Surroundings<'_>,
    ) -> Option<Config> {
        self.amazons_config(&mut raw, ctx.read_file);
        let kind = self.fixed(&table::PGNODE_ROLE, raw.pgnode_role.as_deref(), rules::kind);
        let start_as = self.fixed(
            &table::REPMGR_MASTER,
            raw.repmgr_master.as_deref(),
            rules::start_as,
        );
        let identity = self.identity(&raw, kind, &ctx.hostname);
        let ports = self.ports(&raw);
        let postgres = self.postgres(&raw, ctx, ports);
        let http = self.http(&raw, ports);
        let network_name = identity.as_ref().map(|i| i.network_name.as_str());
        // A witness joins a cluster, whatever REPMGR_MASTER says.
        let start_as = match kind {
            Some(kind) if kind.is_witness() => start_as.map(|_| StartAs::Slave),
            Some(_) | None => start_as,
        };
        let peers = self.peers(&raw, ctx, kind, start_as, network_name, ports[0]);
        let repmgr = self.repmgr(&raw);
        let timing = self.failover(&raw);
        let synchronous = self.synchronous(&raw, kind);
        let barman = self.barman(&raw, kind, identity.as_ref());
        let paths = self.paths(&raw);
        let restore = self.restore(&raw, paths.as_ref());
        let s3 = self.s3(&raw, given);
        let shipping = self.shipping(&raw, paths.as_ref());
        if matches!(s3, Some(None)) {
            let restore = restore.as_ref().and_then(Option::as_ref);
            self.needs_bucket(kind, barman.as_ref(), restore);
        }
        let drill = self.drill(&raw, paths.as_ref());
        let ssh = self.ssh(&raw);
        self.names_the_cluster(&raw, kind, start_as, barman.as_ref(), peers.as_ref());
        let limits = self.limits(&raw);
        let log_format = self.fixed(
            &table::PGNODE_LOG_FORMAT,
            raw.pgnode_log_format.as_deref(),
            rules::log_format,
        );
        let log_filter = self.fixed(&table::RUST_LOG, raw.rust_log.as_deref(), rules::log_filter);
        let test_hold = self.optional(
            &table::PGNODE_TEST_HOLD,
            raw.pgnode_test_hold.as_deref(),
            rules::test_hold,
        );

        let (postgres, paths) = (postgres?, paths?);
        let environment = environment::of_children(given, &postgres, &paths.pgdata);
        Some(Config {
            kind: kind?,
            start_as: start_as?,
            identity: identity?,
            paths,
            postgres,
            peers: peers?,
            repmgr: repmgr?,
            timing: timing?,
            synchronous: synchronous?,
            barman: barman?,
            s3: s3?,
            shipping: shipping?,
            restore: restore?,
            drill: drill?,
            ssh: ssh?,
            http: http?,
            log_format: log_format?,
            log_filter: log_filter?,
            limits: limits?,
            test_hold: test_hold?,
            environment,
            default_passwords: std::mem::take(&mut self.default_passwords),
        })
    }

    fn identity(
        &mut self,
        raw: &RawEnv,
        kind: Option<NodeKind>,
        hostname: &str,
    ) -> Option<Identity> {
        let name = self
            .fixed(
                &table::REPMGR_NODE_NAME,
                raw.repmgr_node_name.as_deref(),
                naming::node_name,
            )
            .map(NodeName);
        let id = self.optional(
            &table::REPMGR_NODE_ID,
            raw.repmgr_node_id.as_deref(),
            rules::node_id,
        );
        let network_name = self.optional(
            &table::REPMGR_NODE_NETWORK_NAME,
            raw.repmgr_node_network_name.as_deref(),
            address::host,
        );

        let id = id.and_then(|id| {
            let number = || match kind {
                // It is no node of repmgr's.
                Some(NodeKind::Barman) => Some(NodeId(0)),
                Some(_) | None => name.as_ref().and_then(NodeName::number),
            };
            let id = self.or_derive(&table::REPMGR_NODE_ID, id, "REPMGR_NODE_NAME", number);
            if let (None, Some(name)) = (id, &name) {
                self.wrong_with(
                    &table::REPMGR_NODE_ID,
                    None,
                    &format!("is not set, and the name {name} does not end in a number from 1 to 2147483647"),
                    "set it, or give the node a name such as pg1".to_owned(),
                );
            }
            id
        });
        let network_name = network_name.and_then(|given| {
            let host = || address::host(hostname).ok();
            let name = self.or_derive(
                &table::REPMGR_NODE_NETWORK_NAME,
                given,
                "the hostname",
                host,
            );
            if name.is_none() {
                let rule = "is not set, and the hostname is none that peers could connect to";
                self.wrong(&table::REPMGR_NODE_NETWORK_NAME, None, rule);
            }
            name
        });
        Some(Identity {
            name: name?,
            id: id?,
            network_name: network_name?,
        })
    }

    /// The consumer and the technical port.
    fn ports(&mut self, raw: &RawEnv) -> [Option<u16>; 2] {
        let port = self.fixed(&table::PGPORT, raw.pgport.as_deref(), rules::port);
        let technical = self.fixed(
            &table::PGNODE_TECHNICAL_PORT,
            raw.pgnode_technical_port.as_deref(),
            rules::port,
        );
        if let (Some(port), Some(technical)) = (port, technical)
            && port == technical
        {
            let rule = "is PGPORT as well: the node could not be made ready in private";
            self.wrong(
                &table::PGNODE_TECHNICAL_PORT,
                Some(&technical.to_string()),
                rule,
            );
        }
        [port, technical]
    }

    fn postgres(
        &mut self,
        raw: &RawEnv,
        ctx: &Surroundings<'_>,
        [port, technical]: [Option<u16>; 2],
    ) -> Option<Postgres> {
        let superuser = self.fixed(
            &table::POSTGRES_USER,
            raw.postgres_user.as_deref(),
            naming::superuser,
        );
        let password = self.password(&table::POSTGRES_PASSWORD, raw.postgres_password.as_deref());
        let database = self.optional(
            &table::POSTGRES_DB,
            raw.postgres_db.as_deref(),
            naming::database,
        );
        let database = match (database, &superuser) {
            (Some(None), Some(user)) => {
                self.sources
                    .set(&table::POSTGRES_DB, Source::Derived("POSTGRES_USER"));
                // The user's name is a fine user, and may still be no fine database.
                naming::database(user)
                    .map_err(|rule| {
                        let rule = format!("is not set, and POSTGRES_USER's name {rule}");
                        self.wrong(&table::POSTGRES_DB, None, rule);
                    })
                    .ok()
            }
            (Some(database), _) => database,
            (None, _) => None,
        };
        let initdb_args = self.initdb_args(raw.postgres_initdb_args.as_deref());
        let max_slot_wal = self
            .optional(
                &table::PGNODE_MAX_SLOT_WAL,
                raw.pgnode_max_slot_wal.as_deref(),
                rules::slot_wal,
            )
            .map(Option::flatten);
        if max_slot_wal == Some(None) {
            self.sources.set(
                &table::PGNODE_MAX_SLOT_WAL,
                Source::Derived("the volume's size"),
            );
        }
        let keep_diverged = self.fixed(
            &table::PGNODE_KEEP_DIVERGED,
            raw.pgnode_keep_diverged.as_deref(),
            rules::boolean,
        );
        let settings = argv::settings(&ctx.arguments, &mut self.faults);
        Some(Postgres {
            port: port?,
            technical_port: technical?,
            superuser: superuser?,
            password: password?,
            database: database?,
            initdb_args: initdb_args?,
            settings,
            max_slot_wal: max_slot_wal?,
            keep_diverged: keep_diverged?,
        })
    }

    fn initdb_args(&mut self, given: Option<&str>) -> Option<Vec<String>> {
        let var = &table::POSTGRES_INITDB_ARGS;
        let words = match given {
            Some(text) => argv::initdb(text),
            None if self.is_wrong(var) => return None,
            None => return Some(Vec::new()),
        };
        words
            .map_err(|rules| {
                for rule in rules {
                    self.wrong(var, given, rule);
                }
            })
            .ok()
    }

    fn http(&mut self, raw: &RawEnv, [port, technical]: [Option<u16>; 2]) -> Option<SocketAddr> {
        let var = &table::PGNODE_HTTP_ADDR;
        let http = self.fixed(var, raw.pgnode_http_addr.as_deref(), rules::listen)?;
        for (port, twin) in [
            (port, &table::PGPORT),
            (technical, &table::PGNODE_TECHNICAL_PORT),
        ] {
            if port == Some(http.port()) {
                let rule = format!("has the port of {}", twin.name);
                self.wrong(var, Some(&http.to_string()), rule);
            }
        }
        Some(http)
    }

    fn repmgr(&mut self, raw: &RawEnv) -> Option<Repmgr> {
        let password = self.password(&table::REPMGR_PASSWORD, raw.repmgr_password.as_deref());
        let streaming = self.password(
            &table::REPMGR_STREAMING_PASSWORD,
            raw.repmgr_streaming_password.as_deref(),
        );
        Some(Repmgr {
            password: password?,
            streaming_password: streaming?,
        })
    }

    fn paths(&mut self, raw: &RawEnv) -> Option<Paths> {
        let dir = paths::directory;
        let data_dir = self.fixed(&table::PGNODE_DATA_DIR, raw.pgnode_data_dir.as_deref(), dir);
        let pgdata = self.optional(&table::PGDATA, raw.pgdata.as_deref(), dir);
        let pgdata = pgdata.and_then(|given| {
            let below = || data_dir.as_ref().map(|dir| dir.join("data"));
            self.or_derive(&table::PGDATA, given, "PGNODE_DATA_DIR", below)
        });
        let given = paths::Given {
            data_dir,
            pgdata,
            backups: self.fixed(
                &table::BARMAN_BACKUP_DIR,
                raw.barman_backup_dir.as_deref(),
                dir,
            ),
            repmgr: self.fixed(
                &table::REPMGR_CONFIG_DIR,
                raw.repmgr_config_dir.as_deref(),
                dir,
            ),
            barman: self.fixed(
                &table::BARMAN_CONFIG_DIR,
                raw.barman_config_dir.as_deref(),
                dir,
            ),
            user: self.fixed(
                &table::PGNODE_CONFIG_DIR,
                raw.pgnode_config_dir.as_deref(),
                dir,
            ),
            run: self.fixed(
                &table::PGNODE_RUN_DIR,
                raw.pgnode_run_dir.as_deref(),
                paths::socket_directory,
            ),
            socket: self.fixed(
                &table::PGNODE_SOCKET_DIR,
                raw.pgnode_socket_dir.as_deref(),
                paths::socket_directory,
            ),
        };
        paths::check_together(&given, &mut self.faults);
        Some(Paths {
            data_dir: given.data_dir?,
            pgdata: given.pgdata?,
            repmgr_config_dir: given.repmgr?,
            barman_config_dir: given.barman?,
            barman_backup_dir: given.backups?,
            run_dir: given.run?,
            socket_dir: given.socket?,
            user_dir: given.user?,
            init_scripts: PathBuf::from("/docker-entrypoint-initdb.d"),
        })
    }

    fn limits(&mut self, raw: &RawEnv) -> Option<Limits> {
        let wait = self.fixed(
            &table::PGNODE_PRIMARY_TIMEOUT,
            raw.pgnode_primary_timeout.as_deref(),
            rules::patience,
        );
        let grace = self.fixed(
            &table::PGNODE_STOP_TIMEOUT,
            raw.pgnode_stop_timeout.as_deref(),
            rules::grace,
        );
        Some(Limits {
            primary_wait: wait?,
            stop_grace: grace?,
        })
    }
}
