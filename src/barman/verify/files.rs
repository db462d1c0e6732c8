//! The files of a base backup against the manifest that `pg_basebackup` wrote.

use super::Check;
use crate::barman::client::LONG;
use crate::barman::{Backup, Client, EMPTY, Kind};
use crate::domain::human_bytes;
use std::path::{Path, PathBuf};

const FILES: &str = "files";

/// Every file's size and checksum, by `pg_verifybackup`. Its WAL is not beside it, so `-n`.
pub(super) async fn look(client: &Client, backup: &Backup) -> Check {
    let id = &backup.id;
    if let Some(obstacle) = obstacle(backup) {
        return Check::skip(FILES, format!("{id}: {obstacle}"));
    }
    let dir = backup.data_dir();
    let mut words = vec!["-n".into()];
    // A download from a bucket has a file in each empty directory, which no manifest knows.
    let from = dir.clone();
    let kept = tokio::task::spawn_blocking(move || markers(&from)).await;
    for marker in kept.unwrap_or_default() {
        words.extend(["-i".into(), marker.into_os_string()]);
    }
    words.push(dir.into_os_string());
    let spec = client.program("pg_verifybackup", words);
    match client.children.run(spec, LONG).await {
        Ok(end) if end.exit.is_success() => {
            let size = backup.deduplicated_size.or(backup.size);
            let bytes = size.map(|b| format!(" ({})", human_bytes(b)));
            Check::pass(
                FILES,
                format!(
                    "{id}: every file{} has the size and the checksum of the manifest",
                    bytes.unwrap_or_default()
                ),
            )
        }
        Ok(end) => Check::fail(FILES, format!("{id}: {}", end.last_words())),
        Err(error) => Check::skip(FILES, format!("{id}: {error}")),
    }
}

/// Files that keep empty directories, below `dir`. What cannot be read is for `pg_verifybackup` to say.
fn markers(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut todo) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(at) = todo.pop() {
        for entry in std::fs::read_dir(&at).into_iter().flatten().flatten() {
            if entry.file_name() == EMPTY {
                let path = entry.path();
                found.extend(path.strip_prefix(dir).map(Path::to_owned));
            } else if entry.file_type().is_ok_and(|t| t.is_dir()) {
                todo.push(entry.path());
            }
        }
    }
    found
}

/// Why there is nothing to compare.
fn obstacle(backup: &Backup) -> Option<String> {
    let manifest = backup.data_dir().join("backup_manifest");
    if backup.kind() == Kind::Snapshot {
        return Some("a snapshot has no files here".into());
    }
    if let Some(method) = &backup.encryption {
        return Some(format!("its files are encrypted ({method})"));
    }
    if manifest.exists() && !packed(backup) {
        return None;
    }
    Some(match (backup.kind(), &backup.compression) {
        (Kind::Rsync, _) => "rsync writes no manifest to compare the files with; `barman \
             generate-manifest` writes one of the files as they are now"
            .into(),
        (_, Some(how)) => format!("its files are packed ({how}): only a restore unpacks them"),
        (_, None) => format!("{} is missing", manifest.display()),
    })
}

/// With `backup_compression` the files may be in a tar archive each.
fn packed(backup: &Backup) -> bool {
    !backup.data_dir().join("PG_VERSION").exists()
}
