//! Clients that insert rows and remember what they were told. Each looks for a node that takes writes,
//! stays there until it is refused or cut, and never uses a key twice: what became of an unanswered
//! insert is not known, so it counts neither as lost nor as acknowledged.

use super::Clock;
use super::history::{Answer, Span, Write};
use super::sql::{Door, TIMELINE, column, connect, is_refusal};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_postgres::Client;

pub(crate) const TABLE: &str = "CREATE TABLE chaos_rows (writer int, seq bigint, node text NOT NULL, \
     timeline int NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(), PRIMARY KEY (writer, seq))";

const PAUSE: Duration = Duration::from_millis(40);
const CONNECT: Duration = Duration::from_millis(500);
/// Every other writer gives up soon; the rest wait like a client without a time-out.
const QUICK: Duration = Duration::from_secs(2);
const PATIENT: Duration = Duration::from_secs(180);

/// Shared by the writers and whoever started them.
#[derive(Debug, Default)]
struct Shared {
    writes: Mutex<Vec<Write>>,
    stop: AtomicBool,
    hold: AtomicBool,
    /// Writers whose insert is not answered yet.
    busy: AtomicU32,
}

/// The writers' thread.
#[derive(Debug)]
pub(crate) struct Writers {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Writers {
    pub(crate) fn start(clock: Clock, doors: &[Door], count: u32) -> Self {
        let shared = Arc::new(Shared::default());
        let (mine, doors) = (Arc::clone(&shared), doors.to_vec());
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            for writer in 1..=count {
                let client = Writer {
                    clock,
                    doors: doors.clone(),
                    writer,
                    patience: if writer % 2 == 0 { QUICK } else { PATIENT },
                    shared: Arc::clone(&mine),
                };
                runtime.spawn(client.run());
            }
            runtime.block_on(async {
                while !mine.stop.load(Ordering::Relaxed) {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        };
        Self {
            shared,
            thread: Some(std::thread::spawn(body)),
        }
    }

    /// All attempts so far.
    pub(crate) fn writes(&self) -> Vec<Write> {
        self.shared
            .writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Begins nothing new until [`Writers::go_on`]; true when nothing is under way any more.
    pub(crate) fn pause(&self, patience: Duration) -> bool {
        self.shared.hold.store(true, Ordering::SeqCst);
        let began = Instant::now();
        while self.shared.busy.load(Ordering::SeqCst) > 0 {
            if began.elapsed() > patience {
                return false;
            }
            std::thread::sleep(PAUSE);
        }
        true
    }

    pub(crate) fn go_on(&self) {
        self.shared.hold.store(false, Ordering::SeqCst);
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Writer {
    clock: Clock,
    doors: Vec<Door>,
    writer: u32,
    patience: Duration,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(self) {
        let mut node = 0;
        let mut session: Option<Client> = None;
        for seq in 1.. {
            // Counted before it looks at the gate, so that a pause never misses one.
            self.shared.busy.fetch_add(1, Ordering::SeqCst);
            if self.shared.hold.load(Ordering::SeqCst) {
                self.shared.busy.fetch_sub(1, Ordering::SeqCst);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            if session.as_ref().is_none_or(Client::is_closed) {
                session = connect(&self.doors[node], "postgres", CONNECT).await;
            }
            let moved = match &session {
                Some(client) => {
                    let answer = self.insert(client, node, seq).await;
                    !matches!(answer, Answer::Acked(_))
                }
                None => true,
            };
            self.shared.busy.fetch_sub(1, Ordering::SeqCst);
            if moved {
                session = None;
                node = (node + 1) % self.doors.len();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn insert(&self, client: &Client, node: usize, seq: u64) -> Answer {
        let (writer, name) = (self.writer, &self.doors[node].name);
        let sql = format!(
            "INSERT INTO chaos_rows (writer, seq, node, timeline) \
             VALUES ({writer}, {seq}, '{name}', {TIMELINE}) RETURNING timeline"
        );
        let start = self.clock.now();
        let answer = match tokio::time::timeout(self.patience, client.simple_query(&sql)).await {
            Ok(Ok(rows)) => match column(rows).first().and_then(|t| t.parse().ok()) {
                Some(timeline) => Answer::Acked(timeline),
                None => Answer::Unknown,
            },
            Ok(Err(error)) if is_refusal(&error) => Answer::Refused,
            Ok(Err(_)) | Err(_) => Answer::Unknown,
        };
        let span = Span {
            start,
            end: self.clock.now(),
        };
        self.shared
            .writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Write {
                writer,
                seq,
                node,
                span,
                answer,
            });
        answer
    }
}
