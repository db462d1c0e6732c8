//! From the raw environment to the types of this room.

use super::rules as own;
use super::{Barman, BarmanServer, Choice, Drill, Habits, Method, Restore, Ssh, Target};
use crate::config::given::RawEnv;
use crate::config::reader::Reader;
use crate::config::rules::{self, Ruled};
use crate::config::source::Source;
use crate::config::table::{self, Var};
use crate::config::types::{BarmanMode, Identity, NodeKind, Paths};
use crate::config::{address, naming, paths as directories, schedule};
use std::path::PathBuf;

impl Reader {
    pub(in crate::config) fn barman(
        &mut self,
        raw: &RawEnv,
        kind: Option<NodeKind>,
        identity: Option<&Identity>,
    ) -> Option<Barman> {
        let mut mode = self.fixed(
            &table::BARMAN_MODE,
            raw.barman_mode.as_deref(),
            rules::barman_mode,
        );
        if kind.is_some_and(|k| k.is_witness() || k.keeps_backups()) && mode.is_some() {
            // It has nothing to back up, also where all nodes share one environment.
            mode = Some(BarmanMode::Off);
            let from = Source::Derived("PGNODE_ROLE");
            self.sources.set(&table::BARMAN_MODE, from);
        }
        let method = self.fixed(
            &table::BARMAN_METHOD,
            raw.barman_method.as_deref(),
            own::method,
        );
        let host = self.optional(
            &table::BARMAN_HOST,
            raw.barman_host.as_deref(),
            address::host,
        );
        let server_name = self.optional(
            &table::BARMAN_SERVER_NAME,
            raw.barman_server_name.as_deref(),
            naming::node_name,
        );
        let server_name = server_name.and_then(|given| {
            let name = || identity.map(|i| i.name.0.clone());
            self.or_derive(&table::BARMAN_SERVER_NAME, given, "REPMGR_NODE_NAME", name)
        });
        let cloud_name = self.cloud_name(raw, server_name.as_ref());
        let servers = self.servers(raw, kind);
        let password = self.password(&table::BARMAN_PASSWORD, raw.barman_password.as_deref());
        let streaming = self.password(
            &table::BARMAN_STREAMING_PASSWORD,
            raw.barman_streaming_password.as_deref(),
        );
        let habits = self.habits(raw);
        let barman = Barman {
            mode: mode?,
            password: password?,
            streaming_password: streaming?,
            servers: servers?,
            server_name: server_name?,
            cloud_name: cloud_name?,
            method: method?,
            host: host?,
            habits: habits?,
        };
        self.ships_over_ssh(raw, barman)
    }

    /// WAL over ssh needs to know where to, and keys.
    fn ships_over_ssh(&mut self, raw: &RawEnv, barman: Barman) -> Option<Barman> {
        if barman.method == Method::Streaming {
            return Some(barman);
        }
        if matches!(barman.mode, BarmanMode::Local | BarmanMode::Cloud) {
            let rule = "is for a barman host, and BARMAN_MODE is not remote";
            let remedy = "use BARMAN_MODE=remote, or leave BARMAN_METHOD at streaming".to_owned();
            self.wrong_with(&table::BARMAN_METHOD, Some("rsync"), rule, remedy);
            return None;
        }
        if barman.mode == BarmanMode::Remote && barman.host.is_none() {
            let rule = "is not set, and BARMAN_METHOD=rsync ships WAL to it";
            self.wrong(&table::BARMAN_HOST, None, rule);
            return None;
        }
        if barman.habits.incremental_schedule.is_some() {
            let rule = "is set, and incremental backups are made with BARMAN_METHOD=streaming only";
            let remedy = "unset it: rsync copies only what changed by itself".to_owned();
            self.wrong_with(&table::BARMAN_INCREMENTAL_SCHEDULE, None, rule, remedy);
            return None;
        }
        let takes_part = barman.mode == BarmanMode::Remote || !barman.servers.is_empty();
        if takes_part && raw.pgnode_ssh_keys.is_none() {
            let rule = "is not set, and BARMAN_METHOD=rsync works over ssh";
            let remedy = "share a volume between the nodes and the barman host".to_owned();
            self.wrong_with(&table::PGNODE_SSH_KEYS, None, rule, remedy);
            return None;
        }
        Some(barman)
    }

