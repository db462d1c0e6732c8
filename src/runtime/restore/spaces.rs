//! Where the backup's tablespaces go, and whether they can: asked before anything is written.

use super::Tools;
use crate::barman::{Backup, Places, Tablespace};
use crate::config::Restore;
use crate::domain::{Fault, human_bytes};
use crate::runtime::survey::blocking;
use crate::sys::{self, Space, Stage};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A tablespace of the backup, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Placed {
    pub(super) name: String,
    pub(super) space: Space,
}

/// The setting that says where, for a refusal.
fn remedy(name: &str) -> String {
    format!("name another directory: PGNODE_RESTORE_TABLESPACES={name}=/path")
}

/// Each where it was, or where the settings say.
pub(super) fn places(wanted: &Restore, backup: &Backup) -> Result<Vec<Placed>, Fault> {
    // A name that looks like another's oid is a name.
    let of = |word: &str| {
        let mut all = backup.tablespaces.iter();
        let named = all.clone().find(|t| t.name == word);
        named.or_else(|| all.find(|t| t.oid.to_string() == word))
    };
    let refused = |word: &str, dir: &Path, why: String| {
        let dir = dir.display();
        Fault::Config(format!("PGNODE_RESTORE_TABLESPACES: {word}={dir} {why}"))
    };
    let mut moved: Vec<(&Tablespace, &PathBuf)> = Vec::new();
    for (word, dir) in &wanted.tablespaces {
        let Some(tablespace) = of(word) else {
            let names: Vec<&str> = backup.tablespaces.iter().map(|t| &*t.name).collect();
            let there = match names.as_slice() {
                [] => "none".to_owned(),
                names => format!("only {}", names.join(", ")),
            };
            let id = &backup.id;
            let why = format!(
                "names a tablespace that backup {id} does not have, it has {there}: remove it, or correct the name"
            );
            return Err(refused(word, dir, why));
        };
        if moved.iter().any(|(known, _)| known.oid == tablespace.oid) {
            let (name, oid) = (&tablespace.name, tablespace.oid);
            let why =
                format!("is a second directory for tablespace {name}, oid {oid}: leave one out");
            return Err(refused(word, dir, why));
        }
        moved.push((tablespace, dir));
    }
    let placed = backup.tablespaces.iter().map(|t| {
        let own = moved.iter().find(|(known, _)| known.oid == t.oid);
        Placed {
            name: t.name.clone(),
            space: Space {
                oid: t.oid,
                at: own.map_or(&t.location, |(_, dir)| dir).clone(),
            },
        }
    });
    Ok(placed.collect())
}

/// Nothing of ours or of others is in any of the directories, and they can be made.
pub(super) async fn check(
    tools: &Tools<'_>,
    backup: &Backup,
    placed: &[Placed],
) -> Result<(), Fault> {
    let stage = Stage::new(tools.layout.clone());
    let (id, placed) = (backup.id.clone(), placed.to_vec());
    blocking(move || Ok(unfit(&stage, &id, &placed))).await?
}

fn unfit(stage: &Stage, id: &str, placed: &[Placed]) -> Result<(), Fault> {
    for (n, Placed { name, space }) in placed.iter().enumerate() {
        let (dir, shown) = (&space.at, space.at.display());
        let whose = format!("tablespace {name} of backup {id} goes to {shown}");
        if !dir.is_absolute() {
            let remedy = remedy(name);
            return Err(Fault::Config(format!(
                "{whose}, which is no absolute path: {remedy}"
            )));
        }
        let layout = stage.layout();
        let live = [
            ("PGDATA", &layout.pgdata),
            ("pgnode's own directory", &layout.anchor),
        ];
        let others = placed.iter().take(n);
        let others = others.map(|other| (other.name.as_str(), &other.space.at));
        for (what, live) in live.into_iter().chain(others) {
            let near = sys::overlap(dir, live);
            if near.map_err(|e| sys::io_fault("look at", dir, &e))? {
                let (live, remedy) = (live.display(), remedy(name));
                return Err(Fault::Config(format!(
                    "{whose}, which is, is in, or holds, the place of {what} ({live}): {remedy}"
                )));
            }
        }
        if let Some(stranger) = stage.stranger(dir).map_err(|e| e.fault())? {
            let remedy = remedy(name);
            return Err(Fault::NeedsPerson(format!(
                "{whose}, and {shown} holds {stranger}: a restore overwrites nothing; empty it, mount an empty volume there, \
                 or {remedy}; nothing was touched"
            )));
        }
        let above = existing(dir);
        if !sys::is_writable(&above) {
            let (above, remedy) = (above.display(), remedy(name));
            return Err(Fault::NeedsPerson(format!(
                "{whose}, and {above} may not be written to: mount a volume there that pgnode may write to, or {remedy}; \
                 nothing was touched"
            )));
        }
    }
    Ok(())
}

