//! Commands over the socket.

use super::*;
use crate::http::client::{Answer, exchange};
use crate::http::samples;
use crate::http::serve;
use crate::http::server::tests::shown;
use hyper::Method;
use tokio::net::UnixStream;

async fn ask(path: &Path, method: Method, page: &str) -> Answer {
    let stream = UnixStream::connect(path).await.unwrap();
    exchange(stream, "localhost", method, page, 1 << 20)
        .await
        .unwrap()
}

#[tokio::test]
async fn commands_reach_the_runtime_and_bring_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    let listener = bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (_tell, shown) = shown(samples::standby());
    let (commands, mut runtime) = mpsc::channel(4);
    tokio::spawn(serve(
        listener,
        control_router(shown, commands),
        std::future::pending(),
    ));

    tokio::spawn(async move {
        let answer = |ok, why: &str| Health {
            ok,
            why: why.into(),
        };
        let mut answers = [answer(true, "reloaded"), answer(false, "not now")].into_iter();
        while let Some(Command::Reload { reply }) = runtime.recv().await {
            reply.send(answers.next().unwrap()).unwrap();
        }
    });

    let reload = ask(&path, Method::POST, "/reload").await;
    assert_eq!(reload.status, 200);
    assert_eq!(&reload.body[..], br#"{"ok":true,"why":"reloaded"}"#);
    let refused = ask(&path, Method::POST, "/reload").await;
    assert_eq!(refused.status, 409);
    assert_eq!(&refused.body[..], br#"{"ok":false,"why":"not now"}"#);
    // A command is never a GET, and the pages are here as well.
    assert_eq!(ask(&path, Method::GET, "/reload").await.status, 405);
    assert_eq!(ask(&path, Method::GET, "/replica").await.status, 200);
}

#[tokio::test]
async fn a_runtime_that_is_gone_or_drops_the_command_is_503() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    let (_tell, shown) = shown(samples::standby());
    let (commands, mut runtime) = mpsc::channel(1);
    tokio::spawn(serve(
        bind(&path).unwrap(),
        control_router(shown, commands),
        std::future::pending(),
    ));
    let (dropped, ()) = tokio::join!(ask(&path, Method::POST, "/reload"), async {
        drop(runtime.recv().await);
    });
    assert_eq!(dropped.status, 503);
    drop(runtime);
    assert_eq!(ask(&path, Method::POST, "/reload").await.status, 503);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_file_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    drop(bind(&path).unwrap());
    assert!(path.exists(), "the first left its socket behind");
    drop(bind(&path).unwrap());
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let error = bind(&file).unwrap_err();
    assert!(error.to_string().contains("file"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn each_decision_of_a_person_has_a_page_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(SOCKET);
    let (_tell, shown) = shown(samples::standby());
    let (commands, mut runtime) = mpsc::channel(1);
    tokio::spawn(serve(
        bind(&path).unwrap(),
        control_router(shown, commands),
        std::future::pending(),
    ));
    tokio::spawn(async move {
        while let Some(command) = runtime.recv().await {
            let (reply, why) = match command {
                Command::Pause { paused, reply } => (reply, format!("pause {paused}")),
                Command::Fence { closed, reply } => (reply, format!("fence {closed}")),
                Command::Promote { force, reply } => (reply, format!("promote {force}")),
                other => panic!("{other:?}"),
            };
            reply.send(Health { ok: true, why }).unwrap();
        }
    });
    for (page, want) in [
        ("/pause", "pause true"),
        ("/resume", "pause false"),
        ("/fence", "fence true"),
        ("/unfence", "fence false"),
        ("/promote", "promote false"),
        ("/promote/force", "promote true"),
    ] {
        let answer = ask(&path, Method::POST, page).await;
        let health: Health = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(health.why, want);
        assert_eq!(answer.status, 200);
        assert_eq!(ask(&path, Method::GET, page).await.status, 405);
    }
}
