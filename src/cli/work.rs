//! Work that a verb does itself, with children of its own: not as PID 1, so as a subreaper.

use super::lament;
use crate::domain::{ExitCode, Fault};
use crate::sys::{Children, Received, Signal, Signals};
use std::time::Duration;

/// How long the children of work that was interrupted may take to end.
const TIDY: Duration = Duration::from_secs(5);

/// Runs `work` to its end, or until a person or a supervisor stops it: then its children get the same
/// signal as from a terminal, so that barman marks what it leaves, and the exit code is 128+n.
pub(super) fn perform<W>(work: impl FnOnce(Children) -> W) -> ExitCode
where
    W: Future<Output = Result<ExitCode, Fault>>,
{
    run(supervised(work))
}

/// Runs a verb's work on this thread; what still blocks elsewhere at its end is left alone.
pub(super) fn run(work: impl Future<Output = Result<ExitCode, Fault>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(work);
            runtime.shutdown_background();
            ended
        }
        Err(error) => Err(Fault::Transient(format!("no async runtime: {error}"))),
    };
    ended.unwrap_or_else(|fault| lament(&fault))
}

async fn supervised<W>(work: impl FnOnce(Children) -> W) -> Result<ExitCode, Fault>
where
    W: Future<Output = Result<ExitCode, Fault>>,
{
    let failed =
        |what: &str, error: std::io::Error| Fault::Transient(format!("cannot {what}: {error}"));
    let mut signals = Signals::register().map_err(|e| failed("register the signals", e))?;
    let children = Children::new();
    children
        .adopt_orphans()
        .map_err(|e| failed("become a subreaper", e.into()))?;
    let mut work = std::pin::pin!(work(children.clone()));
    let number = loop {
        tokio::select! {
            ended = &mut work => return ended,
            signal = signals.next() => match signal {
                Received::Child => { children.sweep(); }
                Received::Stop(number) => break number,
                Received::Reload => {}
            }
        }
    };
    let tidy = async {
        children.signal_all(Signal::SIGINT);
        loop {
            tokio::select! {
                _ = &mut work => break,
                signal = signals.next() => if signal == Received::Child { children.sweep(); },
            }
        }
    };
    drop(tokio::time::timeout(TIDY, tidy).await);
    // A grandchild whose parent is gone is ours now.
    children.signal_all(Signal::SIGTERM);
    Ok(ExitCode::signal(number))
}
