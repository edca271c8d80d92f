//! A whole platform: etcd, provider, a Redis and a Postgres for each cell, control plane, routers, and the
//! cells' processes, each with the flags it expects.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;
use tokio::try_join;

use crate::authority::{Authority, CONTROL_PLANE_NAME, ROUTER_NAME, cell_name};
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
    /// Whether all planes speak TLS, with certificates of a CA of the run folder's own.
    pub tls: bool,
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
            tls: false,
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
    authority: Option<Authority>,
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
        let authority = plan.tls.then(|| Authority::found(&stack.folder().join("tls")));
        let authority = authority.transpose()?;
        let platform = Self { plan, stack, key, authority, relays: Mutex::default() };
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

    /// The CA of the planes' certificates, where they speak TLS. Those of a router are `router`, of a cell's processes
    /// the cell's name, and of the control plane `control-plane`.
    #[must_use]
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
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
        if let Some(authority) = &self.authority {
            args.extend(self.server_files(cell, &cell_name(cell))?);
            args.push(("--tls-client-ca", authority.ca().display().to_string()));
        }
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
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        args.push(("--advertise", format!("{scheme}://{}", relay.address())));
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
        let platform_key = self.key.public.display().to_string();
        let mut args = vec![("--etcd", etcd), ("--platform-key", platform_key)];
        args.extend(self.server_files("control-plane", CONTROL_PLANE_NAME)?);
        self.start_plane("control-plane", CONTROL_PLANE, &args, &self.plan.control_plane).await
    }

    async fn start_router(&self, name: String) -> Result<Endpoint, LocalError> {
        let mut args = vec![("--etcd", self.stack.endpoint("etcd")?.url)];
        // It is known by the same certificate to buyers and to cells.
        let files = self.server_files("router", ROUTER_NAME)?;
        if let (Some(authority), [(_, cert), (_, key)]) = (&self.authority, &files[..]) {
            args.push(("--cell-ca", authority.ca().display().to_string()));
            args.push(("--cell-client-cert", cert.clone()));
            args.push(("--cell-client-key", key.clone()));
        }
        args.extend(files);
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

    /// The arguments by which a plane that is called `name` speaks TLS; none where nobody does. What was issued into
    /// files of this stem stays: several processes may share them.
    fn server_files(
        &self,
        stem: &str,
        name: &str,
    ) -> Result<Vec<(&'static str, String)>, LocalError> {
        let Some(authority) = &self.authority else { return Ok(Vec::new()) };
        let files = authority.files(stem);
        let files = if files.cert.exists() { files } else { authority.issue(stem, name)? };
        Ok(vec![
            ("--tls-cert", files.cert.display().to_string()),
            ("--tls-key", files.key.display().to_string()),
        ])
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
