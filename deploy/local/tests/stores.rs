//! Real stores are started, used, killed, paused and started again; nothing of them outlives the stack.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::path::Path;
use std::time::{Duration, Instant};

use etcd_client::Client as Etcd;
use floodgate_local::{LocalError, PlaneSpec, ServerState, Stack, StackOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use redis::AsyncCommands;
use sqlx::postgres::{PgConnection, PgPool, PgPoolOptions};
use sqlx::{Connection, Executor};

/// Long enough for a slow machine; no test waits that long unless it fails.
const DEADLINE: Duration = Duration::from_secs(20);

async fn stack() -> Stack {
    Stack::new(StackOptions::default()).await.unwrap()
}

async fn redis(url: &str) -> redis::aio::MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// Every process whose command line names the folder or that works in it.
fn processes_of(folder: &Path) -> Vec<u32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
    })
    .collect()
}

/// Kills one process, behind the stack's back.
fn kill_alone(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn etcd_keeps_what_it_acknowledged() {
    let stack = stack().await;
    let endpoint = stack.start_etcd().await.unwrap();
    let mut etcd = Etcd::connect([&endpoint.url], None).await.unwrap();
    etcd.put("greeting", "hello", None).await.unwrap();

    stack.kill("etcd").await.unwrap();
    assert_eq!(stack.state("etcd").unwrap(), ServerState::Down);
    stack.restart("etcd").await.unwrap();

    assert_eq!(stack.endpoint("etcd").unwrap(), endpoint);
    let mut etcd = Etcd::connect([&endpoint.url], None).await.unwrap();
    let answer = etcd.get("greeting", None).await.unwrap();
    assert_eq!(answer.kvs().first().unwrap().value_str().unwrap(), "hello");
    stack.shutdown().await.unwrap();
}

#[tokio::test]
async fn a_killed_redis_comes_back_empty_and_another() {
    let stack = stack().await;
    let endpoint = stack.start_redis("cell-1").await.unwrap();
    let admin = stack.redis_admin_url("cell-1").unwrap();
    let run_id = async || {
        let info: redis::InfoDict =
            redis::cmd("INFO").query_async(&mut redis(&endpoint.url).await).await.unwrap();
        info.get::<String>("run_id").unwrap()
    };
    let _: () = redis(&admin).await.set("unit", 7).await.unwrap();
    let first = run_id().await;

    stack.kill("cell-1/redis").await.unwrap();
    assert!(
        redis::Client::open(&*endpoint.url)
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .is_err()
    );
    stack.restart("cell-1/redis").await.unwrap();

    let unit: Option<u32> = redis(&admin).await.get("unit").await.unwrap();
    assert_eq!(unit, None);
    assert_ne!(run_id().await, first);
}

#[tokio::test]
async fn a_killed_postgres_keeps_what_was_committed() {
    let stack = stack().await;
    stack.start_postgres("cell-1").await.unwrap();
    let owner = stack.postgres_owner_url("cell-1").unwrap();
    let pool = PgPoolOptions::new().max_connections(4).connect(&owner).await.unwrap();
    pool.execute("CREATE TABLE unit (number int PRIMARY KEY)").await.unwrap();
    for number in 0..20 {
        sqlx::query("INSERT INTO unit VALUES ($1)").bind(number).execute(&pool).await.unwrap();
    }
    let server_pids = processes_of(&stack.folder().join("cell-1/postgres"));
    assert!(server_pids.len() > 4, "a Postgres is more than one process: {server_pids:?}");
    let mut open = pool.begin().await.unwrap();
    open.execute("INSERT INTO unit VALUES (99)").await.unwrap();

    stack.kill("cell-1/postgres").await.unwrap();
    assert!(server_pids.iter().all(|pid| !is_alive(*pid)), "a backend outlived the server");
    assert!(open.execute("SELECT 1").await.is_err());
    stack.restart("cell-1/postgres").await.unwrap();

    let pool = PgPool::connect(&owner).await.unwrap();
    let numbers: Vec<i32> =
        sqlx::query_scalar("SELECT number FROM unit ORDER BY 1").fetch_all(&pool).await.unwrap();
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_killed_postgres_leaves_no_shared_memory_behind() {
    let stack = stack().await;
    stack.start_postgres("cell-1").await.unwrap();
    stack.kill("cell-1/postgres").await.unwrap();
    let pid_file = stack.folder().join("cell-1/postgres/data/postmaster.pid");
    let pid_file = std::fs::read_to_string(pid_file).unwrap();
    let id = pid_file.lines().nth(6).unwrap().split_whitespace().nth(1).unwrap();
    let is_there = || {
        let list = std::process::Command::new("ipcs").arg("-m").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        list.lines().any(|line| line.split_whitespace().nth(1) == Some(id))
    };
    assert!(is_there(), "a kill left nothing behind: this test tests nothing");
    drop(stack);
    assert!(!is_there());
}

#[tokio::test]
async fn postgres_keeps_its_promises_and_takes_settings() {
    let options = StackOptions {
        postgres_settings: vec![("work_mem".to_owned(), "7MB".to_owned())],
        ..StackOptions::default()
    };
    let stack = Stack::new(options).await.unwrap();
    let endpoint = stack.start_postgres("cell-1").await.unwrap();
    let mut session = PgConnection::connect(&endpoint.url).await.unwrap();
    let expected = [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("shared_buffers", "32MB"),
        ("work_mem", "7MB"),
    ];
    for (setting, value) in expected {
        let show = sqlx::query_scalar("SELECT current_setting($1)").bind(setting);
        let found: String = show.fetch_one(&mut session).await.unwrap();
        assert_eq!(found, value, "{setting}");
    }
}

#[tokio::test]
async fn every_role_of_postgres_has_its_address() {
    let stack = stack().await;
    let cell = stack.start_postgres("cell-1").await.unwrap().url;
    let (owner, admin) =
        (stack.postgres_owner_url("cell-1").unwrap(), stack.postgres_admin_url("cell-1").unwrap());
    // Name, superuser, owner of the database, may make tables.
    for (url, name, superuser, owns, makes) in [
        (cell, "floodgate_cell", false, false, false),
        (owner, "floodgate", false, true, true),
        (admin, "postgres", true, false, true),
    ] {
        let mut session = PgConnection::connect(&url).await.unwrap();
        let who = "select rolname::text, rolsuper, rolbypassrls,
                          exists (select from pg_database d where d.datdba = r.oid
                                  and d.datname = current_database()),
                          has_schema_privilege('public', 'create')
                   from pg_roles r where rolname = current_user";
        let found: (String, bool, bool, bool, bool) =
            sqlx::query_as(who).fetch_one(&mut session).await.unwrap();
        assert_eq!(found, (name.to_owned(), superuser, superuser, owns, makes));
    }
}

#[tokio::test]
async fn the_passwords_of_a_redis_stand_in_one_file_and_are_shown_nowhere() {
    let stack = stack().await;
    let endpoint = stack.start_redis("cell-1").await.unwrap();
    let other = stack.start_redis("cell-2").await.unwrap();
    let admin = stack.redis_admin_url("cell-1").unwrap();
    let secret = |url: &str| url.split([':', '@']).nth(2).unwrap().to_owned();
    let secrets = [secret(&endpoint.url), secret(&other.url), secret(&admin)];
    assert!(secrets.iter().all(|one| one.len() == 32), "{}", secrets.len());
    assert!(secrets[0] != secrets[1] && secrets[0] != secrets[2]);

    let file = stack.folder().join("cell-1/redis/users.conf");
    let mode = std::os::unix::fs::PermissionsExt::mode(&file.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let pid = stack.pid("cell-1/redis").unwrap();
    let shown = [
        format!("{endpoint:?} {stack:?} {:?}", floodgate_local::control::report(&stack)),
        std::fs::read_to_string(stack.log_path("cell-1/redis").unwrap()).unwrap(),
        std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap(),
    ];
    for (text, one) in shown.iter().flat_map(|text| secrets.iter().map(move |one| (text, one))) {
        assert!(!text.contains(one.as_str()), "{text}");
    }
    assert!(shown[0].contains("redis://cell@127.0.0.1:"), "{}", shown[0]);

    // Who gives no name may ask whether it is there, as a cell may; who gives a wrong password may not.
    let nobody = format!("redis://{}", endpoint.address);
    let pong: String = redis::cmd("PING").query_async(&mut redis(&nobody).await).await.unwrap();
    assert_eq!(pong, "PONG");
    for command in ["INFO", "DBSIZE", "FLUSHALL"] {
        let refused = redis::cmd(command).query_async::<()>(&mut redis(&nobody).await).await;
        assert_eq!(refused.unwrap_err().code(), Some("NOPERM"), "{command}");
    }
    let wrong = endpoint.url.replace(&secrets[0], &secrets[1]);
    let refused = redis::Client::open(wrong).unwrap().get_multiplexed_async_connection().await;
    assert!(refused.is_err());
}

#[tokio::test]
async fn a_stopped_postgres_shuts_down_in_good_order() {
    let stack = stack().await;
    let endpoint = stack.start_postgres("cell-1").await.unwrap();
    let _session = PgConnection::connect(&endpoint.url).await.unwrap();
    stack.stop("cell-1/postgres").await.unwrap();
    let log = std::fs::read_to_string(stack.log_path("cell-1/postgres").unwrap()).unwrap();
    assert!(log.contains("fast shutdown request"), "{log}");
    assert!(log.contains("database system is shut down"), "{log}");
    stack.restart("cell-1/postgres").await.unwrap();
    PgConnection::connect(&endpoint.url).await.unwrap();
}

#[tokio::test]
async fn a_paused_server_is_silent_and_goes_on_where_it_was() {
    let stack = stack().await;
    let (_, postgres_at) =
        tokio::try_join!(stack.start_redis("cell-1"), stack.start_postgres("cell-1")).unwrap();
    let admin = stack.redis_admin_url("cell-1").unwrap();
    let mut connection = redis(&admin).await;
    let _: () = connection.set("unit", 7).await.unwrap();
    let mut session = PgConnection::connect(&postgres_at.url).await.unwrap();

    stack.pause("cell-1/redis").await.unwrap();
    stack.pause("cell-1/postgres").await.unwrap();
    assert_eq!(stack.state("cell-1/postgres").unwrap(), ServerState::Paused);
    let silence = Duration::from_millis(300);
    let unit = tokio::time::timeout(silence, redis(&admin)).await;
    assert!(unit.is_err(), "a paused Redis answered");
    let mut question = tokio::spawn(async move {
        let one: i32 = sqlx::query_scalar("SELECT 1").fetch_one(&mut session).await.unwrap();
        one
    });
    let answer = tokio::time::timeout(silence, &mut question).await;
    assert!(answer.is_err(), "a backend of a paused Postgres answered");

    stack.resume("cell-1/redis").await.unwrap();
    stack.resume("cell-1/postgres").await.unwrap();
    assert_eq!(question.await.unwrap(), 1);
    let unit: u32 = redis(&admin).await.get("unit").await.unwrap();
    assert_eq!((unit, stack.state("cell-1/redis").unwrap()), (7, ServerState::Running));
}

#[tokio::test]
async fn a_paused_server_can_be_stopped_and_killed() {
    let stack = stack().await;
    tokio::try_join!(stack.start_redis("cell-1"), stack.start_postgres("cell-1")).unwrap();
    for name in ["cell-1/redis", "cell-1/postgres"] {
        stack.pause(name).await.unwrap();
        stack.stop(name).await.unwrap();
        stack.restart(name).await.unwrap();
        stack.pause(name).await.unwrap();
        stack.kill(name).await.unwrap();
        assert_eq!(stack.state(name).unwrap(), ServerState::Down);
        stack.restart(name).await.unwrap();
    }
}

#[tokio::test]
async fn a_starting_server_can_be_killed() {
    let stack = stack().await;
    stack.start_postgres("cell-1").await.unwrap();
    stack.kill("cell-1/postgres").await.unwrap();
    let killer = async {
        until("it starts", || stack.pid("cell-1/postgres").is_some()).await;
        stack.kill("cell-1/postgres").await
    };
    let (started, killed) = tokio::join!(stack.restart("cell-1/postgres"), killer);
    killed.unwrap();
    let error = started.unwrap_err().to_string();
    assert!(error.contains("it ended (signal: 9 (SIGKILL))"), "{error}");
    stack.restart("cell-1/postgres").await.unwrap();
}

#[tokio::test]
async fn a_server_that_dies_by_itself_is_news() {
    let stack = stack().await;
    stack.start_redis("cell-1").await.unwrap();
    let mut exits = stack.exits();
    let pid = stack.pid("cell-1/redis").unwrap();
    kill_alone(pid);

    let news = tokio::time::timeout(DEADLINE, exits.recv()).await.unwrap().unwrap();
    assert_eq!((news.name.as_str(), news.pid), ("cell-1/redis", pid));
    assert_eq!(stack.exited().len(), 1);
    assert_eq!(stack.pid("cell-1/redis"), None);
    stack.restart("cell-1/redis").await.unwrap();
    assert!(stack.exited().is_empty());
    stack.kill("cell-1/redis").await.unwrap();
    assert!(stack.exited().is_empty(), "a kill that was asked for is no news");
}

#[tokio::test]
async fn a_postgres_whose_main_process_died_alone_can_be_restarted() {
    let stack = stack().await;
    let endpoint = stack.start_postgres("cell-1").await.unwrap();
    // Its backends are paused, so they do not notice.
    stack.pause("cell-1/postgres").await.unwrap();
    let pid = stack.pid("cell-1/postgres").unwrap();
    kill_alone(pid);
    until("the death is noticed", || stack.pid("cell-1/postgres").is_none()).await;
    stack.restart("cell-1/postgres").await.unwrap();
    PgConnection::connect(&endpoint.url).await.unwrap();
}

#[tokio::test]
async fn nothing_is_left_after_the_stack() {
    let stack = stack().await;
    let cells = ["cell-1", "cell-2"];
    stack.start_etcd().await.unwrap();
    for cell in cells {
        tokio::try_join!(stack.start_redis(cell), stack.start_postgres(cell)).unwrap();
    }
    stack.pause("cell-2/postgres").await.unwrap();
    let folder = stack.folder().to_owned();
    let pids = processes_of(&folder);
    assert!(pids.len() >= 5, "{pids:?}");
    assert_eq!(stack.names().len(), 5);

    drop(stack);

    assert!(pids.iter().all(|pid| !is_alive(*pid)), "a server outlived its stack");
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_failed_start_tells_what_the_server_said() {
    let options = StackOptions {
        postgres_settings: vec![("shared_buffers".to_owned(), "a lot".to_owned())],
        ..StackOptions::default()
    };
    let stack = Stack::new(options).await.unwrap();
    let error = stack.start_postgres("cell-1").await.unwrap_err();
    assert!(matches!(error, LocalError::Start { .. }), "{error}");
    assert!(error.to_string().contains("shared_buffers"), "{error}");
    assert!(stack.names().is_empty());

    let spec = PlaneSpec {
        name: "router".to_owned(),
        program: "/bin/sh".into(),
        args: vec![],
        env: vec![],
    };
    let error = stack.start_plane(&spec).await.unwrap_err().to_string();
    assert!(error.contains("router did not start: it ended"), "{error}");
    let error = stack.kill("cell-9/redis").await.unwrap_err();
    assert!(matches!(error, LocalError::Unknown { .. }), "{error}");
}