/// A directory, or what there is of the way to it.
fn existing(dir: &Path) -> PathBuf {
    let mut dir = dir.to_owned();
    while !dir.exists() && dir.pop() {}
    dir
}

/// Whether each filesystem has room for all that goes there. Says what the first one has.
pub(super) async fn room(backup: &Backup, needs: Vec<(PathBuf, u64)>) -> Result<u64, Fault> {
    let mut rooms: Vec<(u64, PathBuf, u64)> = Vec::new();
    for (dir, need) in needs {
        let there = existing(&dir);
        let (at, looked) = (there.clone(), there.clone());
        let device = blocking(move || Ok(std::fs::metadata(looked)?.dev())).await?;
        match rooms.iter_mut().find(|(known, ..)| *known == device) {
            Some((_, _, sum)) => *sum += need,
            None => rooms.push((device, at, need)),
        }
    }
    let mut first = None;
    for (_, dir, need) in rooms {
        let at = dir.clone();
        let available = blocking(move || sys::fs_facts(&at)).await?.available;
        if available < need {
            return Err(Fault::NeedsPerson(format!(
                "the restore of backup {} needs about {} and {} has {} free: make room, or use a larger \
                 volume; nothing was touched",
                backup.id,
                human_bytes(need),
                dir.display(),
                human_bytes(available)
            )));
        }
        first = first.or(Some(available));
    }
    Ok(first.unwrap_or_default())
}

