//! A whole platform: etcd, provider, a Redis and a Postgres for each cell, control plane, routers, and the
//! cells' processes, each with the flags it expects.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::try_join;

use crate::binaries::PlaneBinaries;
use crate::key::KeyFiles;
use crate::plane::PlaneSpec;
use crate::{Endpoint, LocalError, Relay, Stack, StackOptions};

/// Arguments and environment that a plane gets besides its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlaneExtras {
    /// Further arguments.
    pub args: Vec<String>,
    /// Further environment.
    pub env: Vec<(String, String)>,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct PlatformPlan {
    /// Cells, named `cell-1`, `cell-2`, …
    pub cells: u32,
    /// Processes in each cell, named `p1`, `p2`, …
    pub processes: u32,
    /// Routers, named `router`, `router-2`, …
    pub routers: u32,
    /// Whether planes are started at all, or only etcd, provider and the cells' stores.
    pub stores_only: bool,
    /// Where the planes' programs are.
    pub binaries: PlaneBinaries,
    /// For the control plane.
    pub control_plane: PlaneExtras,
    /// For every router.
    pub router: PlaneExtras,
    /// For every process of every cell.
    pub cell: PlaneExtras,
    /// Whether routers reach cells' processes through relays.
    pub relays: bool,
    /// How the stack is made.
    pub options: StackOptions,
}

impl Default for PlatformPlan {
    fn default() -> Self {
        Self {
            cells: 1,
            processes: 2,
            routers: 1,
            stores_only: false,
            binaries: PlaneBinaries::find(),
            control_plane: PlaneExtras::default(),
            router: PlaneExtras::default(),
            cell: PlaneExtras::default(),
            relays: false,
            options: StackOptions::default(),
        }
    }
}

/// A running platform. Dropping it kills everything.
#[derive(Debug)]
pub struct Platform {
    plan: PlatformPlan,
    stack: Stack,
    key: KeyFiles,
    relays: Mutex<BTreeMap<String, Arc<Relay>>>,
}

impl Platform {
    /// Starts everything in the plan: stores and provider together, then the control plane, then routers
    /// and cells' processes together. Returns when all are ready.
    ///
    /// # Errors
    /// When anything does not become ready; what was started is killed then.
    pub async fn start(plan: PlatformPlan) -> Result<Self, LocalError> {
        if !plan.stores_only {
            // Said before a minute is spent on stores.
            for program in [CONTROL_PLANE, ROUTER, CELL] {
                plan.binaries.program(program)?;
            }
        }
        let stack = Stack::new(plan.options.clone()).await?;
        let key = KeyFiles::platform(stack.folder())?;
        let platform = Self { plan, stack, key, relays: Mutex::default() };
        platform.start_stores().await?;
        if !platform.plan.stores_only {
            platform.start_control_plane().await?;
            platform.start_routers_and_processes().await?;
        }
        Ok(platform)
    }

    /// The servers.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The platform's key pair.
    #[must_use]
    pub fn key(&self) -> &KeyFiles {
        &self.key
    }