    fn habits(&mut self, raw: &RawEnv) -> Option<Habits> {
        let retention = self.fixed(
            &table::BARMAN_RETENTION,
            raw.barman_retention.as_deref(),
            schedule::retention,
        );
        let backup = self.fixed(
            &table::BARMAN_BACKUP_SCHEDULE,
            raw.barman_backup_schedule.as_deref(),
            schedule::cron,
        );
        let incremental = self.optional(
            &table::BARMAN_INCREMENTAL_SCHEDULE,
            raw.barman_incremental_schedule.as_deref(),
            schedule::cron,
        );
        let redundancy = self.fixed(
            &table::BARMAN_MINIMUM_REDUNDANCY,
            raw.barman_minimum_redundancy.as_deref(),
            |text| rules::number(text, 1, 1000),
        );
        let compression = self.fixed(
            &table::BARMAN_COMPRESSION,
            raw.barman_compression.as_deref(),
            own::compression,
        );
        let bandwidth = self.optional(
            &table::BARMAN_BANDWIDTH_LIMIT,
            raw.barman_bandwidth_limit.as_deref(),
            rules::rate,
        );
        let jobs = self.fixed(
            &table::BARMAN_PARALLEL_JOBS,
            raw.barman_parallel_jobs.as_deref(),
            |text| rules::number(text, 1, 100),
        );
        let immediate = self.fixed(
            &table::BARMAN_IMMEDIATE_CHECKPOINT,
            raw.barman_immediate_checkpoint.as_deref(),
            rules::boolean,
        );
        let max_age = self.fixed(
            &table::BARMAN_BACKUP_MAX_AGE,
            raw.barman_backup_max_age.as_deref(),
            rules::duration,
        );
        Some(Habits {
            retention_policy: retention?,
            minimum_redundancy: redundancy?,
            compression: compression?,
            bandwidth: bandwidth?,
            parallel_jobs: jobs?,
            immediate_checkpoint: immediate?,
            backup_schedule: backup?,
            incremental_schedule: incremental?,
            max_age: max_age?,
        })
    }

    fn servers(&mut self, raw: &RawEnv, kind: Option<NodeKind>) -> Option<Vec<BarmanServer>> {
        let var = &table::BARMAN_SERVERS;
        let given = self.optional(var, raw.barman_servers.as_deref(), own::servers)?;
        match (kind.is_some_and(NodeKind::keeps_backups), given) {
            (true, None) => {
                let rule = "is not set, and PGNODE_ROLE says that this is a barman host";
                let remedy = "name its clusters: BARMAN_SERVERS=main=pg1,pg2".to_owned();
                self.wrong_with(var, None, rule, remedy);
                None
            }
            (true, Some(servers)) => Some(servers),
            // All nodes may share one environment.
            (false, _) => Some(Vec::new()),
        }
    }

