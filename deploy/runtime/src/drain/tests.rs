//! Drains end in their order, and say who does not.

use super::*;

const GRACE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn finish_waits_for_tasks_that_obey() {
    let drain = Drain::new();
    let (done, ended) = tokio::sync::oneshot::channel();
    let token = drain.token();
    drain.spawn("obedient", async move {
        token.cancelled().await;
        done.send(()).unwrap();
    });
    drain.finish(GRACE).await.unwrap();
    ended.await.unwrap();
    assert!(!drain.readiness().is_ready());
}

#[tokio::test]
async fn finish_waits_for_tasks_on_other_threads() {
    let others = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("others")
        .enable_all()
        .build()
        .unwrap();
    let drain = Drain::new();
    let (say, said) = tokio::sync::oneshot::channel();
    let token = drain.token();
    drain.spawn_on(others.handle(), "obedient", async move {
        token.cancelled().await;
        say.send(std::thread::current().name().map(str::to_owned)).unwrap();
    });
    drain.spawn_call_on(others.handle(), "clumsy", async { panic!("on purpose") });
    drain.finish(GRACE).await.unwrap();
    assert_eq!(said.await.unwrap().as_deref(), Some("others"));
    assert_eq!(drain.readiness().missing(), ["draining"], "a call's panic spoils nothing");
    others.shutdown_background();
}

#[tokio::test]
async fn those_behind_go_on_until_the_others_have_ended() {
    let drain = Drain::new();
    let behind = drain.behind();
    let (ask, asked) = tokio::sync::oneshot::channel::<tokio::sync::oneshot::Sender<()>>();
    let (over, end) = (behind.token(), drain.token());
    behind.spawn("link", async move {
        // It hears of its own end only.
        tokio::select! {
            answer = asked => answer.unwrap().send(()).unwrap(),
            () = over.cancelled() => return,
        }
        over.cancelled().await;
    });
    let (tell, told) = tokio::sync::oneshot::channel();
    drain.spawn("call", async move {
        end.cancelled().await;
        let (answer, answered) = tokio::sync::oneshot::channel();
        ask.send(answer).unwrap();
        tell.send(answered.await).unwrap();
    });
    drain.finish(GRACE).await.unwrap();
    assert_eq!(told.await.unwrap(), Ok(()));
    assert!(behind.has_begun() && drain.behind().has_begun());
}

#[tokio::test]
async fn those_behind_are_named_and_told_when_the_others_overrun() {
    let drain = Drain::new();
    drain.spawn("deaf", std::future::pending());
    drain.behind().spawn("deafer", std::future::pending());
    let overrun = drain.finish(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!((overrun.count, &*overrun.names), (2, "deaf: 1, deafer: 1"));
    assert!(drain.behind().has_begun());
}

#[tokio::test]
async fn a_task_is_kept_once() {
    let drain = Drain::new();
    let task = [0_u8; 10_000];
    let sleeps = async move {
        std::future::pending::<()>().await;
        std::hint::black_box(task);
    };
    let bytes = size_of_val(&sleeps);
    let tracked = size_of_val(&tracked(&drain, "large", sleeps, |_| ()));
    assert!(tracked <= bytes + 64, "{tracked} bytes for a task of {bytes}");
}

#[tokio::test]
async fn finish_names_those_who_overrun() {
    let drain = Drain::new();
    drain.spawn("deaf", std::future::pending());
    drain.spawn("deaf", std::future::pending());
    drain.spawn("obedient", async {});
    let grace = Duration::from_millis(50);
    let overrun = drain.finish(grace).await.unwrap_err();
    assert_eq!(overrun, Overrun { count: 2, names: "deaf: 2".to_owned(), grace });
}

#[tokio::test]
async fn a_panic_is_counted_and_spoils_readiness() {
    let metrics = Metrics::new("test", "0").unwrap();
    let drain = Drain::new();
    drain.count_panics(&metrics);
    drain.spawn("clumsy", async { panic!("on purpose") });
    let mut ready = drain.readiness().watch();
    ready.wait_for(|ready| !ready).await.unwrap();
    assert_eq!(drain.readiness().missing(), ["task clumsy"]);
    drain.finish(GRACE).await.unwrap();
    let text = metrics.text().unwrap();
    assert!(text.contains(r#"floodgate_task_panics_total{task="clumsy"} 1"#), "{text}");
}

#[tokio::test]
async fn an_announced_process_is_unready_but_works_on() {
    let drain = Drain::new();
    drain.announce();
    drain.announced().await;
    assert!(!drain.has_begun());
    assert_eq!(drain.readiness().missing(), ["draining"]);
}