    /// The names of the cells.
    pub fn cells(&self) -> impl Iterator<Item = String> + '_ {
        numbers(self.plan.cells).map(|number| format!("cell-{number}"))
    }

    /// Starts one more process of a cell, such as `p3` of `cell-1`.
    ///
    /// # Errors
    /// When the cell has no stores or the process does not become ready.
    pub async fn start_process(&self, cell: &str, process: &str) -> Result<Endpoint, LocalError> {
        let url = |name: &str| self.stack.endpoint(name).map(|endpoint| endpoint.url);
        let ledger = KeyFiles::ledger(self.stack.folder(), cell)?;
        let name = format!("{cell}/{process}");
        let mut args = vec![
            ("--cell", cell.to_owned()),
            ("--process", process.to_owned()),
            ("--ledger-key", ledger.private.display().to_string()),
            ("--etcd", url("etcd")?),
            ("--postgres", url(&format!("{cell}/postgres"))?),
            ("--postgres-owner", self.stack.postgres_owner_url(cell)?),
            ("--provider", url("provider")?),
        ];
        // It has a password, which is for nobody to see in a list of processes.
        let redis = ("FLOODGATE_REDIS".to_owned(), url(&format!("{cell}/redis"))?);
        let extras = PlaneExtras {
            args: self.plan.cell.args.clone(),
            env: std::iter::once(redis).chain(self.plan.cell.env.iter().cloned()).collect(),
        };
        if !self.plan.relays {
            return self.start_plane(&name, CELL, &args, &extras).await;
        }
        let relay = Arc::new(Relay::start()?);
        args.push(("--advertise", format!("http://{}", relay.address())));
        self.relays().insert(name.clone(), Arc::clone(&relay));
        let endpoint = self.start_plane(&name, CELL, &args, &extras).await?;
        relay.lead_to(endpoint.address);
        Ok(endpoint)
    }

    /// The relay before a cell's process, such as `cell-1/p1`.
    ///
    /// # Errors
    /// When there is none.
    pub fn relay(&self, process: &str) -> Result<Arc<Relay>, LocalError> {
        let none = || LocalError::Input(format!("there is no relay before {process}"));
        self.relays().get(process).cloned().ok_or_else(none)
    }

    /// Stops everything in good order.
    ///
    /// # Errors
    /// When a server cannot be ended.
    pub async fn shutdown(self) -> Result<(), LocalError> {
        self.stack.shutdown().await
    }

    async fn start_stores(&self) -> Result<(), LocalError> {
        let cells: Vec<String> = self.cells().collect();
        try_join!(
            self.stack.start_etcd(),
            self.stack.start_provider(),
            try_join_all(cells.iter().map(|cell| self.stack.start_redis(cell))),
            try_join_all(cells.iter().map(|cell| self.stack.start_postgres(cell))),
        )
        .map(drop)
    }

    async fn start_routers_and_processes(&self) -> Result<(), LocalError> {
        let routers = self.router_names().map(|name| self.start_router(name));
        let processes = self
            .processes()
            .map(|(cell, process)| async move { self.start_process(&cell, &process).await });
        try_join!(try_join_all(routers), try_join_all(processes)).map(drop)
    }

    async fn start_control_plane(&self) -> Result<Endpoint, LocalError> {
        let etcd = self.stack.endpoint("etcd")?.url;
        let args = [("--etcd", etcd), ("--platform-key", self.key.public.display().to_string())];
        self.start_plane("control-plane", CONTROL_PLANE, &args, &self.plan.control_plane).await
    }

    async fn start_router(&self, name: String) -> Result<Endpoint, LocalError> {
        let args = [("--etcd", self.stack.endpoint("etcd")?.url)];
        self.start_plane(&name, ROUTER, &args, &self.plan.router).await
    }

    async fn start_plane(
        &self,
        name: &str,
        program: &str,
        args: &[(&str, String)],
        extras: &PlaneExtras,
    ) -> Result<Endpoint, LocalError> {
        let own = args.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]);
        let spec = PlaneSpec {
            name: name.to_owned(),
            program: self.plan.binaries.program(program)?,
            args: own.chain(extras.args.iter().cloned()).collect(),
            env: extras.env.clone(),
        };
        self.stack.start_plane(&spec).await
    }

    fn relays(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Relay>>> {
        self.relays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn router_names(&self) -> impl Iterator<Item = String> + use<> {
        numbers(self.plan.routers).map(|number| match number {
            1 => "router".to_owned(),
            more => format!("router-{more}"),
        })
    }

    fn processes(&self) -> impl Iterator<Item = (String, String)> + '_ {
        self.cells().flat_map(|cell| {
            numbers(self.plan.processes).map(move |number| (cell.clone(), format!("p{number}")))
        })
    }
}

const CONTROL_PLANE: &str = "floodgate-control-plane";
const ROUTER: &str = "floodgate-router";
const CELL: &str = "floodgate-cell";

fn numbers(count: u32) -> RangeInclusive<u32> {
    1..=count
}
