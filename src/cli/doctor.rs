//! `pgnode doctor` and `pgnode drill`: run where they are called, beside the node.

use super::{complain, lament, say};
use crate::barman::{Place, Server};
use crate::config::{BarmanMode, Config, Kept};
use crate::doctor::{
    Diagnosis, Doctor, Finding, Order, STEPS, UnknownServer, Verdict, drill, examine,
};
use crate::domain::{DrillView, ExitCode, Fault, human_duration};
use crate::s3::Store;
use crate::sys::{self, Children, Received, Signals};
use clap::Args;
use serde_json::json;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const EXAMPLES: &str = "\
Walks the chain that a backup hangs on, in order: logins, barman's own checks, a row written and its WAL
archived, the age of the last backup, the last drill. With --full a backup is made and restored into
PGNODE_DRILL_DIR. Each failure names its cause and what mends it; all of them are in docs/doctor.md.

Examples:
  docker exec pg1 pgnode doctor                       a few seconds, on a node with BARMAN_MODE=local
  docker exec barman pgnode doctor main               on a barman host, one cluster
  docker exec barman pgnode doctor --full             a backup and a restore as well
  docker exec pg1 pgnode doctor --step 6              the WAL round trip only
  docker exec pg1 pgnode doctor --json | jq -r '.servers[].findings[] | select(.verdict==\"FAIL\").remedy'

Exit codes: 0 nothing failed, 1 something did, 64 there is nothing to examine.";

const DRILL_EXAMPLES: &str = "\
Runs at the lowest priority and listens on a private socket only. The result is kept: `pgnode status`,
`pgnode doctor` and /metrics show it, and a backup that failed is marked.

Examples:
  docker exec barman pgnode drill main
  docker exec pg1 pgnode drill --json | jq .drills[0].restore_ms

Exit codes: 0 the backup is good, 1 it is not or the drill could not be made, 64 there is no such server.";

/// The words of `pgnode drill`.
#[derive(Debug, Args)]
#[command(after_help = DRILL_EXAMPLES)]
pub(super) struct DrillWords {
    /// barman's name of the cluster; all that this container keeps unless given
    server: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// For cron, from a bucket: where the node's settings for it are, which its environment has not
    #[arg(long, hide = true)]
    run_dir: Option<PathBuf>,
}

/// A finding that failed.
const FAILED: ExitCode = ExitCode(1);

pub(super) fn doctor(config: &Config, order: &Order, json: bool) -> ExitCode {
    let began = Instant::now();
    let seen = with_doctor(config, async |doctor| examine(&doctor, order).await);
    let all = match seen {
        Ok(Ok(all)) => all,
        Ok(Err(error)) => return complain(&error.to_string()),
        Err(code) => return code,
    };
    let worst = all.iter().map(|d| d.verdict).max().unwrap_or(Verdict::Skip);
    let took = began.elapsed();
    if json {
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let value = json!({ "verdict": worst, "took_ms": took_ms, "servers": all });
        say(&format!("{value:#}\n"));
    } else {
        let colour = std::io::stdout().is_terminal();
        for diagnosis in &all {
            say(&text(diagnosis, colour));
        }
        say(&format!("after {}\n", human_duration(took)));
    }
    code(worst)
}

pub(super) fn drill(config: &Config, words: &DrillWords) -> ExitCode {
    let kept = words.run_dir.as_deref().map(super::s3::kept).transpose();
    let config = match kept {
        Ok(None) => config.clone(),
        Ok(Some(kept)) => kept.over(config),
        Err(fault) => return lament(&fault),
    };
    let (server, json) = (words.server.as_deref(), words.json);
    let made = with_doctor(&config, async |doctor| drill::drill(&doctor, server).await);
    let made: Vec<(DrillView, Vec<Finding>)> = match made {
        Ok(Ok(made)) => made,
        Ok(Err(error)) => return complain(&UnknownServer::to_string(&error)),
        Err(code) => return code,
    };
    let all = made.iter().flat_map(|(_, found)| found);
    let worst = all.map(|f| f.verdict).max().unwrap_or(Verdict::Skip);
    if json {
        let views: Vec<&DrillView> = made.iter().map(|(view, _)| view).collect();
        say(&format!(
            "{:#}\n",
            json!({ "verdict": worst, "drills": views })
        ));
    } else if std::io::stdout().is_terminal() {
        for (view, found) in made {
            say(&text(&Diagnosis::new(&view.server, found), true));
        }
    } else {
        // One line each: the crontab's job writes into the log.
        for (view, found) in made {
            say(&drill_line(&view, &found));
        }
    }
    // Not made is not good either.
    match worst {
        Verdict::Warn => FAILED,
        Verdict::Pass | Verdict::Skip | Verdict::Fail => code(worst),
    }
}

