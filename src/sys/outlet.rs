//! Standard output, written by a thread of its own.
//!
//! PID 1 must not wait for whoever reads its log: a terminal on hold, a stuck log driver. A `write`
//! that blocks would stop the supervision, and with it the fencing. So lines go into a bounded
//! queue; what feeds it from children waits for room ([`Outlet::room`]), so that a flood slows its
//! own source down as a plain pipe would; and when nobody reads at all, lines are dropped and
//! counted instead.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Bytes that may wait before lines are dropped.
const MOST: usize = 1024 * 1024;
/// Bytes from which on pumps wait for room.
const HIGH: usize = 256 * 1024;
/// Without any progress for so long, nobody is reading.
const STUCK: Duration = Duration::from_secs(1);
/// A buffer that a flood made larger is given back.
const KEEP: usize = 64 * 1024;

#[derive(Default)]
struct Queue {
    pending: Vec<u8>,
    /// The thread is inside `write`.
    writing: bool,
    /// Lines dropped since the last one that was taken.
    dropped: u64,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// For the thread: something is pending.
    work: Condvar,
    /// For [`Outlet::flush`]: everything was written.
    idle: Condvar,
    /// For [`Outlet::room`]: something was written.
    room: Notify,
    stuck: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing under this lock can leave the queue half-changed.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way out for log lines. Clones share it.
#[derive(Clone)]
pub struct Outlet(Arc<Shared>);

impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let queue = self.0.lock();
        f.debug_struct("Outlet")
            .field("pending", &queue.pending.len())
            .field("dropped", &queue.dropped)
            .finish()
    }
}

impl Outlet {
    /// Starts the thread that writes. It ends with the process, or at [`Outlet::close`].
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(mut to: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let ours = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("log".into())
            .stack_size(128 * 1024)
            .spawn(move || drain(&ours, &mut to))?;
        Ok(Self(shared))
    }

    /// Queues one line, its newline included. `Err` when there is no room: the line is dropped and
    /// counted. `Ok(n)`: taken, and `n` lines before it were not.
    ///
    /// # Errors
    /// [`Full`].
    pub fn push(&self, line: &[u8]) -> Result<u64, Full> {
        let mut queue = self.0.lock();
        if queue.pending.len() + line.len() > MOST {
            queue.dropped = queue.dropped.saturating_add(1);
            return Err(Full);
        }
        queue.pending.extend_from_slice(line);
        let dropped = std::mem::take(&mut queue.dropped);
        drop(queue);
        self.0.work.notify_one();
        Ok(dropped)
    }

