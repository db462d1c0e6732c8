//! Tries to write on every node all the time. Two sessions a node: a *quick* one that gives up after a
//! second and connects again, which measures outages; and a *patient* one that waits for its answer
//! however long it takes, as most clients do, so that what a frozen node says on waking is heard.

use super::Clock;
use super::history::{Ack, Answer, Span};
use super::sql::{Door, TIMELINE, column, connect, is_refusal};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio_postgres::Client;

/// One attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) node: usize,
    pub(crate) patient: bool,
    pub(crate) span: Span,
    pub(crate) answer: Answer,
}

impl Probe {
    pub(crate) fn ack(&self) -> Option<Ack> {
        match self.answer {
            Answer::Acked(timeline) => Some(Ack {
                node: self.node,
                timeline,
                span: self.span,
            }),
            Answer::Refused | Answer::Unknown => None,
        }
    }
}

/// Probes of one session in a row that were answered alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) node: usize,
    pub(crate) patient: bool,
    pub(crate) span: Span,
    pub(crate) answer: Answer,
    pub(crate) count: usize,
}

/// What every session saw, in order of time: a run as a person can read it.
pub(crate) fn episodes(probes: &[Probe]) -> Vec<Episode> {
    let mut open: BTreeMap<(usize, bool), Episode> = BTreeMap::new();
    let mut done = Vec::new();
    for probe in probes {
        let begun = Episode {
            node: probe.node,
            patient: probe.patient,
            span: probe.span,
            answer: probe.answer,
            count: 1,
        };
        let key = (probe.node, probe.patient);
        match open.get_mut(&key) {
            Some(running) if running.answer == probe.answer => {
                running.span.end = probe.span.end;
                running.count += 1;
            }
            _ => done.extend(open.insert(key, begun)),
        }
    }
    done.extend(open.into_values());
    done.sort_by_key(|e| e.span.start);
    done
}

/// Where probes write: a row for each session of each node.
pub(crate) const TABLE: &str = "CREATE TABLE chaos_probe (who text PRIMARY KEY, n bigint NOT NULL)";

/// How often each session writes.
const PAUSE: Duration = Duration::from_millis(25);
const QUICK: Duration = Duration::from_secs(1);
const PATIENT: Duration = Duration::from_secs(180);
const CONNECT: Duration = Duration::from_millis(500);

/// Everything that was seen so far.
pub(crate) type Seen = Arc<Mutex<Vec<Probe>>>;

/// A thread of its own: what the test does with docker must not delay a probe.
#[derive(Debug)]
pub(crate) struct Prober {
    seen: Seen,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    pub(crate) fn start(clock: Clock, doors: Vec<Door>) -> Self {
        let (seen, stop) = (Seen::default(), Arc::new(AtomicBool::new(false)));
        let (to, until) = (Arc::clone(&seen), Arc::clone(&stop));
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            for (node, door) in doors.iter().enumerate() {
                for patient in [false, true] {
                    let session = Session {
                        clock,
                        door: door.clone(),
                        node,
                        patient,
                        seen: Arc::clone(&to),
                    };
                    runtime.spawn(session.run());
                }
            }
            // Dropping the runtime ends the sessions, also those that wait for a frozen node.
            runtime.block_on(async {
                while !until.load(Ordering::Relaxed) {
                    tokio::time::sleep(PAUSE).await;
                }
            });
        };
        Self {
            seen,
            stop,
            thread: Some(std::thread::spawn(body)),
        }
    }

    /// All acknowledged probes so far.
    pub(crate) fn acks(&self) -> Vec<Ack> {
        self.look(|seen| seen.iter().filter_map(Probe::ack).collect())
    }

    pub(crate) fn episodes(&self) -> Vec<Episode> {
        self.look(|seen| episodes(seen))
    }

    /// How many attempts there were.
    pub(crate) fn attempts(&self) -> usize {
        self.look(Vec::len)
    }

    /// The last acknowledged write.
    pub(crate) fn latest(&self) -> Option<Ack> {
        self.look(|seen| seen.iter().rev().find_map(Probe::ack))
    }

    /// The acknowledged write that ended first after an instant, by any node or by one.
    pub(crate) fn first_after(&self, from: Duration, node: Option<usize>) -> Option<Ack> {
        self.look(|seen| {
            let mine = |a: &Ack| a.span.start >= from && node.is_none_or(|n| n == a.node);
            seen.iter()
                .rev()
                .take_while(|p| p.span.end >= from)
                .filter_map(Probe::ack)
                .filter(mine)
                .last()
        })
    }

    fn look<T>(&self, what: impl FnOnce(&Vec<Probe>) -> T) -> T {
        what(&self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

struct Session {
    clock: Clock,
    door: Door,
    node: usize,
    patient: bool,
    seen: Seen,
}

impl Session {
    async fn run(self) {
        let who = format!(
            "{}{}",
            self.door.name,
            if self.patient { " patient" } else { "" }
        );
        let sql = format!(
            "INSERT INTO chaos_probe VALUES ('{who}', 1) \
             ON CONFLICT (who) DO UPDATE SET n = chaos_probe.n + 1 RETURNING {TIMELINE}"
        );
        let mut session = None;
        loop {
            let start = self.clock.now();
            let answer = self.attempt(&mut session, &sql).await;
            let span = Span {
                start,
                end: self.clock.now(),
            };
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(Probe {
                    node: self.node,
                    patient: self.patient,
                    span,
                    answer,
                });
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, session: &mut Option<Client>, sql: &str) -> Answer {
        if session.as_ref().is_none_or(Client::is_closed) {
            *session = connect(&self.door, "postgres", CONNECT).await;
        }
        let Some(client) = session else {
            return Answer::Refused;
        };
        let patience = if self.patient { PATIENT } else { QUICK };
        match tokio::time::timeout(patience, client.simple_query(sql)).await {
            Ok(Ok(rows)) => match column(rows).first().and_then(|t| t.parse().ok()) {
                Some(timeline) => Answer::Acked(timeline),
                None => Answer::Unknown,
            },
            Ok(Err(error)) if is_refusal(&error) => Answer::Refused,
            Ok(Err(_)) => Answer::Unknown,
            Err(_) => {
                *session = None;
                Answer::Unknown
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(node: usize, patient: bool, at: u64, answer: Answer) -> Probe {
        Probe {
            node,
            patient,
            span: Span {
                start: Duration::from_millis(at),
                end: Duration::from_millis(at + 5),
            },
            answer,
        }
    }

    #[test]
    fn what_was_answered_alike_is_one_episode_of_its_session() {
        let probes = [
            probe(0, false, 0, Answer::Acked(1)),
            probe(1, false, 1, Answer::Refused),
            probe(0, false, 10, Answer::Acked(1)),
            probe(0, true, 11, Answer::Acked(1)),
            probe(0, false, 20, Answer::Unknown),
            probe(0, false, 30, Answer::Acked(2)),
        ];
        let told: Vec<(usize, bool, Answer, usize, u128)> = episodes(&probes)
            .iter()
            .map(|e| (e.node, e.patient, e.answer, e.count, e.span.end.as_millis()))
            .collect();
        let want = [
            (0, false, Answer::Acked(1), 2, 15),
            (1, false, Answer::Refused, 1, 6),
            (0, true, Answer::Acked(1), 1, 16),
            (0, false, Answer::Unknown, 1, 25),
            (0, false, Answer::Acked(2), 1, 35),
        ];
        assert_eq!(told, want);
    }
}
