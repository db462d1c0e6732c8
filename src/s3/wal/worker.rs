//! The worker: a process beside the postmaster that keeps connections to the bucket, and does what `wal-push` and
//! `wal-fetch` ask for. It ends when it is told to; whoever waits for it then does the work itself.

use super::ahead::Ahead;
use super::errand::{Answer, BEAT, Errand};
use super::shelf::Shelf;
use super::{Agent, Patience};
use crate::config::Kept;
use crate::domain::{ArchiveHealth, Fault};
use crate::s3::S3Error;
use crate::sys::now_ms;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// After a bucket that did not answer a standby, the next ones are told so at once: each second counts when a standby is
/// promoted, and it asks several times then.
const AWAY: Duration = Duration::from_secs(10);
/// Longer requests are none.
const LONGEST: u64 = 64 << 10;

/// How often the settings are looked at.
const SETTINGS: Duration = Duration::from_secs(2);
/// Between two looks whether a bucket answers that has not yet.
const LOOK: Duration = Duration::from_secs(5);

/// Serves requests until it is stopped, or until its settings, which are in the file `settings`, are others: its successor
/// reads them. While a setting cannot be used it is what everybody is told.
///
/// # Errors
/// The socket cannot be made.
pub async fn work(kept: &Kept, settings: &Path) -> Result<(), Fault> {
    let path = super::socket(&kept.run_dir);
    let listener = bind(&path).map_err(|e| crate::sys::io_fault("make the socket", &path, &e))?;
    tokio::select! {
        () = serve(kept, &listener) => {}
        () = changed(settings) => tracing::info!("the settings have changed"),
    }
    Ok(())
}

async fn serve(kept: &Kept, listener: &UnixListener) {
    let agent = match Agent::open(kept) {
        Ok(agent) => agent,
        Err(error) => return refuse(kept, listener, error.fault()).await,
    };
    let shelf = Arc::new(Shelf::new(agent.shelf()));
    let tidy = shelf.clone();
    tokio::spawn(async move { tidy.tidy().await });
    let worker = Arc::new(Worker {
        shelf,
        ahead: Arc::new(Ahead::new(agent)),
        away: Mutex::default(),
    });
    let first = worker.clone();
    tokio::spawn(async move { first.first_look().await });
    let perform = move |errand| {
        let worker = worker.clone();
        async move { worker.perform(errand).await }
    };
    accept(listener, perform).await;
}

/// A setting cannot be used, such as the file with the keys: until it can be.
async fn refuse(kept: &Kept, listener: &UnixListener, fault: Fault) {
    tracing::error!("{}", fault.why());
    let health = ArchiveHealth {
        failing_since_ms: Some(now_ms()),
        why: Some(fault.why().to_owned()),
        ..ArchiveHealth::default()
    };
    let answer = move |errand| {
        std::future::ready(match errand {
            Errand::Health => Answer::Health(health.clone()),
            Errand::Push { .. } | Errand::Fetch { .. } | Errand::Claim => {
                Answer::Failed(fault.clone())
            }
        })
    };
    let mended = async {
        while Agent::open(kept).is_err() {
            tokio::time::sleep(SETTINGS).await;
        }
    };
    tokio::select! {
        () = accept(listener, answer) => {}
        () = mended => tracing::info!("the settings can be used now"),
    }
}

async fn changed(settings: &Path) {
    let read = || std::fs::read(settings).ok();
    let before = read();
    loop {
        tokio::time::sleep(SETTINGS).await;
        if read() != before {
            return;
        }
    }
}