    /// Waits while the queue is long; not at all when nobody is reading.
    pub async fn room(&self) {
        loop {
            // Registered before the look, so that a write in between is not missed.
            let mut wrote = std::pin::pin!(self.0.room.notified());
            wrote.as_mut().enable();
            if self.0.lock().pending.len() < HIGH || self.0.stuck.load(Ordering::Relaxed) {
                return;
            }
            if tokio::time::timeout(STUCK, wrote).await.is_err() {
                self.0.stuck.store(true, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Waits until everything was written, at most `limit`; `false` when that was not enough.
    /// Blocks: for the end of the process.
    #[must_use]
    pub fn flush(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut queue = self.0.lock();
        while queue.writing || !queue.pending.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            queue = self
                .0
                .idle
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    /// Ends the thread once it has written what is pending.
    pub fn close(&self) {
        self.0.lock().closed = true;
        self.0.work.notify_one();
    }
}

/// The queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("standard output is not being read: the log queue is full")]
pub struct Full;

fn drain(shared: &Shared, to: &mut impl Write) {
    let mut batch = Vec::new();
    loop {
        let mut queue = shared.lock();
        queue.writing = false;
        if queue.pending.is_empty() {
            shared.idle.notify_all();
        }
        while queue.pending.is_empty() {
            if queue.closed {
                return;
            }
            queue = shared
                .work
                .wait(queue)
                .unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::swap(&mut queue.pending, &mut batch);
        queue.writing = true;
        drop(queue);
        write_all(to, &batch, shared);
        batch.clear();
        batch.shrink_to(KEEP);
    }
}

/// Writes as much as can be written. A reader that is gone (EPIPE) loses the lines, and the next
/// batch is tried all the same: it may be a terminal that comes back.
fn write_all(to: &mut impl Write, mut rest: &[u8], shared: &Shared) {
    while !rest.is_empty() {
        match to.write(rest) {
            Ok(0) => break,
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(why) if why.kind() == ErrorKind::Interrupted => continue,
            // Somebody made our end non-blocking; it is shared with whoever gave it to us.
            Err(why) if why.kind() == ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            }
            Err(_gone) => break,
        }
        shared.stuck.store(false, Ordering::Relaxed);
        shared.room.notify_waiters();
    }
    shared.room.notify_waiters();
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::mpsc;

    /// Passes on every write, one at a time: a pipe whose reader the test is.
    struct Pipe(mpsc::SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let some = &bytes[..bytes.len().min(100)];
            match self.0.send(some.to_vec()) {
                Ok(()) => Ok(some.len()),
                Err(_) => Err(ErrorKind::BrokenPipe.into()),
            }
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn lines_come_out_whole_and_in_order() {
        let (tx, rx) = mpsc::sync_channel(1000);
        let outlet = Outlet::start(Pipe(tx)).unwrap();
        let mut want = Vec::new();
        for i in 0..500 {
            let line = format!("line {i}\n");
            assert_eq!(outlet.push(line.as_bytes()), Ok(0));
            want.extend_from_slice(line.as_bytes());
        }
        assert!(outlet.flush(LONG));
        outlet.close();
        assert_eq!(rx.iter().flatten().collect::<Vec<u8>>(), want);
    }

    #[test]
    fn nobody_reading_drops_and_counts_and_never_blocks() {
        let (tx, rx) = mpsc::sync_channel(0);
        let outlet = Outlet::start(Pipe(tx)).unwrap();
        let line = [b'x'; 1024];
        // The writer takes the first batch away whenever it runs: what was lost until then is told by a push in the loop.
        let told: Vec<u64> = (0..5000).filter_map(|_| outlet.push(&line).ok()).collect();
        let taken = told.len();
        assert!((1024..=2049).contains(&taken), "{taken}");
        assert!(!outlet.flush(Duration::ZERO));
        // The reader is back.
        let reader = std::thread::spawn(move || rx.iter().map(|b| b.len()).sum::<usize>());
        assert!(outlet.flush(LONG));
        let last = outlet.push(b"end\n").unwrap();
        assert_eq!(
            told.iter().sum::<u64>() + last,
            u64::try_from(5000 - taken).unwrap()
        );
        assert_eq!(outlet.push(b"end\n"), Ok(0));
        outlet.close();
        assert_eq!(reader.join().unwrap(), taken * 1024 + 8);
    }

    #[test]
    fn a_reader_that_is_gone_is_no_matter() {
        let (tx, rx) = mpsc::sync_channel(0);
        drop(rx);
        let outlet = Outlet::start(Pipe(tx)).unwrap();
        for _ in 0..100 {
            assert_eq!(outlet.push(b"into the void\n"), Ok(0));
        }
        assert!(outlet.flush(LONG));
    }

    /// Says that a write has begun, and stays in it until it is let go: what is pushed after that
    /// stays pending, whichever thread runs first.
    struct Gate {
        begun: mpsc::Sender<()>,
        go: mpsc::Receiver<()>,
    }

    impl Gate {
        /// An outlet whose thread is in the midst of a write, and what lets it go on for good.
        fn closed() -> (Outlet, mpsc::Sender<()>) {
            let (begun, begins) = mpsc::channel();
            let (open, go) = mpsc::channel();
            let outlet = Outlet::start(Gate { begun, go }).unwrap();
            outlet.push(b"first\n").unwrap();
            begins.recv().unwrap();
            (outlet, open)
        }
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            // Who waited for the first write does not look at the later ones.
            self.begun.send(()).ok();
            // An error: the gate was opened, for good.
            self.go.recv().ok();
            Ok(bytes.len().min(100))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_flood_waits_for_room() {
        let (outlet, open) = Gate::closed();
        outlet.room().await;
        outlet.push(&vec![b'x'; HIGH]).unwrap();
        let mut waiting = std::pin::pin!(outlet.room());
        assert!(waiting.as_mut().now_or_never().is_none(), "it did not wait");
        drop(open);
        waiting.await;
        assert!(outlet.flush(LONG));
    }

    #[tokio::test(start_paused = true)]
    async fn when_nobody_reads_at_all_a_flood_waits_once() {
        let (outlet, open) = Gate::closed();
        outlet.push(&vec![b'x'; HIGH]).unwrap();
        outlet.room().await;
        assert!(outlet.0.stuck.load(Ordering::Relaxed));
        // Stuck: no waiting any more, until something is written.
        outlet.room().await;
        drop(open);
        assert!(outlet.flush(LONG));
        assert!(!outlet.0.stuck.load(Ordering::Relaxed));
    }
}
