//! A drill from a bucket: the newest backup unpacked into the scratch directory as a restore does it, started there, all
//! WAL replayed.

use super::guard::Life;
use super::perform::{Ended, checksums, ms};
use super::scratch::Scratch;
use super::{Flaw, base, record, server};
use crate::barman::{Backup, Places};
use crate::config::{Format, Kept};
use crate::doctor::{Doctor, Finding, ailments};
use crate::domain::{DrillView, Fault, human_bytes, human_duration};
use crate::s3::base::Entry;
use crate::s3::source::Bucket;
use crate::s3::verify::{judge, look};
use crate::s3::{S3Error, Store};
use crate::sys;
use crate::sys::now_ms;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Room beside the files: WAL that is being replayed, and temporary files.
const BESIDE: u64 = 256 << 20;
/// What can be done about a backup in a bucket that failed its drill.
const REMEDY: &str = "`pgnode s3 verify --deep` reads all that is in the bucket; make a new backup at once: `pgnode backup` on the \
                      primary";

/// Restores the newest complete backup of the bucket's cluster, and writes down how that went.
pub async fn run(doctor: &Doctor, name: &str) -> (DrillView, Vec<Finding>) {
    let began = Instant::now();
    let mut work = Work {
        doctor,
        name,
        found: Vec::new(),
        known: Vec::new(),
        view: DrillView {
            server: name.to_owned(),
            ..DrillView::default()
        },
    };
    let ended = Box::pin(work.perform()).await;
    let Work {
        mut found,
        mut view,
        known,
        ..
    } = work;
    view.at_ms = now_ms();
    view.took_ms = ms(began.elapsed());
    view.peak_memory = sys::largest_child();
    if let Err((flaw, tried)) = ended {
        let id = view.backup.clone().unwrap_or_default();
        let words = [("server", name), ("home", "the bucket"), ("id", &id)];
        let mut finding = flaw.finding(&tried, &words);
        finding.remedy = Some(REMEDY.to_owned());
        view.error = Some(finding.why.clone());
        view.ailment = finding.ailment.map(str::to_owned);
        found.push(finding);
    }
    if view.ailment.as_deref() != Some(ailments::DRILL_BUSY.id)
        && let Err(error) = record(doctor, &mut view, &known)
    {
        let dir = super::records(&doctor.config);
        let why = format!("{}: {error}", dir.display());
        let flaw = Flaw::new(&ailments::DRILL_BROKEN, why);
        found.push(flaw.finding("writing the result down", &[("server", name)]));
    }
    (view, found)
}

struct Work<'a> {
    doctor: &'a Doctor,
    name: &'a str,
    found: Vec<Finding>,
    known: Vec<String>,
    view: DrillView,
}

fn at(tried: impl Into<String>) -> impl FnOnce(Flaw) -> (Flaw, String) {
    let tried = tried.into();
    move |flaw| (flaw, tried)
}

fn broken(why: impl ToString) -> Flaw {
    Flaw::new(&ailments::DRILL_BROKEN, why.to_string())
}

/// What the bucket did not give says nothing about the backup.
fn unread(error: &S3Error) -> Flaw {
    broken(Fault::chain(error))
}

/// Unless what it gave is not what was stored.
fn uncopied(error: &S3Error) -> Flaw {
    match error {
        S3Error::Damaged { .. } => Flaw::new(&ailments::DRILL_VERIFY, Fault::chain(error)),
        _ => unread(error),
    }
}

