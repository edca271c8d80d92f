//! A cell to measure, without a control plane: what it would decide is written into etcd here.

use anyhow::{Context, Result, bail, ensure};
use etcd_client::Client;
use local::{Endpoint, KeyFiles, PlaneBinaries, PlaneSpec, Stack, StackOptions};
use prost::Message;
use proto::keys;
use proto::ticket::TicketKey;
use proto::token::{Claims, Role, sign};
use proto::wire::admin::sale::Class;
use proto::wire::cell::{
    BucketPlan, CellRecord, KeyRecord, OrgRecord, SaleRecord, TicketKey as TicketSecret,
    sale_record::State,
};
use ring::signature::{Ed25519KeyPair, KeyPair};
use sqlx::PgPool;
use std::time::Duration;

pub(crate) const ORG: &str = "bench";
const SECRET: [u8; 32] = [5; 32];
const FAR_MS: u64 = 4_000_000_000_000;

/// One cell, and what it needs.
pub(crate) struct Cell {
    stack: Stack,
    processes: Vec<String>,
    key: Ed25519KeyPair,
    etcd: String,
}

impl Cell {
    /// The key of buyers' pseudonyms in every sale.
    pub(crate) const BUYER_KEY: [u8; 32] = [9; 32];

    /// Starts stores and one cell process with further arguments.
    pub(crate) async fn start(args: &[&str]) -> Result<Cell> {
        Cell::start_processes(&["p1"], args).await
    }

