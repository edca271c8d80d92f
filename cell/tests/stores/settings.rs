//! What a process does at its start with a Postgres that is not set up as it must be: refuses it, or waits.

use std::time::{Duration, Instant};

use floodgate_cell::ledger::{self, Power, Settings};
use local::{KeyFiles, LocalError, PlaneBinaries, PlaneSpec, Stack, StackOptions};

/// Long enough for a slow machine; nobody waits that long unless something is wrong.
const DEADLINE: Duration = Duration::from_secs(45);

/// A process of the cell. No etcd and no provider is there, which it does not mind.
fn process(stack: &Stack, role: &str, owner: Option<String>) -> PlaneSpec {
    let mut args: Vec<String> = [
        "--cell=cell-1",
        "--process=p1",
        "--etcd=http://127.0.0.1:1",
        "--provider=http://127.0.0.1:1",
    ]
    .map(str::to_owned)
    .into();
    let key = KeyFiles::ledger(stack.folder(), "cell-1").unwrap();
    args.push(format!("--ledger-key={}", key.private.display()));
    args.push(format!("--postgres={role}"));
    args.extend(owner.map(|owner| format!("--postgres-owner={owner}")));
    PlaneSpec {
        name: "cell-1/p1".to_owned(),
        program: PlaneBinaries::find().program("floodgate-cell").unwrap(),
        args,
        env: vec![("FLOODGATE_REDIS".into(), stack.endpoint("cell-1/redis").unwrap().url)],
    }
}

async fn stack(postgres_settings: &[(&str, &str)]) -> Stack {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let postgres_settings = postgres_settings.iter().map(owned).collect();
    let stack =
        Stack::new(StackOptions { postgres_settings, ..StackOptions::default() }).await.unwrap();
    tokio::try_join!(stack.start_redis("cell-1"), stack.start_postgres("cell-1")).unwrap();
    stack
}

/// What the process said before it ended.
async fn last_words(stack: &Stack, spec: &PlaneSpec) -> String {
    let ended = stack.start_plane(spec).await.unwrap_err();
    assert!(matches!(ended, LocalError::Start { .. }), "{ended}");
    let said = ended.to_string();
    assert!(said.contains("it ended (exit status: 1)"), "{said}");
    said
}

#[tokio::test]
async fn a_process_refuses_a_postgres_that_would_break_a_promise() {
    for (setting, words) in [
        ("fsync", "fsync is off, so a power cut takes commits along"),
        ("full_page_writes", "set full_page_writes = on"),
    ] {
        let stack = stack(&[(setting, "off")]).await;
        let (cell, owner) = (
            stack.endpoint("cell-1/postgres").unwrap().url,
            stack.postgres_owner_url("cell-1").unwrap(),
        );
        let said = last_words(&stack, &process(&stack, &cell, Some(owner))).await;
        assert!(said.contains("this Postgres cannot keep what a cell promises"), "{said}");
        assert!(said.contains(words), "{said}");
    }
}

#[tokio::test]
async fn inv_9_a_process_refuses_a_role_that_row_security_does_not_bind() {
    let stack = stack(&[]).await;
    let owner = stack.postgres_owner_url("cell-1").unwrap();
    let admin = sqlx::PgPool::connect(&stack.postgres_admin_url("cell-1").unwrap()).await.unwrap();
    for role in [
        "create role seer login bypassrls; grant connect on database floodgate to seer",
        "create role heir login noinherit; grant floodgate to heir; grant connect on database floodgate to heir",
    ] {
        sqlx::raw_sql(role).execute(&admin).await.unwrap();
    }
    let as_role = |role: &str| {
        stack
            .endpoint("cell-1/postgres")
            .unwrap()
            .url
            .replace("floodgate_cell@", &format!("{role}@"))
    };
    let rows: [(&str, &[Power], &str); 4] = [
        ("floodgate", &[Power::Owner], "the role floodgate owns the schema"),
        (
            "postgres",
            &[Power::Superuser, Power::BypassesRowSecurity, Power::Owner],
            "the role postgres is a superuser",
        ),
        ("seer", &[Power::BypassesRowSecurity], "the role seer bypasses row security"),
        ("heir", &[Power::Owner], "the role heir owns the schema or may become its owner"),
    ];
    for (role, powers, words) in rows {
        let pool = ledger::open(&as_role(role), "flash").unwrap();
        assert_eq!(Settings::read(&pool).await.unwrap().powers, powers, "{role}");
        let said = last_words(&stack, &process(&stack, &as_role(role), Some(owner.clone()))).await;
        assert!(said.contains(words), "{role}: {said}");
    }
    let pool = ledger::open(&as_role("floodgate_cell"), "flash").unwrap();
    let settings = Settings::read(&pool).await.unwrap();
    assert_eq!(settings.judge(), Default::default(), "{settings:?}");
    assert_eq!((settings.max_wal_size_mb, settings.checkpoint_timeout_s), (2_048, 900));
}

#[tokio::test]
async fn a_process_that_may_not_migrate_waits_until_somebody_has() {
    let stack = stack(&[("max_wal_size", "256MB")]).await;
    let cell = stack.endpoint("cell-1/postgres").unwrap().url;
    let pool = ledger::open(&cell, "flash").unwrap();
    let lacks = ledger::missing(&pool).await.unwrap();
    assert!(lacks.iter().any(|one| one == "0009 isolation"), "{lacks:?}");
    let spec = process(&stack, &cell, None);
    let mend = async {
        let deadline = Instant::now() + DEADLINE;
        let log = || std::fs::read_to_string(stack.log_path("cell-1/p1").ok()?).ok();
        while !log().is_some_and(|log| log.contains("the schema lacks 0001 stock, 0002 ledger")) {
            assert!(Instant::now() < deadline, "{:?}", log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let owner = ledger::open_owner(&stack.postgres_owner_url("cell-1").unwrap()).unwrap();
        ledger::migrate(&owner).await.unwrap();
    };
    let (started, ()) = tokio::join!(stack.start_plane(&spec), mend);
    let started = started.unwrap();
    assert_eq!(ledger::missing(&pool).await.unwrap(), Vec::<String>::new());

    // What only costs time is said and charted, and it works all the same.
    let log = std::fs::read_to_string(stack.log_path("cell-1/p1").unwrap()).unwrap();
    assert!(log.contains("max_wal_size is 256 MB"), "{log}");
    assert!(!log.contains("checkpoint_timeout is"), "{log}");
    rustls::crypto::ring::default_provider().install_default().ok();
    let metrics = reqwest::get(format!("http://{}/metrics", started.metrics.unwrap()));
    let metrics = metrics.await.unwrap().text().await.unwrap();
    for (setting, value) in [("max_wal_size", 1), ("fsync", 0)] {
        let line = metrics.lines().find(|line| {
            line.starts_with("floodgate_cell_unfit_settings{")
                && line.contains(&format!("setting=\"{setting}\""))
        });
        assert!(line.unwrap().ends_with(&format!(" {value}")), "{line:?}");
    }
}
