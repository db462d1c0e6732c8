use super::*;

fn task(server: &str, id: &str) -> Task {
    Task {
        server: server.into(),
        id: id.into(),
        dir: format!("/b/{server}/base/{id}").into(),
        status: "DONE".into(),
        phase: "post".into(),
        error: String::new(),
        added_ms: 1,
    }
}

const ID: &str = "20261121T195810";

fn queue() -> (tempfile::TempDir, Queue) {
    let tmp = tempfile::tempdir().unwrap();
    let queue = Queue::at(tmp.path().join("queue"));
    (tmp, queue)
}

fn files(queue: &Queue) -> Vec<String> {
    let names = fs::read_dir(queue.dir()).unwrap();
    let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|n| !n.starts_with('.')).collect();
    names.sort();
    names
}

#[test]
fn a_task_goes_its_way_by_renames() {
    let (_tmp, queue) = queue();
    assert_eq!(queue.list().unwrap(), []);
    queue.add(&task("main", ID)).unwrap();
    queue.add(&task("main", ID)).unwrap();
    assert_eq!(files(&queue), [format!("{ID}.run")]);
    let held = queue.take(ID).unwrap().unwrap();
    assert_eq!(held.task, Some(task("main", ID)));
    assert_eq!(files(&queue), [format!("{ID}.running")]);
    assert_eq!(held.end(None, 7).unwrap(), State::Done);
    assert_eq!(files(&queue), [format!("{ID}.done")]);
    // What is done is not done again.
    assert!(queue.take(ID).unwrap().is_none());
    assert_eq!(queue.retry(None).unwrap(), 0);
    assert_eq!(queue.add(&task("main", ID)).unwrap().state, State::Done);
}

#[test]
fn two_runs_never_work_on_one_task_and_a_dead_one_leaves_it_to_the_next() {
    let (_tmp, queue) = queue();
    queue.add(&task("main", ID)).unwrap();
    let held = queue.take(ID).unwrap().unwrap();
    assert!(queue.take(ID).unwrap().is_none(), "a second run has it too");
    // As the kernel does when the process ends.
    drop(held);
    assert_eq!(files(&queue), [format!("{ID}.running")]);
    let again = queue.take(ID).unwrap().unwrap();
    assert_eq!(again.task, Some(task("main", ID)));
}

#[test]
fn what_failed_says_why_and_waits_for_a_person() {
    let (_tmp, queue) = queue();
    queue.add(&task("main", ID)).unwrap();
    let held = queue.take(ID).unwrap().unwrap();
    assert_eq!(held.end(Some("no route".into()), 7).unwrap(), State::Error);
    assert_eq!(files(&queue), [format!("{ID}.error")]);
    assert_eq!(queue.list().unwrap()[0].why(), "no route");
    assert!(queue.take(ID).unwrap().is_none());
    assert_eq!(queue.retry(Some("other")).unwrap(), 0);
    assert_eq!(queue.retry(Some("main")).unwrap(), 1);
    assert_eq!(files(&queue), [format!("{ID}.run")]);
    let held = queue.take(ID).unwrap().unwrap();
    held.end(None, 8).unwrap();
    let done = queue.list().unwrap();
    assert_eq!(
        done[0].outcome,
        Some(Outcome {
            at_ms: 8,
            error: None
        })
    );
    assert_eq!(done[0].task, Some(task("main", ID)));
}

#[test]
fn two_clusters_may_begin_in_one_second() {
    let (_tmp, queue) = queue();
    queue.add(&task("main", ID)).unwrap();
    queue.take(ID).unwrap().unwrap().end(None, 1).unwrap();
    for _ in 0..2 {
        queue.add(&task("other", ID)).unwrap();
    }
    assert_eq!(
        files(&queue),
        [format!("{ID}.done"), format!("{ID}.other.run")]
    );
    let held = queue.take(&format!("{ID}.other")).unwrap().unwrap();
    assert_eq!(held.task.unwrap().server, "other");
}

#[test]
fn only_old_shipped_ones_are_forgotten() {
    let (_tmp, queue) = queue();
    for (n, error) in [(0, None), (1, Some("x".to_owned()))] {
        let id = format!("20261121T19581{n}");
        queue.add(&task("main", &id)).unwrap();
        queue.take(&id).unwrap().unwrap().end(error, 1000).unwrap();
    }
    queue.add(&task("main", "20261121T195812")).unwrap();
    let at = |ms| SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    let keep = Duration::from_secs(10);
    assert_eq!(queue.tidy(keep, at(11_000)).unwrap(), 0);
    assert_eq!(queue.tidy(keep, at(11_001)).unwrap(), 1);
    assert_eq!(
        files(&queue),
        ["20261121T195811.error", "20261121T195812.run"]
    );
}

#[test]
fn a_cut_line_and_a_foreign_file_do_no_harm() {
    let (_tmp, queue) = queue();
    queue.add(&task("main", ID)).unwrap();
    let path = queue.path(ID, State::Run);
    let mut text = fs::read_to_string(&path).unwrap();
    text.push_str("{\"at_ms\":5,\"err");
    fs::write(&path, text).unwrap();
    let held = queue.take(ID).unwrap().unwrap();
    assert!(held.task.is_some());
    held.end(Some("y".into()), 9).unwrap();
    assert_eq!(queue.list().unwrap()[0].why(), "y");
    fs::write(queue.path("foreign", State::Run), [0xff, 0xfe]).unwrap();
    let held = queue.take("foreign").unwrap().unwrap();
    assert_eq!(held.task, None);
    held.end(Some("not ours".into()), 9).unwrap();
    assert!(files(&queue).contains(&"foreign.error".to_owned()));
}
