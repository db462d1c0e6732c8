//! The one command behind a trusted key.

use super::failed;
use crate::barman::ssh::{Request, Shelf};
use crate::barman::{Server, Source, Wal};
use crate::cli::ask;
use crate::config;
use crate::domain::{ExitCode, Fault};
use serde_json::json;
use std::io::{self, Read as _, Write};
use std::net::SocketAddr;
use std::path::Path;

/// On a data node, for its barman host.
pub(in crate::cli) fn node(http: SocketAddr) -> ExitCode {
    match Request::of_barman(&config::ssh_request()) {
        Ok(Request::True) => ExitCode::STOPPED,
        Ok(Request::IsPrimary) => ask::is_primary(http),
        Ok(Request::Rsync(args)) => {
            let error = crate::sys::become_program("rsync", &args);
            failed(&Fault::chain(&error))
        }
        Ok(other) => failed(&format!("a data node does not answer {other:?}")),
        Err(refused) => failed(&refused.to_string()),
    }
}

/// On a barman host, for a data node of `cluster`: it reads any cluster's backups, as a restore under a
/// new name has to, and brings WAL of its own.
pub(in crate::cli) fn barman(home: &Path, cluster: &str) -> ExitCode {
    let request = match Request::of_node(&config::ssh_request()) {
        Ok(request) => request,
        Err(refused) => return failed(&refused.to_string()),
    };
    let mut out = io::BufWriter::with_capacity(1 << 18, io::stdout().lock());
    let done = answer(home, cluster, request, &mut out).and_then(|()| Ok(out.flush()?));
    match done {
        Ok(()) => ExitCode::STOPPED,
        Err(error) => failed(&Fault::chain(&*error)),
    }
}

type Answered = Result<(), Box<dyn std::error::Error>>;

fn answer(home: &Path, cluster: &str, request: Request, out: &mut impl Write) -> Answered {
    let at = |name: &str| Server::at(home.join(name));
    match request {
        Request::True => Ok(()),
        Request::Catalogue(name) => catalogue(&at(&name), out),
        Request::Archive(name, size) => {
            let archive = wait(Source::Directory(at(&name)).archive(size))??;
            Ok(serde_json::to_writer(out, &archive)?)
        }
        Request::Wal(name, file, anchor) => wal(at(&name), &file, &anchor, out),
        Request::Entries(name, id) => {
            let backup = at(&name).backup(&id)?;
            let entries = wait(Source::Directory(at(&name)).entries(&backup))??;
            Ok(serde_json::to_writer(out, &entries)?)
        }
        Request::Base(name, id) => {
            let mut tar = tar::Builder::new(out);
            tar.follow_symlinks(false);
            let backup = at(&name).backup(&id)?;
            tar.append_dir_all("data", backup.data_dir())?;
            for space in &backup.tablespaces {
                let oid = space.oid.to_string();
                tar.append_dir_all(oid, backup.tablespace_dir(space.oid))?;
            }
            Ok(tar.finish()?)
        }
        Request::PutWal(name, file, bytes, into) => {
            if name != cluster {
                return Err(format!(
                    "this node brings WAL of {cluster}, not of {name}: BARMAN_SERVER_NAME has changed, and \
                     the barman host has not noticed yet"
                )
                .into());
            }
            let mut stdin = io::stdin().lock();
            let kept = Shelf::of(home, &name).put(&file, bytes, Path::new(&into), &mut stdin)?;
            Ok(serde_json::to_writer(
                out,
                &json!({ "kept": format!("{kept:?}") }),
            )?)
        }
        Request::IsPrimary | Request::Rsync(_) => {
            Err("a barman host has no data of its own".into())
        }
    }
}

/// barman's own files on its backups, as they lie, so that both sides read them with the same eyes.
fn catalogue(server: &Server, out: &mut impl Write) -> Answered {
    let mut tar = tar::Builder::new(out);
    let mut add = |path: &str| -> io::Result<()> {
        match std::fs::metadata(server.dir.join(path)) {
            Ok(meta) if meta.is_dir() => tar.append_dir_all(path, server.dir.join(path)),
            Ok(_) => tar.append_path_with_name(server.dir.join(path), path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    };
    add("identity.json")?;
    add("meta")?;
    for entry in std::fs::read_dir(server.dir.join("base"))? {
        let id = entry?.file_name();
        let id = id.to_string_lossy();
        add(&format!("base/{id}/backup.info"))?;
        add(&format!("base/{id}/annotations"))?;
    }
    Ok(tar.finish()?)
}

/// A line that says whether it is there, then the file.
fn wal(server: Server, name: &str, anchor: &str, out: &mut impl Write) -> Answered {
    let found = match anchor {
        // A history is asked for before a backup is chosen: then the directories have to be there.
        "none" => {
            std::fs::read_dir(server.dir.join("base"))?;
            std::fs::read_dir(server.dir.join("wals"))?;
            whole(&server, name)?
        }
        _ => wait(Source::Directory(server).wal(name, anchor))??,
    };
    let place = found.as_ref().map(|w| w.place.to_string());
    let bytes = found.as_ref().map(|w| w.bytes.len());
    writeln!(out, "{}", json!({ "place": place, "bytes": bytes }))?;
    if let Some(wal) = found {
        out.write_all(&wal.bytes)?;
    }
    Ok(())
}

fn whole(server: &Server, name: &str) -> io::Result<Option<Wal>> {
    let Some(file) = server.wal_file(name)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    file.open()?.read_to_end(&mut bytes)?;
    let place = file.place;
    Ok(Some(Wal { bytes, place }))
}

/// Runs what the running node does in its loop.
fn wait<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work))
}