impl Work<'_> {
    fn passed(&mut self, check: &str, tried: &str, what: impl Into<String>) {
        self.found.push(Finding::pass(8, check, tried, what));
    }

    async fn perform(&mut self) -> Ended<()> {
        let config = &self.doctor.config;
        let tried = format!("claiming {}", config.drill.dir.join(self.name).display());
        // postgres, who makes them, may not even look at barman's directory.
        let scratch = Scratch::claim(self.doctor, self.name, None).map_err(at(tried))?;
        let ended = self.restore(&scratch).await;
        let tried = format!("removing {}", scratch.dir.display());
        let removed = scratch.remove();
        ended?;
        removed.map_err(|e| (broken(e), tried))
    }

    async fn restore(&mut self, scratch: &Scratch) -> Ended<()> {
        let (bucket, entry) = self.chosen().await?;
        let id = entry.backup.id.clone();
        self.room(&entry, scratch)?;
        let began = Instant::now();
        let tried = format!(
            "unpacking {id} of {bucket} into {}",
            scratch.data().display()
        );
        let done = Arc::new(AtomicU64::new(0));
        let spaces = entry.backup.tablespaces.iter();
        let places = Places {
            tablespaces: spaces.map(|t| (t.oid, scratch.tablespace(t.oid))).collect(),
            ..Places::of(&scratch.data())
        };
        bucket
            .copy(&entry, &places, self.doctor.owner(), done.clone())
            .await
            .map_err(|e| (uncopied(&e).with("id", &id), tried.clone()))?;
        base::link(&entry.backup, scratch).map_err(at(tried.clone()))?;
        let copied = began.elapsed();
        let read = human_bytes(done.load(Ordering::Relaxed));
        self.passed(
            "base copy",
            &tried,
            format!("{read} after {}", human_duration(copied)),
        );
        let tried = "comparing SHA-256";
        match entry.manifest {
            Some(_) => self.passed("manifest", tried, "every file is as it was stored"),
            None => {
                let why = "this backup has no list of checksums (barman-cloud's own)";
                self.found.push(Finding::skip(8, "manifest", why));
            }
        }
        let life = || Life::begin(&scratch.dir, self.doctor.owner());
        let life = life().map_err(broken).map_err(at("making a pipe"))?;
        let control = server::Control::read(self.doctor, &life, scratch).await;
        let control = control.map_err(at("pg_controldata"))?;
        self.restore_command(scratch)
            .and_then(|command| server::prepare(self.doctor, &command, scratch, control, None))
            .map_err(broken)
            .map_err(at("writing the scratch server's settings"))?;
        let tried = "starting a server on a private socket, replaying the whole archive";
        let reached = server::replay(self.doctor, scratch, life, None)
            .await
            .map_err(at(tried))?;
        self.view.restore_ms = Some(ms(copied + reached.up_after));
        self.view.recovery_lsn = reached.lsn;
        self.view.recovery_point_ms = reached.last_ms;
        let up = human_duration(reached.up_after);
        let point = reached
            .lsn
            .map_or_else(String::new, |lsn| format!(", at {lsn}"));
        self.passed("recovery", tried, format!("up after {up}{point}"));
        self.view.bytes = sys::dir_size(&scratch.data()).ok();
        checksums(self.doctor, scratch, control, &mut self.found).await
    }

    /// The newest complete backup, if it can be restored.
    async fn chosen(&mut self) -> Ended<(Bucket, Entry)> {
        let config = &self.doctor.config;
        let tried = "reading the catalogue";
        let Some(settings) = &config.s3 else {
            return Err((broken("S3_BUCKET_URI is not set"), tried.to_owned()));
        };
        let store = Store::open(settings).map_err(|e| at(tried)(unread(&e)))?;
        let bucket = Bucket::new(store, self.name);
        let seen = look(&bucket).await.map_err(|e| at(tried)(unread(&e)))?;
        self.known = seen.entries.iter().map(|e| e.backup.id.clone()).collect();
        let none = |why: String| at(tried)(Flaw::new(&ailments::DRILL_NO_BACKUP, why));
        let report = judge(&seen);
        let newest = seen.entries.iter().rfind(|e| e.backup.is_done());
        let entry =
            newest.ok_or_else(|| none(format!("none of {} is DONE", seen.entries.len())))?;
        let id = &entry.backup.id;
        self.view.backup = Some(id.clone());
        let view = report.backups.iter().find(|b| b.id == *id);
        if let Some(why) = view.and_then(|b| b.why_not.as_ref()) {
            let flaw = Flaw::new(&ailments::DRILL_LACKS, why).with("id", id);
            return Err(at(tried)(flaw));
        }
        self.no_newer_tablespace(&entry.backup)
            .map_err(at("comparing tablespaces"))?;
        if entry.archives.is_empty() {
            return Err(none(format!(
                "{id} is a barman host's copy: drills are made there"
            )));
        }
        let tried = format!("looking for every segment that {id} needs");
        let last = view.and_then(|b| b.reaches.clone()).unwrap_or_default();
        self.passed("WAL", &tried, format!("there without a gap up to {last}"));
        Ok((bucket, entry.clone()))
    }

    /// Replay makes a tablespace that is newer than the backup in its own place, where the running server has it.
    fn no_newer_tablespace(&self, backup: &Backup) -> Result<(), Flaw> {
        let links = self.doctor.config.paths.pgdata.join("pg_tblspc");
        let entries = std::fs::read_dir(&links).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let entries = entries.map_err(|e| broken(format!("{}: {e}", links.display())))?;
        let names = entries.iter().map(|e| e.file_name());
        let mut oids = names.filter_map(|name| name.to_str()?.parse::<u32>().ok());
        match oids.find(|oid| !backup.tablespaces.iter().any(|t| t.oid == *oid)) {
            None => Ok(()),
            Some(oid) => {
                let why = format!("tablespace {oid} is not in {}", backup.id);
                Err(Flaw::new(&ailments::DRILL_TABLESPACE, why))
            }
        }
    }

    fn room(&mut self, entry: &Entry, scratch: &Scratch) -> Ended<()> {
        let tried = "looking at the volume of the scratch directory";
        // What its size was is not always written down.
        let packed = entry.archives.iter().map(|a| match a.name.format {
            Format::None => a.object.size,
            _ => a.object.size.saturating_mul(3),
        });
        let bytes = entry.backup.cluster_size.unwrap_or_else(|| packed.sum());
        let need = bytes.saturating_add(bytes / 10).saturating_add(BESIDE);
        let facts = sys::fs_facts(&scratch.dir)
            .map_err(|e| at(tried)(Flaw::new(&ailments::DRILL_DIR, e.to_string())))?;
        if facts.available < need {
            let flaw = Flaw::new(&ailments::DRILL_SPACE, "")
                .with("path", scratch.dir.display().to_string())
                .with("free", human_bytes(facts.available))
                .with("need", human_bytes(need));
            return Err(at(tried)(flaw));
        }
        self.passed("room", tried, format!("enough for {}", human_bytes(bytes)));
        Ok(())
    }

    /// `pgnode drill-wal` with the settings of the bucket, which only the scratch server's account may read.
    fn restore_command(&self, scratch: &Scratch) -> std::io::Result<String> {
        let kept = Kept::of(&self.doctor.config)
            .ok_or_else(|| std::io::Error::other("S3_BUCKET_URI is not set"))?;
        let kept = Kept {
            server: self.name.to_owned(),
            ..kept
        };
        let path = scratch.dir.join(Kept::FILE);
        let text = kept.to_json().map_err(std::io::Error::other)?;
        sys::write_volatile(&path, &text, 0o600, self.doctor.owner())?;
        server::restore_command(&path)
    }
}