/// Where the files are put first.
pub(super) fn unpacked(staging: &Path, placed: &[Placed]) -> Places {
    let spaces = placed.iter().map(|p| (p.space.oid, p.space.unpacked()));
    Places {
        tablespaces: spaces.collect(),
        ..Places::of(staging)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Paths, Surroundings};
    use crate::sys::layout;

    fn wanted(tablespaces: &str) -> Restore {
        let vars = [
            ("REPMGR_NODE_NAME", "pg1"),
            ("PGNODE_RESTORE", "latest"),
            ("PGNODE_RESTORE_TABLESPACES", tablespaces),
        ];
        let vars = vars.into_iter().filter(|(_, value)| !value.is_empty());
        let vars = vars.map(|(n, v)| (n.to_owned(), v.to_owned()));
        let (config, _) = Config::from_vars(vars, &Surroundings::bare("pg1")).unwrap();
        config.restore.unwrap()
    }

    fn backup(tablespaces: &str) -> Backup {
        let text = format!("tablespaces={tablespaces}\n");
        Backup::parse("20261121T030000", "/b".into(), &text)
    }

    #[test]
    fn each_goes_where_it_was_or_where_the_settings_say() {
        let two = backup("[('fast', 16385, '/mnt/fast'), (\"t's\", 16386, '/mnt/slow one')]");
        let at = |setting: &str, of: &Backup| {
            places(&wanted(setting), of).map(|placed| {
                let each = placed
                    .iter()
                    .map(|p| format!("{}>{}", p.space.oid, p.space.at.display()));
                each.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(at("", &two).unwrap(), "16385>/mnt/fast 16386>/mnt/slow one");
        assert_eq!(at("fast=/x", &two).unwrap(), "16385>/x 16386>/mnt/slow one");
        assert_eq!(at("16386=/y,fast=/x", &two).unwrap(), "16385>/x 16386>/y");
        assert_eq!(at("t's=/y", &two).unwrap(), "16385>/mnt/fast 16386>/y");
        assert_eq!(at("", &backup("None")).unwrap(), "");
        // A name before an oid.
        let odd = backup("[('16386', 16385, '/a'), ('b', 16386, '/b')]");
        assert_eq!(at("16386=/x", &odd).unwrap(), "16385>/x 16386>/b");

        let refused = |setting: &str, of: &Backup, parts: &[&str]| {
            let fault = at(setting, of).unwrap_err();
            assert!(matches!(fault, Fault::Config(_)), "{fault:?}");
            let text = fault.to_string();
            for part in ["PGNODE_RESTORE_TABLESPACES: "].iter().chain(parts) {
                assert!(text.contains(part), "{text}, not {part}");
            }
        };
        refused(
            "slow=/x",
            &two,
            &["slow=/x names", "it has only fast, t's:"],
        );
        refused("slow=/x", &backup("None"), &["it has none: remove it"]);
        refused(
            "fast=/x,16385=/y",
            &two,
            &["16385=/y is a second", "leave one out"],
        );
    }

    #[test]
    fn a_directory_that_is_not_free_is_refused_and_stays_as_it_is() {
        let tmp = tempfile::tempdir().unwrap();
        let root = tmp.path();
        let paths = Paths {
            data_dir: root.join("volume"),
            pgdata: root.join("volume/data"),
            ..wanted_paths()
        };
        std::fs::create_dir_all(&paths.pgdata).unwrap();
        let stage = Stage::new(layout(&paths, false));
        let placed = |dirs: &[&str]| -> Vec<Placed> {
            let each = (16385..).zip(dirs).map(|(oid, dir)| Placed {
                name: format!("t{oid}"),
                space: Space {
                    oid,
                    at: root.join(dir),
                },
            });
            each.collect()
        };
        let found = |dirs: &[&str]| unfit(&stage, "id", &placed(dirs)).map_err(|f| f.to_string());
        std::fs::create_dir(root.join("empty")).unwrap();
        std::fs::create_dir(root.join("used")).unwrap();
        std::fs::write(root.join("used/notes"), "mine").unwrap();
        std::os::unix::fs::symlink(&paths.pgdata, root.join("link")).unwrap();
        assert_eq!(found(&["empty", "not/there"]), Ok(()));
        for (dirs, parts) in [
            (
                vec!["empty", "used"],
                ["tablespace t16386 of backup id", "used holds notes"],
            ),
            (
                vec!["volume/data/x"],
                ["is, is in, or holds, the place of PGDATA", "t16385=/path"],
            ),
            (
                vec!["link/x"],
                ["the place of PGDATA", "PGNODE_RESTORE_TABLESPACES"],
            ),
            (
                vec!["volume"],
                ["the place of PGDATA", "PGNODE_RESTORE_TABLESPACES"],
            ),
            (
                vec!["volume/.pgnode/x"],
                ["pgnode's own directory", "t16385=/path"],
            ),
            (vec!["a", "a"], ["the place of t16385", "t16386=/path"]),
            (vec!["a/b", "a"], ["the place of t16385", "t16386=/path"]),
        ] {
            let error = found(&dirs).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{dirs:?}: {error}");
            }
        }
        assert_eq!(
            std::fs::read_to_string(root.join("used/notes")).unwrap(),
            "mine"
        );
        assert!(!root.join("not").exists());
    }

    fn wanted_paths() -> Paths {
        let vars = [("REPMGR_NODE_NAME".to_owned(), "pg1".to_owned())];
        let (config, _) = Config::from_vars(vars, &Surroundings::bare("pg1")).unwrap();
        config.paths
    }
}