    /// Starts stores and cell processes with further arguments.
    pub(crate) async fn start_processes(processes: &[&str], args: &[&str]) -> Result<Cell> {
        disk_at_rest().await?;
        let stack = Stack::new(StackOptions::default()).await?;
        let (etcd, redis, postgres, provider) = tokio::try_join!(
            stack.start_etcd(),
            stack.start_redis("cell-1"),
            stack.start_postgres("cell-1"),
            stack.start_provider(),
        )?;
        let key = Ed25519KeyPair::from_seed_unchecked(&[3; 32]).ok().context("no key")?;
        let names = processes.iter().map(|process| format!("cell-1/{process}")).collect();
        let cell = Cell { stack, processes: names, key, etcd: etcd.url.clone() };
        cell.decide().await?;
        let ledger = KeyFiles::ledger(cell.stack.folder(), "cell-1")?.private;
        let ledger = ledger.display().to_string();
        for &process in processes {
            let mut all: Vec<String> = [
                ("--cell", "cell-1"),
                ("--process", process),
                ("--ledger-key", &ledger),
                ("--etcd", &etcd.url),
                ("--redis", &redis.url),
                ("--postgres", &postgres.url),
                ("--postgres-owner", &cell.stack.postgres_owner_url("cell-1")?),
                ("--provider", &provider.url),
            ]
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value.to_owned()])
            .collect();
            all.extend(args.iter().map(|&arg| arg.to_owned()));
            let name = format!("cell-1/{process}");
            cell.stack.start_plane(&plane(&name, "floodgate-cell", all)?).await?;
        }
        Ok(cell)
    }

    /// The names of the cell's processes in the stack.
    pub(crate) fn processes(&self) -> Vec<String> {
        self.processes.clone()
    }

    /// Starts a router with further arguments.
    pub(crate) async fn start_router(&self, name: &str, args: &[&str]) -> Result<Endpoint> {
        let mut all = vec!["--etcd".to_owned(), self.etcd.clone()];
        all.extend(args.iter().map(|&arg| arg.to_owned()));
        Ok(self.stack.start_plane(&plane(name, "floodgate-router", all)?).await?)
    }

    /// The servers.
    pub(crate) fn stack(&self) -> &Stack {
        &self.stack
    }

    /// A server's process.
    pub(crate) fn pid(&self, name: &str) -> Result<u32> {
        self.stack.pid(name).with_context(|| format!("{name} has ended"))
    }

    /// A buyer's token.
    pub(crate) fn token(&self, buyer: &str) -> String {
        let claims = Claims::new(format!("orgs/{ORG}"), buyer, Role::Buyer, FAR_MS / 1_000);
        sign(&self.key, "k1", &claims)
    }

    /// The key of this cell's tickets.
    pub(crate) fn ticket_key() -> TicketKey {
        TicketKey::new("t1", &SECRET)
    }

    /// The cell's Postgres, as the superuser, who sees everything.
    pub(crate) async fn postgres(&self) -> Result<PgPool> {
        Ok(PgPool::connect(&self.stack.postgres_admin_url("cell-1")?).await?)
    }

    /// Opens a sale with one bucket that always sells, and waits until the cell has accepted it.
    pub(crate) async fn open_sale(
        &self,
        sale: &str,
        stock: u32,
        class: Class,
    ) -> Result<SaleRecord> {
        self.open_sale_in(sale, stock, class, 1).await
    }

    /// As [`Cell::open_sale`], with so many buckets, which get the same share each.
    pub(crate) async fn open_sale_in(
        &self,
        sale: &str,
        stock: u32,
        class: Class,
        buckets: u32,
    ) -> Result<SaleRecord> {
        let units = stock / buckets;
        let plan = |number| BucketPlan { cell: "cell-1".into(), first_unit: number * units, units };
        let record = SaleRecord {
            org: ORG.into(),
            sale: sale.into(),
            class: class.into(),
            stock,
            cap: 4,
            price_minor: 1_000,
            currency: "EUR".into(),
            end_ms: FAR_MS,
            hold_ttl_ms: 3_600_000,
            admission_rate: 100_000,
            keeping_ms: 3_600_000,
            state: State::Warm.into(),
            revision: 1,
            buyer_key: Cell::BUYER_KEY.to_vec(),
            buckets: (0..buckets).map(plan).collect(),
            update_ms: 1,
            ..SaleRecord::default()
        };
        self.put(&format!("{}{sale}", keys::SALES), record.encode_to_vec()).await?;
        let pool = self.postgres().await?;
        for _ in 0..200 {
            let kept: i64 = sqlx::query_scalar(
                "select count(*) from bucket b join sale s using (org, sale) where s.id = $1 and b.epoch > 0",
            )
            .bind(sale)
            .fetch_one(&pool)
            .await?;
            if kept == i64::from(buckets) {
                return Ok(record);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the cell does not keep {sale}")
    }

    /// Writes down what was decided of a sale.
    pub(crate) async fn write(&self, record: &SaleRecord) -> Result<()> {
        self.put(&format!("{}{}", keys::SALES, record.sale), record.encode_to_vec()).await
    }

    /// fsync, synchronous_commit and full_page_writes as the server has them.
    pub(crate) async fn settings(&self) -> Result<String> {
        let pool = self.postgres().await?;
        let row: (String, String, String) = sqlx::query_as(
            "select current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')",
        )
        .fetch_one(&pool)
        .await?;
        Ok(format!("fsync={} synchronous_commit={} full_page_writes={}", row.0, row.1, row.2))
    }

    async fn decide(&self) -> Result<()> {
        let public = self.key.public_key().as_ref().to_vec();
        let org = OrgRecord {
            org: ORG.into(),
            keys: vec![KeyRecord::ed25519("k1", public)],
            cells: vec!["cell-1".into()],
            ..OrgRecord::default()
        };
        let secret = TicketSecret { kid: "t1".into(), secret: SECRET.to_vec() };
        let cell = CellRecord {
            cell: "cell-1".into(),
            ticket_keys: vec![secret],
            create_ms: 1,
            overflow: false,
        };
        self.put(&format!("{}{ORG}", keys::ORGS), org.encode_to_vec()).await?;
        self.put(&format!("{}cell-1", keys::CELLS), cell.encode_to_vec()).await
    }

    async fn put(&self, key: &str, value: Vec<u8>) -> Result<()> {
        let mut client = Client::connect([&self.etcd], None).await?;
        client.put(key, value, None).await?;
        Ok(())
    }
}

/// The program of a plane, from the same build as this one.
fn plane(name: &str, program: &str, args: Vec<String>) -> Result<PlaneSpec> {
    Ok(PlaneSpec {
        name: name.to_owned(),
        program: PlaneBinaries::find().program(program)?,
        args,
        env: vec![("FLOODGATE_LOG".into(), "warn".into())],
    })
}

/// Waits until what others have written is on the disk: what a figure before this one left behind is not its own.
async fn disk_at_rest() -> Result<()> {
    let ended = tokio::process::Command::new("sync").status().await.context("sync")?;
    ensure!(ended.success(), "sync ended with {ended}");
    Ok(())
}
