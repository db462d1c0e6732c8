use super::*;
use crate::barman::Server;
use std::path::Path;

const SEGMENT: u64 = 1 << 20;
const ID: &str = "20261121T080000";

fn page(timeline: u32, number: u64, cluster: u64) -> Vec<u8> {
    let mut bytes = vec![0_u8; 1 << 20];
    bytes[0..4].copy_from_slice(&[0x16, 0xD1, 2, 0]);
    bytes[4..8].copy_from_slice(&timeline.to_le_bytes());
    bytes[8..16].copy_from_slice(&(number * SEGMENT).to_le_bytes());
    bytes[24..32].copy_from_slice(&cluster.to_le_bytes());
    bytes[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
    bytes
}

fn name(timeline: u32, number: u64) -> String {
    WalName {
        timeline: Timeline(timeline),
        number,
        segment_size: SEGMENT,
    }
    .to_string()
}

fn put(dir: &Path, place: &str, name: &str, bytes: &[u8]) {
    std::fs::create_dir_all(dir.join(place)).unwrap();
    std::fs::write(dir.join(place).join(name), bytes).unwrap();
}

const WALS: &str = "wals/0000000100000000";

/// Segments 1 to 3 of timeline 1, archived.
fn shared(dir: &Path, budget: Duration) -> Shared {
    std::fs::create_dir_all(dir.join("base").join(ID)).unwrap();
    for number in 1..=3 {
        put(dir, WALS, &name(1, number), &page(1, number, 7));
    }
    put(dir, "wals", "00000002.history", b"1\t0/200000\tno\n");
    let terms = Terms {
        source: Source::Barman(barman::Source::Directory(Server::at(dir.to_owned()))),
        anchor: ID.to_owned(),
        system_id: SystemId(7),
        history: History::without_past(Timeline(1)),
        last: WalName {
            timeline: Timeline(1),
            number: 3,
            segment_size: SEGMENT,
        },
        histories: vec![Timeline(2)],
        budget,
    };
    Shared {
        ahead: Ahead::of(&terms.source, SEGMENT),
        terms: Arc::new(terms),
        seen: Mutex::default(),
        partial: Mutex::default(),
    }
}

const SHORT: Duration = Duration::from_millis(300);

fn failed(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) => why,
        other => panic!("{}", matches!(other, Answer::Absent)),
    }
}

#[tokio::test]
async fn absent_is_said_only_of_what_comes_after_the_archive() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("main");
    let shared = shared(&dir, SHORT);
    assert_eq!(shared.answer(&name(1, 3)).await, Answer::Got(page(1, 3, 7)));
    assert_eq!(shared.answer(&name(1, 4)).await, Answer::Absent);
    assert_eq!(shared.answer("00000003.history").await, Answer::Absent);
    assert!(matches!(
        shared.answer("00000002.history").await,
        Answer::Got(_)
    ));
    assert_eq!(shared.seen().ended, 1);
    // One that was archived is gone: that is no end.
    std::fs::remove_file(dir.join(WALS).join(name(1, 2))).unwrap();
    let why = failed(shared.answer(&name(1, 2)).await);
    assert!(why.contains("was archived when recovery began"), "{why}");
    let failure = shared.seen().failure.clone().unwrap();
    assert!(failure.is_transient(), "{failure}");
    // From then on it is over, whatever is asked for.
    failed(shared.answer(&name(1, 4)).await);
}

#[tokio::test]
async fn a_lost_source_is_waited_for_and_never_taken_for_the_end() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("main");
    let shared = Arc::new(shared(&dir, Duration::from_secs(60)));
    std::fs::rename(&dir, tmp.path().join("away")).unwrap();
    let (asked, beyond) = (shared.clone(), shared.clone());
    let asked = tokio::spawn(async move { asked.answer(&name(1, 2)).await });
    let beyond = tokio::spawn(async move { beyond.answer(&name(1, 9)).await });
    while shared.seen().lost.is_none() {
        tokio::task::yield_now().await;
    }
    assert!(!asked.is_finished() && !beyond.is_finished());
    std::fs::rename(tmp.path().join("away"), &dir).unwrap();
    assert_eq!(asked.await.unwrap(), Answer::Got(page(1, 2, 7)));
    assert_eq!(beyond.await.unwrap(), Answer::Absent);
    assert!(shared.seen().lost.is_none() && shared.seen().failure.is_none());
}

#[tokio::test]
async fn a_damaged_segment_is_refused_at_once() {
    let tmp = tempfile::tempdir().unwrap();
    for (bytes, part) in [
        (
            page(1, 2, 7)[..5000].to_vec(),
            "it has 5000 bytes of 1048576",
        ),
        (page(1, 2, 8), "it is of cluster 8, not of 7"),
        (page(1, 5, 7), "its first page is of position"),
        (vec![0xFE; 1 << 20], "neither WAL nor packed"),
    ] {
        let dir = tmp.path().join("main");
        let shared = shared(&dir, Duration::from_secs(600));
        put(&dir, WALS, &name(1, 2), &bytes);
        let why = failed(shared.answer(&name(1, 2)).await);
        assert!(why.contains(part), "{why}");
        let failure = shared.seen().failure.clone().unwrap();
        assert_eq!(failure.exit_code().0, 78, "{failure}");
    }
}

#[tokio::test]
async fn a_partial_segment_is_the_last_resort_and_given_once() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("main");
    let shared = shared(&dir, SHORT);
    let partial = format!("{}.partial", name(1, 4));
    put(&dir, "streaming", &partial, &page(1, 4, 7)[..9000]);
    assert_eq!(shared.answer(&name(1, 4)).await, Answer::Got(page(1, 4, 7)));
    assert_eq!(shared.answer(&name(1, 4)).await, Answer::Absent);
    put(
        &dir,
        "streaming",
        &format!("{}.partial", name(1, 5)),
        &[0; 9000],
    );
    assert_eq!(shared.answer(&name(1, 5)).await, Answer::Absent);
    // Where the whole one was archived, a part of it is no substitute.
    std::fs::remove_file(dir.join(WALS).join(name(1, 2))).unwrap();
    put(
        &dir,
        "streaming",
        &format!("{}.partial", name(1, 2)),
        &page(1, 2, 7),
    );
    failed(shared.answer(&name(1, 2)).await);
}