    #[expect(
        clippy::option_option,
        reason = "unset and faulty are different things"
    )]
    pub(in crate::config) fn restore(
        &mut self,
        raw: &RawEnv,
        paths: Option<&Paths>,
    ) -> Option<Option<Restore>> {
        let backup = self.optional(
            &table::PGNODE_RESTORE,
            raw.pgnode_restore.as_deref(),
            own::choice,
        );
        let from = self.fixed(
            &table::PGNODE_RESTORE_FROM,
            raw.pgnode_restore_from.as_deref(),
            own::from,
        );
        let tablespaces = self.tablespaces(raw, paths);
        let target = self.target(raw);
        let inclusive = self.fixed(
            &table::PGNODE_RESTORE_TARGET_INCLUSIVE,
            raw.pgnode_restore_target_inclusive.as_deref(),
            rules::boolean,
        );
        let timeline = self.fixed(
            &table::PGNODE_RESTORE_TARGET_TIMELINE,
            raw.pgnode_restore_target_timeline.as_deref(),
            own::timeline,
        );
        let action = self.fixed(
            &table::PGNODE_RESTORE_TARGET_ACTION,
            raw.pgnode_restore_target_action.as_deref(),
            own::action,
        );
        let retry = self.fixed(
            &table::PGNODE_RESTORE_RETRY,
            raw.pgnode_restore_retry.as_deref(),
            rules::duration,
        );
        let restore = Restore {
            backup: Choice::Latest,
            from: from?,
            tablespaces: tablespaces?,
            target: target?,
            inclusive: inclusive?,
            timeline: timeline?,
            action: action?,
            retry: retry?,
        };
        Some(backup?.map(|backup| Restore { backup, ..restore }))
    }

    /// Where a restore puts tablespaces: never where the data directory is, which is made anew.
    fn tablespaces(
        &mut self,
        raw: &RawEnv,
        paths: Option<&Paths>,
    ) -> Option<Vec<(String, PathBuf)>> {
        let var = &table::PGNODE_RESTORE_TABLESPACES;
        let given = raw.pgnode_restore_tablespaces.as_deref();
        let moved = self.optional(var, given, own::tablespaces)?;
        let moved = moved.unwrap_or_default();
        for (name, dir) in &moved {
            let Some(paths) = paths else { break };
            let private = paths.data_dir.join(".pgnode");
            for (live, what) in [
                (&paths.pgdata, "PGDATA"),
                (&private, "$PGNODE_DATA_DIR/.pgnode"),
            ] {
                if dir.starts_with(live) || live.starts_with(dir) {
                    let rule = format!(
                        "gives {name} a directory that is {what}, or inside it, or holds it"
                    );
                    let remedy = format!("name a directory that stands apart: {name}=/srv/{name}");
                    self.wrong_with(var, given, &rule, remedy);
                    return None;
                }
            }
        }
        Some(moved)
    }

    /// At most one target.
    fn target(&mut self, raw: &RawEnv) -> Option<Target> {
        let immediate = self.fixed(
            &table::PGNODE_RESTORE_TARGET_IMMEDIATE,
            raw.pgnode_restore_target_immediate.as_deref(),
            rules::boolean,
        )?;
        let mut given = Vec::new();
        if immediate {
            given.push((&table::PGNODE_RESTORE_TARGET_IMMEDIATE, Target::Immediate));
        }
        type Rule = fn(&str) -> Ruled<Target>;
        let others: [(&'static Var, &Option<String>, Rule); 4] = [
            (
                &table::PGNODE_RESTORE_TARGET_TIME,
                &raw.pgnode_restore_target_time,
                |t| own::time(t).map(Target::Time),
            ),
            (
                &table::PGNODE_RESTORE_TARGET_LSN,
                &raw.pgnode_restore_target_lsn,
                |t| own::lsn(t).map(Target::Lsn),
            ),
            (
                &table::PGNODE_RESTORE_TARGET_XID,
                &raw.pgnode_restore_target_xid,
                |t| rules::number(t, 3, u64::from(u32::MAX)).map(Target::Xid),
            ),
            (
                &table::PGNODE_RESTORE_TARGET_NAME,
                &raw.pgnode_restore_target_name,
                |t| own::point(t).map(Target::Name),
            ),
        ];
        let mut sound = true;
        for (var, text, rule) in others {
            match self.optional(var, text.as_deref(), rule) {
                Some(Some(target)) => given.push((var, target)),
                Some(None) => {}
                None => sound = false,
            }
        }
        if let [(first, _), (second, _), ..] = given.as_slice() {
            let rule = format!("is a second target beside {}", first.name);
            let remedy = "recovery stops at one: leave the others out".to_owned();
            self.wrong_with(second, None, &rule, remedy);
            return None;
        }
        sound.then(|| given.pop().map_or(Target::End, |(_, target)| target))
    }

    pub(in crate::config) fn drill(
        &mut self,
        raw: &RawEnv,
        paths: Option<&Paths>,
    ) -> Option<Drill> {
        let schedule = self.optional(
            &table::PGNODE_DRILL_SCHEDULE,
            raw.pgnode_drill_schedule.as_deref(),
            schedule::cron,
        );
        let dir = self.optional(
            &table::PGNODE_DRILL_DIR,
            raw.pgnode_drill_dir.as_deref(),
            directories::directory,
        );
        let own = dir.clone().flatten().is_some();
        let dir = dir.and_then(|given| {
            // Without a barman a drill is postgres's, and barman's directory is not.
            let cloud = raw.barman_mode.as_deref() == Some("cloud");
            let home = |p: &Paths| match cloud {
                true => p.data_dir.clone(),
                false => p.barman_backup_dir.clone(),
            };
            let below = || paths.map(|p| home(p).join(".drill"));
            self.or_derive(&table::PGNODE_DRILL_DIR, given, "BARMAN_BACKUP_DIR", below)
        });
        // The derived one is inside PGDATA where that is all of PGNODE_DATA_DIR: no matter, unless drills are wanted.
        let wanted = own || matches!(schedule, Some(Some(_)));
        if let (Some(dir), Some(paths)) = (dir.as_ref().filter(|_| wanted), paths)
            && (dir.starts_with(&paths.pgdata) || paths.pgdata.starts_with(dir))
        {
            let rule = "is PGDATA, or inside it, or holds it: a drill empties its directory";
            self.wrong(&table::PGNODE_DRILL_DIR, dir.to_str(), rule);
            return None;
        }
        Some(Drill {
            schedule: schedule?,
            dir: dir?,
        })
    }

    pub(in crate::config) fn ssh(&mut self, raw: &RawEnv) -> Option<Ssh> {
        let port = self.fixed(
            &table::PGNODE_SSH_PORT,
            raw.pgnode_ssh_port.as_deref(),
            rules::port,
        );
        let keys = self.optional(
            &table::PGNODE_SSH_KEYS,
            raw.pgnode_ssh_keys.as_deref(),
            directories::directory,
        );
        Some(Ssh {
            port: port?,
            keys: keys?,
        })
    }
}