fn drill_line(view: &DrillView, found: &[Finding]) -> String {
    let id = view.backup.as_deref().unwrap_or("no backup");
    let bad = found.iter().rfind(|f| f.verdict >= Verdict::Warn);
    match bad {
        None => format!(
            "INFO drill of {}: {id} is good: {}\n",
            view.server,
            view.summary()
        ),
        Some(f) => {
            let remedy = f.remedy.as_deref().unwrap_or_default();
            format!(
                "WARNING drill of {} failed with {id}: {}; {remedy}\n",
                view.server, f.why
            )
        }
    }
}

const fn code(worst: Verdict) -> ExitCode {
    match worst {
        Verdict::Pass | Verdict::Skip | Verdict::Warn => ExitCode::STOPPED,
        Verdict::Fail => FAILED,
    }
}

const fn colour_of(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "\x1b[32m",
        Verdict::Skip => "\x1b[2m",
        Verdict::Warn => "\x1b[1;33m",
        Verdict::Fail => "\x1b[1;31m",
    }
}

/// For a person: each step, each check, and under what failed what mends it.
fn text(d: &Diagnosis, colour: bool) -> String {
    let mut out = String::new();
    let word = |verdict: Verdict| match colour {
        true => format!("{}{}\x1b[0m", colour_of(verdict), verdict.word()),
        false => verdict.word().to_owned(),
    };
    out.push_str(&format!("{}  {}\n", word(d.verdict), d.server));
    for (step, title) in STEPS {
        let found: Vec<&Finding> = d.findings.iter().filter(|f| f.step == step).collect();
        if found.is_empty() {
            continue;
        }
        out.push_str(&format!("\n{step}. {title}\n"));
        for f in found {
            out.push_str(&format!("  {}  {}: {}\n", word(f.verdict), f.check, f.why));
            if let Some(remedy) = &f.remedy {
                out.push_str(&format!(
                    "        tried: {}\n        remedy: {remedy}\n",
                    f.tried
                ));
            }
        }
    }
    out.push('\n');
    out
}

/// How long children may take to end after us.
const LAST: Duration = Duration::from_secs(10);

