//! The command line as people and scripts use it, against a control plane on a real etcd.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "cli/credentials.rs"]
mod credentials;
#[path = "cli/router.rs"]
mod router;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use control_plane::config::Config;
use local::{Stack, StackOptions};
use prost::Message;
use proto::keys;
use proto::wire::cell::ProcessRecord;
use proto::wire::storefront::storefront_service_server::StorefrontServiceServer;
use router::Router;
use runtime::clock::Clock;
use runtime::drain::Drain;
use runtime::metric::Metrics;
use runtime::server::ServerOptions;
use serde_json::Value;
use tokio::net::TcpListener;

/// What a command wrote and how it ended.
#[derive(Debug)]
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{self:?}");
        serde_json::from_str(&self.out).unwrap()
    }
}

struct Desk {
    stack: Stack,
    endpoint: String,
    folder: tempfile::TempDir,
    drain: Drain,
}

impl Desk {
    /// A control plane that has seen three cells; `platform.token` is an operator's.
    async fn new() -> Desk {
        let folder = tempfile::tempdir().unwrap();
        let stack = Stack::new(StackOptions::default()).await.unwrap();
        let etcd = stack.start_etcd().await.unwrap().url;
        let mut desk = Desk { stack, endpoint: String::new(), folder, drain: Drain::new() };
        let made = desk.run("keys generate --out platform.key --public-out platform.pub").await;
        assert_eq!(made.code, 0, "{made:?}");
        let public = std::fs::read_to_string(desk.file("platform.pub")).unwrap();
        let config = Config {
            etcd: vec![etcd.clone()],
            platform_key: URL_SAFE_NO_PAD.decode(public.trim()).unwrap().try_into().unwrap(),
            address_calls_per_s: 0,
            proxies: Vec::new(),
            cells_per_org: 3,
            warm_lead_ms: 60_000,
            bucket_units_max: 250_000,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        desk.endpoint = format!("http://{}", listener.local_addr().unwrap());
        let metrics = Metrics::new("control-plane", "0").unwrap();
        let drain = desk.drain.clone();
        desk.drain.spawn("serve", async move {
            let served = control_plane::serve(
                listener,
                ServerOptions::default(),
                config,
                Clock::system(),
                metrics,
                drain,
            );
            served.await.unwrap();
        });
        desk.mint("platform.token", "--key platform.key --iss platform --role operator --sub ops")
            .await;
        let mut client = etcd_client::Client::connect([&etcd], None).await.unwrap();
        for cell in ["cell-1", "cell-2", "cell-3"] {
            let process = ProcessRecord {
                cell: cell.into(),
                process: "p1".into(),
                address: "http://127.0.0.1:9".into(),
                version: "1.2.3".into(),
            };
            let key = format!("{}{cell}/p1", keys::PROCESSES);
            client.put(key, process.encode_to_vec(), None).await.unwrap();
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while desk.operator("cells list -o json").await.json()["cells"].as_array().unwrap().len()
            < 3
        {
            assert!(tokio::time::Instant::now() < deadline, "the cells are not seen");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        desk
    }

    /// With the org `acme`, whose merchant's token is `acme.token`.
    async fn with_org() -> Desk {
        let desk = Desk::new().await;
        let key = desk.run("keys generate --out acme.key -o json").await.json();
        let key = key["key"].as_str().unwrap();
        let org = desk.operator(&format!("orgs create acme --display-name Acme --key {key}")).await;
        assert_eq!(org.code, 0, "{org:?}");
        desk.mint("acme.token", "--key acme.key --iss acme --role merchant --sub ada").await;
        desk
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn mint(&self, file: &str, args: &str) {
        let minted = self.run(&format!("tokens mint {args}")).await;
        assert_eq!(minted.code, 0, "{minted:?}");
        std::fs::write(self.file(file), minted.out).unwrap();
    }

    /// Runs a command in the folder, without a token.
    async fn run(&self, args: &str) -> Ran {
        self.run_with(args, None).await
    }

    async fn operator(&self, args: &str) -> Ran {
        self.run_with(args, Some("platform.token")).await
    }

    async fn merchant(&self, args: &str) -> Ran {
        self.run_with(args, Some("acme.token")).await
    }

    async fn run_with(&self, args: &str, token_file: Option<&str>) -> Ran {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_floodgate"));
        command.args(args.split_whitespace()).current_dir(self.folder.path()).env_clear();
        if !self.endpoint.is_empty() {
            command.env("FLOODGATE_ENDPOINT", &self.endpoint);
        }
        if let Some(file) = token_file {
            command.env("FLOODGATE_TOKEN_FILE", file);
        }
        let done = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
    }
}

const UUID: &str = "6f9619ff-8b86-d011-b42d-00cf4fc964ff";
const TERMS: &str = "--stock 1000 --cap 2 --price 19.99EUR --start +10m --end +70m";

#[tokio::test]
async fn a_merchant_runs_a_sale() {
    let desk = Desk::with_org().await;
    let create = format!("sales create acme {TERMS} --display-name Drop --hold-ttl 90s -o json");
    let made = desk.merchant(&create).await.json();
    let name = made["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("orgs/acme/sales/s"), "{name}");
    let expected = [
        ("displayName", Value::from("Drop")),
        ("class", "CLASS_FLASH".into()),
        ("stock", 1_000.into()),
        ("holdTtl", "90s".into()),
        ("keepingTime", "30s".into()),
        ("admissionRate", 1_000.into()),
        ("state", "STATE_DRAFT".into()),
        ("warm", false.into()),
        ("price", serde_json::json!({"currencyCode": "EUR", "units": "19", "nanos": 990_000_000})),
    ];
    for (field, value) in expected {
        assert_eq!(made[field], value, "{field}");
    }
    assert!(made["startTime"].as_str().unwrap().ends_with('Z'));

    let etag = made["etag"].as_str().unwrap();
    let update = format!("sales update {name} --cap 3 --price 25EUR --etag {etag} -o json");
    let changed = desk.merchant(&update).await.json();
    assert_eq!((&changed["cap"], &changed["revision"]), (&3.into(), &2.into()));
    let stale = desk.merchant(&update).await;
    assert_eq!((stale.code, stale.out.as_str()), (4, ""));
    assert!(stale.err.starts_with("error: ETAG_MISMATCH: "), "{}", stale.err);

    let early = desk.merchant(&format!("sales add-stock {name} --units 5")).await;
    assert_eq!(early.code, 4, "a draft's stock is updated: {early:?}");
    let rows = [
        ("schedule", "STATE_SCHEDULED"),
        ("pause", "STATE_SCHEDULED"),
        ("resume", "STATE_SCHEDULED"),
        ("get", "STATE_SCHEDULED"),
    ];
    for (verb, state) in rows {
        let sale = desk.merchant(&format!("sales {verb} {name} -o json")).await.json();
        assert_eq!(sale["state"], state, "{verb}");
    }
    let add = format!("sales add-stock {name} --units 500 -o json --request-id {UUID}");
    for _ in 0..2 {
        assert_eq!(desk.merchant(&add).await.json()["stock"], 1_500);
    }
    let reused = desk.merchant(&add.replace("500", "501")).await;
    assert!(reused.err.starts_with("error: REQUEST_ID_REUSED: "), "{}", reused.err);
    let surrender = format!("sales surrender {name} --units 100 -o json");
    let less = desk.merchant(&surrender).await.json();
    assert_eq!((&less["stock"], &less["surrendered"]), (&1_400.into(), &0.into()));
    let none = desk.merchant(&surrender.replace("100", "0")).await;
    assert_eq!(none.code, 2);
    assert!(none.err.contains("\n  units: must be 1 to 10000000"), "{}", none.err);
    let cancelled = desk.merchant(&format!("sales cancel {name} -o json")).await.json();
    assert_eq!(cancelled["state"], "STATE_CANCELLED");
    let listed = desk.merchant("sales list acme -o json").await.json();
    assert_eq!(listed["sales"][0]["name"], name.as_str());
    let table = desk.merchant("sales list acme").await;
    assert!(table.out.contains("DISPLAY NAME") && table.out.contains("25 EUR"), "{}", table.out);
    let shown = desk.merchant(&format!("sales get {name}")).await;
    assert!(shown.out.contains("CANCELLED") && shown.out.contains("90s"), "{}", shown.out);
}

#[tokio::test]
async fn an_operator_looks_at_the_fleet() {
    let desk = Desk::with_org().await;
    let org = desk.operator("orgs get acme -o json").await.json();
    assert_eq!((&org["name"], &org["displayName"]), (&"orgs/acme".into(), &"Acme".into()));
    assert_eq!(org["keys"][0]["ed25519"].as_str().unwrap().len(), 44);
    let other = desk.run("keys generate --out other.key --kid spare -o json").await.json();
    let key = other["key"].as_str().unwrap();
    let set = desk.operator(&format!("orgs set-keys acme --key {key} -o json")).await.json();
    assert_eq!(set["keys"][0]["kid"], "spare");
    let orgs = desk.operator("orgs list -o json").await.json();
    assert_eq!(orgs["orgs"].as_array().unwrap().len(), 1);
    let cell = desk.operator("cells get cell-1 -o json").await.json();
    assert_eq!((&cell["orgCount"], &cell["processes"][0]["process"]), (&1.into(), &"p1".into()));
    let table = desk.operator("cells list").await.out;
    assert!(table.contains("LIVE PROCESSES") && table.contains("cells/cell-3"), "{table}");
    let inhabited = desk.operator("cells set-overflow cell-1").await;
    assert_eq!(inhabited.code, 2);
    assert!(inhabited.err.contains("name: is a cell in which orgs live"), "{}", inhabited.err);
    let not_one = desk.operator("cells set-overflow cell-1 false -o json").await.json();
    assert_eq!(not_one["overflow"], false);
    let placement = desk.operator("placements get acme -o json").await.json();
    assert_eq!(placement["cells"].as_array().unwrap().len(), 3);
    assert_eq!(desk.operator("placements list -o json").await.json()["placements"][0], placement);
}

#[tokio::test]
async fn what_goes_wrong_is_told_and_has_its_code() {
    let desk = Desk::with_org().await;
    let missing = desk.merchant("sales get orgs/acme/sales/s0000000000000000").await;
    assert_eq!((missing.code, missing.out.as_str()), (3, ""));
    assert!(missing.err.starts_with("error: NOT_FOUND: "), "{}", missing.err);

    let bad = desk.merchant(&format!("sales create acme {TERMS} --cap 0")).await;
    assert_eq!(bad.code, 2, "clap refuses what is given twice: {bad:?}");
    let terms = TERMS.replace("--cap 2", "--cap 101");
    let bad = desk.merchant(&format!("sales create acme {terms}")).await;
    assert_eq!(bad.code, 2);
    assert!(
        bad.err.contains("INVALID_FIELD") && bad.err.contains("\n  sale.cap: must be 1 to 100"),
        "{}",
        bad.err
    );

    let role = desk.merchant("orgs list").await;
    assert_eq!(role.code, 1);
    assert!(role.err.starts_with("error: ROLE_NOT_ALLOWED: "), "{}", role.err);

    let made = desk.merchant(&format!("sales create acme {TERMS} -o json")).await.json();
    let pause = desk.merchant(&format!("sales pause {}", made["name"].as_str().unwrap())).await;
    assert_eq!(pause.code, 4);
    assert!(pause.err.starts_with("error: SALE_STATE_CONFLICT: "), "{}", pause.err);

    for usage in
        ["", "sales", "sales pause", "orgs get x", "sales create acme --price 5", "--nonsense"]
    {
        assert_eq!(desk.run(usage).await.code, 2, "{usage:?}");
    }
    assert_eq!(desk.run("--help").await.code, 0);
    let no_key = desk.run("tokens mint --key nowhere --iss platform --role operator --sub x").await;
    assert_eq!(no_key.code, 1);

    desk.stack.kill("etcd").await.unwrap();
    let away = desk.merchant("sales list acme").await;
    assert_eq!(away.code, 5);
    assert!(
        away.err.starts_with("error: OVERLOADED: ") && away.err.contains("try again after 1 s"),
        "{}",
        away.err
    );
    desk.drain.finish(Duration::from_secs(5)).await.unwrap();
    assert_eq!(desk.merchant("sales list acme").await.code, 5, "nobody listens");
}

#[tokio::test]
async fn a_request_id_makes_one_sale() {
    let desk = Desk::with_org().await;
    let start = "--start 2030-01-01T00:00:00Z --end 2030-01-01T01:00:00Z";
    let id = "--request-id 6f9619ff-8b86-d011-b42d-00cf4fc964ff";
    let create = format!("sales create acme --stock 5 --cap 1 --price 500JPY {start} {id} -o json");
    let made = desk.merchant(&create).await.json();
    assert_eq!(desk.merchant(&create).await.json(), made);
    let other = desk.merchant(&create.replace("--stock 5", "--stock 6")).await;
    assert_eq!(other.code, 2);
    assert!(other.err.starts_with("error: REQUEST_ID_REUSED: "), "{}", other.err);
    let only = create.replace("ff -o", "fe -o") + " --validate-only";
    assert_eq!(desk.merchant(&only).await.json()["stock"], 5);
    let listed = desk.merchant("sales list acme -o json").await.json();
    assert_eq!(listed["sales"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn keys_are_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::new(StackOptions::default()).await.unwrap();
    let desk = Desk { stack, endpoint: String::new(), folder, drain: Drain::new() };
    let made = desk.run("keys generate --out a.key").await;
    assert_eq!(made.code, 0);
    let mode = std::fs::metadata(desk.file("a.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let before = std::fs::read(desk.file("a.key")).unwrap();
    assert_eq!(desk.run("keys generate --out a.key").await.code, 1);
    assert_eq!(std::fs::read(desk.file("a.key")).unwrap(), before);
    let minted =
        desk.run("tokens mint --key a.key --iss acme --role buyer --sub ada --ttl 1h").await;
    let token = proto::token::read(minted.out.trim()).unwrap();
    assert_eq!(token.org().unwrap().unwrap().as_str(), "acme");
    assert!(made.out.contains(token.kid()), "the key's own name is the default");
}

#[tokio::test]
async fn a_sales_page_is_followed_through_the_router() {
    let folder = tempfile::tempdir().unwrap();
    let stack = Stack::new(StackOptions::default()).await.unwrap();
    let desk = Desk { stack, endpoint: String::new(), folder, drain: Drain::new() };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = format!("--router http://{} --token x", listener.local_addr().unwrap());
    let routes = tonic::service::Routes::new(StorefrontServiceServer::new(Router));
    let metrics = Metrics::new("router", "0").unwrap();
    let (options, drain) = (ServerOptions::default(), desk.drain.clone());
    desk.drain.spawn("router", async move {
        runtime::server::serve(listener, routes, options, metrics, drain).await;
    });
    let sale = "orgs/acme/sales/s0000000000000000";
    let got = desk.run(&format!("sale-state get {sale} {router} -o json")).await.json();
    assert_eq!((&got["free"], &got["phase"]), (&"7".into(), &"PHASE_OPEN".into()));
    let watched = desk.run(&format!("sales watch {sale} {router} -o json")).await;
    let lines: Vec<Value> =
        watched.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let free: Vec<_> = lines.iter().map(|line| line["free"].as_str().unwrap()).collect();
    assert_eq!((watched.code, free), (0, vec!["5", "0"]));
    let refund = format!("orders refund {sale}/orders/o1 --buyer ada {router}");
    let refunded = desk.run(&format!("{refund} -o json")).await.json();
    assert_eq!(refunded["state"], "STATE_REFUNDED");
    let watched = desk.run(&format!("sales watch {sale} {router}")).await.out;
    assert!(watched.contains("free=5") && watched.contains("sold out=yes"), "{watched}");
}