/// Answers whoever asks, all at once.
async fn accept<F: Future<Output = Answer> + Send>(
    listener: &UnixListener,
    perform: impl FnOnce(Errand) -> F + Clone + Send + 'static,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let perform = perform.clone();
                // Whoever asked may be gone.
                tokio::spawn(async move { drop(converse(stream, perform).await) });
            }
            // Out of descriptors: some will be closed.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn converse<F: Future<Output = Answer> + Send>(
    stream: UnixStream,
    perform: impl FnOnce(Errand) -> F + Send,
) -> std::io::Result<()> {
    let (from, mut to) = stream.into_split();
    let mut line = String::new();
    let mut from = BufReader::new(tokio::io::AsyncReadExt::take(from, LONGEST));
    from.read_line(&mut line).await?;
    let errand = serde_json::from_str(&line);
    let mut work = std::pin::pin!(async {
        match errand {
            Ok(errand) => perform(errand).await,
            Err(error) => Answer::Failed(Fault::Bug(format!("not understood: {error}"))),
        }
    });
    loop {
        let answer = tokio::select! {
            answer = &mut work => answer,
            () = tokio::time::sleep(BEAT) => Answer::Wait,
        };
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        to.write_all(&line).await?;
        if answer != Answer::Wait {
            return to.shutdown().await;
        }
    }
}

fn bind(path: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt as _;
    crate::sys::remove(path)?;
    let socket = tokio::net::UnixSocket::new_stream()?;
    socket.bind(path)?;
    // Nobody can connect before it listens.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    socket.listen(64)
}

#[derive(Debug)]
struct Worker {
    ahead: Arc<Ahead>,
    /// When the bucket last did not answer a standby, and why.
    away: Mutex<Option<(Instant, Fault)>>,
    shelf: Arc<Shelf>,
}

impl Worker {
    /// A wrong setting is said at the start, not at the first file, and shown until the bucket answers.
    async fn first_look(&self) {
        let store = self.ahead.agent().archive().store();
        let mut said = String::new();
        loop {
            let Err(error) = store.reach().await else {
                return self.ahead.silent(None);
            };
            let fault = error.fault();
            if said != fault.why() {
                fault.why().clone_into(&mut said);
                tracing::error!("{said}");
            }
            self.ahead.silent(Some(&said));
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn perform(&self, errand: Errand) -> Answer {
        match errand {
            Errand::Push { path } => match self.ahead.push(&path).await {
                Ok(()) => Answer::Done,
                Err(fault) => {
                    tracing::warn!("{}", fault.why());
                    Answer::Failed(fault)
                }
            },
            Errand::Fetch { name, to, standby } => {
                let patience = match standby {
                    true => Patience::Standby,
                    false => Patience::Recovery,
                };
                match self.fetch(name, to, patience).await {
                    Ok(true) => Answer::Done,
                    Ok(false) => Answer::Absent,
                    Err(fault) => Answer::Failed(fault),
                }
            }
            Errand::Claim => match self.ahead.claim().await {
                Ok(()) => Answer::Done,
                Err(fault) => {
                    tracing::error!("{}", fault.why());
                    Answer::Failed(fault)
                }
            },
            Errand::Health => Answer::Health(self.ahead.health()),
        }
    }

    async fn fetch(&self, name: String, to: PathBuf, patience: Patience) -> Result<bool, Fault> {
        let agent = self.ahead.agent();
        if self.shelf.take(&name, &to).await {
            self.shelf.restock(&self.ahead, &name, patience);
            return Ok(true);
        }
        if patience == Patience::Recovery {
            let found = agent
                .fetch(&name, &to, patience)
                .await
                .map_err(|e| e.fault())?;
            if found {
                self.shelf.restock(&self.ahead, &name, patience);
            }
            return Ok(found);
        }
        if let Some(fault) = self.away(None) {
            return Err(fault);
        }
        let fetched = agent.fetch(&name, &to, patience).await;
        if let Ok(true) = fetched {
            self.shelf.restock(&self.ahead, &name, patience);
        }
        fetched.map_err(|error| {
            let fault = error.fault();
            if error.is_transient() && !matches!(error, S3Error::File { .. }) {
                tracing::warn!("{}", fault.why());
                self.away(Some(fault.clone()));
            }
            fault
        })
    }

    /// Remembers that the bucket is away, or says whether it is.
    fn away(&self, now: Option<Fault>) -> Option<Fault> {
        let mut away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fault) = now {
            *away = Some((Instant::now(), fault));
        }
        away.as_ref()
            .filter(|(at, _)| at.elapsed() < AWAY)
            .map(|(_, fault)| fault.clone())
    }
}