/// Runs with children of its own; a signal ends the work and, in order, what it had started.
fn with_doctor<T>(config: &Config, work: impl AsyncFnOnce(Doctor) -> T) -> Result<T, ExitCode> {
    let failed = |why: String| {
        drop(writeln!(std::io::stderr().lock(), "pgnode: {why}"));
        ExitCode::TRANSIENT
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(8)
        .build()
        .map_err(|e| failed(format!("cannot start the async runtime: {e}")))?;
    let accounts = sys::Accounts::find().map_err(|fault| failed(fault.to_string()))?;
    let mut config = config.clone();
    let cloud = config.barman.mode == BarmanMode::Cloud;
    if !accounts.root
        && let Ok(vars) = sys::name_ourselves(&config.paths.run_dir)
    {
        // barman looks its account up by name.
        config.environment.base.extend(vars);
    }
    runtime.block_on(async {
        let mut signals = Signals::register().map_err(|e| failed(format!("signals: {e}")))?;
        let children = Children::new();
        children
            .adopt_orphans()
            .map_err(|e| failed(format!("subreaper: {e}")))?;
        let doctor = Doctor {
            config: Arc::new(config),
            children: children.clone(),
            // Without a barman everything is postgres's.
            account: match cloud {
                true => accounts.postgres.clone(),
                false => accounts.barman,
            },
            postgres: accounts.postgres,
        };
        let mut stopped = None;
        let mut done = None;
        {
            let mut work = Box::pin(work(doctor));
            while stopped.is_none() && done.is_none() {
                tokio::select! {
                    value = &mut work => done = Some(value),
                    signal = signals.next() => match signal {
                        Received::Child => { children.sweep(); }
                        Received::Stop(number) => stopped = Some(number),
                        Received::Reload => {}
                    }
                }
            }
        }
        if let Some(value) = done {
            return Ok(value);
        }
        // Whatever was dropped has been told to end.
        let ends = async {
            while children.known() > 0 || children.left() > 0 {
                signals.next().await;
                children.sweep();
            }
        };
        drop(tokio::time::timeout(LAST, ends).await);
        Err(ExitCode::signal(stopped.unwrap_or_default()))
    })
}

/// "Not there": the recovery ends there. Anything else stops it: above 125 postgres gives up.
const NOT_THERE: ExitCode = ExitCode(1);
const BROKEN: ExitCode = ExitCode(200);

/// Copies a file of the archive to where recovery wants it. Nothing that is only received in part.
pub(super) fn drill_wal(dir: PathBuf, name: &str, target: &Path) -> ExitCode {
    if dir.ends_with(Kept::FILE) {
        return match bucket_wal(&dir, name, target) {
            Ok(true) => ExitCode::STOPPED,
            Ok(false) => NOT_THERE,
            Err(fault) => {
                drop(writeln!(
                    std::io::stderr().lock(),
                    "pgnode: {name}: {fault}"
                ));
                BROKEN
            }
        };
    }
    let copied = Server::at(dir).wal_file(name).and_then(|found| {
        let Some(file) = found else { return Ok(false) };
        match file.place {
            Place::Archived | Place::Incoming | Place::Streaming => {}
            Place::Partial | Place::ArchivedPartial => return Ok(false),
        }
        let mut bytes = Vec::new();
        file.open()?.read_to_end(&mut bytes)?;
        std::fs::write(target, bytes)?;
        Ok(true)
    });
    match copied {
        Ok(true) => ExitCode::STOPPED,
        Ok(false) => NOT_THERE,
        Err(error) => {
            drop(writeln!(
                std::io::stderr().lock(),
                "pgnode: {name}: {error}"
            ));
            BROKEN
        }
    }
}

/// The same from a bucket, with the settings in that file.
fn bucket_wal(kept: &Path, name: &str, target: &Path) -> Result<bool, Fault> {
    let failed = |e: std::io::Error| Fault::Transient(e.to_string());
    let text = std::fs::read(kept).map_err(failed)?;
    let kept = Kept::from_json(&text, kept).map_err(|e| Fault::NeedsPerson(Fault::chain(&e)))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let store = Store::open(&kept.s3).map_err(|e| e.fault())?;
        let wals = crate::s3::wal::Archive::new(store, &kept.server);
        let found = wals.fetch(name, None).await.map_err(|e| e.fault())?;
        let Some(found) = found else { return Ok(false) };
        std::fs::write(target, found.bytes).map_err(failed)?;
        Ok(true)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_shown_with_what_mends_it_and_colours_only_when_asked_for() {
        let found = vec![
            Finding::of(&crate::doctor::ailments::NO_PRIMARY, "asking", "", &[]),
            Finding::pass(7, "last backup", "reading", "young"),
        ];
        let d = Diagnosis::new("main", found);
        let plain = text(&d, false);
        assert!(
            plain.starts_with("FAIL  main\n\n2. barman's login to every node\n  FAIL  a primary: "),
            "{plain}"
        );
        assert!(
            plain.contains("\n        remedy: look at `pgnode status`"),
            "{plain}"
        );
        assert!(
            plain.contains("\n7. a backup\n  PASS  last backup: young\n"),
            "{plain}"
        );
        assert!(!plain.contains('\x1b'));
        assert!(text(&d, true).contains("\x1b[1;31mFAIL\x1b[0m"));
        assert_eq!(
            (code(d.verdict), code(Verdict::Warn)),
            (FAILED, ExitCode::STOPPED)
        );
    }
}
