//! The stack: one run folder and the servers in it, by name.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::broadcast;
use tokio::task::spawn_blocking;

use crate::binaries::PlaneBinaries;
use crate::endpoint::Endpoint;
use crate::folder::RunFolder;
use crate::packages::{self, Package};
use crate::plane::PlaneSpec;
use crate::ports::PortClaim;
use crate::postgres::wal::Mount;
use crate::process::{Dying, Spawner};
use crate::server::{Launch, Server, ServerState, StartFailure, UnexpectedExit};
use crate::{LocalError, StackOptions, etcd, postgres, provider, redis};

/// Starts of one server on different ports, before giving up.
const PORT_RETRIES_MAX: u32 = 5;

/// News of unexpected exits a slow listener may fall behind.
const EXITS_MAX: usize = 64;

/// Open files a stack wants for itself and its children, as far as the machine allows.
const OPEN_FILES: u64 = 262_144;

/// One run folder and its servers. Dropping it kills them all and removes the folder unless it is kept.
pub struct Stack {
    options: StackOptions,
    servers: Mutex<BTreeMap<String, Arc<Server>>>,
    exits: broadcast::Sender<UnexpectedExit>,
    spawner: Spawner,
    mounts: Mutex<Vec<Mount>>,
    // Goes last: the servers must be dead before their files are removed.
    folder: RunFolder,
}

impl Stack {
    /// Makes the run folder; starts nothing yet. Raises this process' limit of open files.
    ///
    /// # Errors
    /// [`LocalError::Io`] when the folder cannot be made, [`LocalError::Packages`] without `setpriv`.
    pub async fn new(options: StackOptions) -> Result<Self, LocalError> {
        packages::ensure(&[Package::UtilLinux]).await?;
        raise_open_files();
        let keep = options.keep || std::env::var_os("FLOODGATE_KEEP_RUN_FOLDER").is_some();
        let chosen = options.folder.clone();
        let made = spawn_blocking(move || RunFolder::create(chosen.as_deref(), keep)).await;
        let folder = made.map_err(|error| LocalError::io("make a run folder")(error.into()))??;
        Ok(Self {
            folder,
            spawner: Spawner::new()?,
            exits: broadcast::Sender::new(EXITS_MAX),
            servers: Mutex::default(),
            mounts: Mutex::default(),
            options,
        })
    }

    /// Starts the server `etcd`.
    ///
    /// # Errors
    /// When it is missing or does not become ready; so with all that start.
    pub async fn start_etcd(&self) -> Result<Endpoint, LocalError> {
        packages::ensure(&[Package::Etcd]).await?;
        let folder = self.folder.server("etcd")?;
        let launch = |[client_port, peer_port]: [u16; 2]| {
            etcd::forget(&folder);
            etcd::launch(folder.clone(), client_port, peer_port)
        };
        self.start("etcd", launch).await
    }

    /// Starts a cell's Redis: `cell-1` gets `cell-1/redis`. The endpoint's URL opens a session of the user that cells work as.
    ///
    /// # Errors
    /// When it is missing or does not become ready.
    pub async fn start_redis(&self, cell: &str) -> Result<Endpoint, LocalError> {
        packages::ensure(&[Package::Redis]).await?;
        let name = format!("{cell}/redis");
        let folder = self.folder.server(&name)?;
        self.free_name(&name)?;
        let password = redis::CellPassword::draw(&folder)?;
        let settings = &self.options.redis_settings;
        self.start(&name, |[port]| redis::launch(folder.clone(), port, &password, settings)).await
    }

    /// Starts a cell's Postgres: `cell-1` gets `cell-1/postgres`, with an empty database `floodgate`
    /// owned by the role `floodgate`. The endpoint's URL opens a session of `floodgate_cell`, who owns nothing.
    ///
    /// # Errors
    /// When it is missing, cannot be set up or does not become ready.
    pub async fn start_postgres(&self, cell: &str) -> Result<Endpoint, LocalError> {
        packages::ensure(&[Package::Postgres]).await?;
        let missing = || LocalError::Input("no Postgres programs found after install".to_owned());
        let programs = postgres::programs().ok_or_else(missing)?;
        let name = format!("{cell}/postgres");
        self.free_name(&name)?;
        let folder = self.folder.server(&name)?;
        postgres::copy_template(&programs, &folder).await?;
        postgres::configure(&folder, &self.options.postgres_settings)?;
        if let Some(bytes_max) = self.options.postgres_wal_bytes_max {
            let mount = postgres::wal::move_wal(&folder, bytes_max)?;
            self.mounts.lock().unwrap_or_else(PoisonError::into_inner).push(mount);
        }
        let mut env = Vec::new();
        if self.options.postgres_clock {
            packages::ensure(&[Package::Faketime]).await?;
            env = postgres::clock::environment(&folder)?;
        }
        self.start(&name, |[port]| postgres::launch(&programs, folder.clone(), port, &env)).await
    }

    /// Starts the payment provider's simulator, `provider`.
    ///
    /// # Errors
    /// When it is not built or does not become ready.
    pub async fn start_provider(&self) -> Result<Endpoint, LocalError> {
        let program = PlaneBinaries::find().program("floodgate-provider")?;
        let folder = self.folder.server("provider")?;
        self.start("provider", |[port]| provider::launch(program.clone(), folder.clone(), port))
            .await
    }

    /// Starts a plane; its data folder is the run folder's subfolder of its name.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn start_plane(&self, spec: &PlaneSpec) -> Result<Endpoint, LocalError> {
        let folder = self.folder.server(&spec.name)?;
        let launch = |[port, metrics]: [u16; 2]| spec.launch(folder.clone(), port, metrics);
        self.start(&spec.name, launch).await
    }

    /// Kills a server and everything it started with SIGKILL, at one moment, and waits until all of it
    /// is gone. Its files stay. Killing one that is down is no error.
    ///
    /// # Errors
    /// [`LocalError::Unknown`] when no server has this name; so with all that take a name.
    pub async fn kill(&self, name: &str) -> Result<(), LocalError> {
        self.server(name)?.kill().await
    }

    /// Asks a server to stop (SIGTERM; Postgres: a fast shutdown), waits, and kills it when the grace is
    /// over.
    ///
    /// # Errors
    /// When no server has this name.
    pub async fn stop(&self, name: &str) -> Result<(), LocalError> {
        self.server(name)?.stop(self.options.stop_grace).await
    }

    /// Stops a server in its tracks (SIGSTOP), with everything it started. Connections stay open.
    ///
    /// # Errors
    /// When no server has this name or it does not run.
    pub async fn pause(&self, name: &str) -> Result<(), LocalError> {
        self.server(name)?.pause().await
    }

    /// Lets a paused server go on (SIGCONT).
    ///
    /// # Errors
    /// When no server has this name or it does not run.
    pub async fn resume(&self, name: &str) -> Result<(), LocalError> {
        self.server(name)?.resume().await
    }

    /// Starts a server again on the same port, in the same folder, with the same command line; stops it
    /// first when it runs. Returns when it is ready.
    ///
    /// # Errors
    /// When no server has this name or it does not become ready.
    pub async fn restart(&self, name: &str) -> Result<(), LocalError> {
        let (grace, limit) = (self.options.stop_grace, self.options.ready_limit);
        self.server(name)?.restart(&self.spawner, grace, limit).await
    }

    /// Waits until a running server answers again, for one that was resumed or is busy.
    ///
    /// # Errors
    /// When no server has this name, it does not run, or it does not become ready.
    pub async fn wait_ready(&self, name: &str) -> Result<(), LocalError> {
        self.server(name)?.wait_ready(self.options.ready_limit).await
    }

    /// Where a server can be reached, running or not.
    ///
    /// # Errors
    /// When no server has this name.
    pub fn endpoint(&self, name: &str) -> Result<Endpoint, LocalError> {
        Ok(self.server(name)?.endpoint().clone())
    }

    /// The address of a session in a cell's Redis that may do everything.
    ///
    /// # Errors
    /// When the cell has none.
    pub fn redis_admin_url(&self, cell: &str) -> Result<String, LocalError> {
        let name = format!("{cell}/redis");
        let endpoint = self.endpoint(&name)?;
        redis::admin_url(&self.folder.server(&name)?, &endpoint)
    }

    /// The address of a session in a cell's Postgres of the role that owns the schema.
    ///
    /// # Errors
    /// When the cell has none.
    pub fn postgres_owner_url(&self, cell: &str) -> Result<String, LocalError> {
        Ok(postgres::owner_url(self.server(&format!("{cell}/postgres"))?.endpoint()))
    }

    /// The address of a superuser's session in a cell's Postgres.
    ///
    /// # Errors
    /// When the cell has none.
    pub fn postgres_admin_url(&self, cell: &str) -> Result<String, LocalError> {
        Ok(postgres::admin_url(self.server(&format!("{cell}/postgres"))?.endpoint()))
    }

    /// What a server is doing.
    ///
    /// # Errors
    /// When no server has this name.
    pub fn state(&self, name: &str) -> Result<ServerState, LocalError> {
        Ok(self.server(name)?.state())
    }

    /// The number of a server's main process; `None` while it is down.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<u32> {
        self.server(name).ok()?.pid()
    }

    /// The file a server's output goes to.
    ///
    /// # Errors
    /// When no server has this name.
    pub fn log_path(&self, name: &str) -> Result<PathBuf, LocalError> {
        Ok(self.server(name)?.log().to_owned())
    }

    /// How often a server's log says something.
    ///
    /// # Errors
    /// When no server has this name or its log cannot be read.
    pub fn logged(&self, name: &str, what: &str) -> Result<usize, LocalError> {
        let log = self.log_path(name)?;
        let text =
            std::fs::read(&log).map_err(LocalError::io(format!("read {}", log.display())))?;
        Ok(String::from_utf8_lossy(&text).matches(what).count())
    }

    /// The names of all servers that were started, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.servers().keys().cloned().collect()
    }

    /// The run folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Keeps the run folder from now on, for whoever looks into what happened there.
    pub fn keep(&self) {
        self.folder.keep();
    }

    /// The servers that ended although nobody asked for that, and have not been restarted since.
    #[must_use]
    pub fn exited(&self) -> Vec<(String, ServerState)> {
        let states = self.servers().iter().map(|(name, one)| (name.clone(), one.state())).collect();
        let states: Vec<(String, ServerState)> = states;
        states.into_iter().filter(|(_, now)| matches!(now, ServerState::Exited(_))).collect()
    }

    /// News of unexpected exits, from now on. A listener that falls far behind misses the oldest.
    #[must_use]
    pub fn exits(&self) -> broadcast::Receiver<UnexpectedExit> {
        self.exits.subscribe()
    }

    /// Stops everything in good order: planes first, then what they depend on, which is just killed when
    /// its folder goes anyway.
    ///
    /// # Errors
    /// When a server cannot be ended.
    pub async fn shutdown(self) -> Result<(), LocalError> {
        let grace = self.options.stop_grace;
        let all: Vec<_> = self.servers().values().cloned().collect();
        let (planes, rest): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.is_plane());
        let planes_stopped = join_all(planes.iter().map(|plane| plane.stop(grace))).await;
        let rest_stopped = if self.folder.is_kept() {
            join_all(rest.iter().map(|server| server.stop(grace))).await
        } else {
            join_all(rest.iter().map(|server| server.kill())).await
        };
        planes_stopped.into_iter().chain(rest_stopped).collect()
    }

    /// Starts a server on fresh ports, and on others when somebody was faster there.
    async fn start<const PORTS: usize>(
        &self,
        name: &str,
        launch: impl Fn([u16; PORTS]) -> Launch,
    ) -> Result<Endpoint, LocalError> {
        for _ in 0..PORT_RETRIES_MAX {
            let mut ports = [0; PORTS];
            let mut claims = Vec::with_capacity(PORTS);
            for port in &mut ports {
                let claim = PortClaim::take()?;
                *port = claim.port();
                claims.push(claim);
            }
            let log = self.folder.log(name);
            let server = Server::new(name, launch(ports), log, claims, self.exits.clone());
            let server = self.register(name, server)?;
            match server.start(&self.spawner, self.options.ready_limit).await {
                Ok(()) => return Ok(server.endpoint().clone()),
                Err(failure) => {
                    self.servers().remove(name);
                    if let StartFailure::Other(error) = failure {
                        return Err(error);
                    }
                }
            }
        }
        Err(LocalError::Ports { tried: PORT_RETRIES_MAX })
    }

    /// A server is known before it is started, so that whatever happens it is killed in the end.
    fn register(&self, name: &str, server: Server) -> Result<Arc<Server>, LocalError> {
        self.free_name(name)?;
        let server = Arc::new(server);
        self.servers().insert(name.to_owned(), Arc::clone(&server));
        Ok(server)
    }

    fn free_name(&self, name: &str) -> Result<(), LocalError> {
        let taken = self.servers().contains_key(name);
        if taken { Err(LocalError::Taken { name: name.to_owned() }) } else { Ok(()) }
    }

    fn server(&self, name: &str) -> Result<Arc<Server>, LocalError> {
        let servers = self.servers();
        servers.get(name).cloned().ok_or_else(|| LocalError::Unknown {
            name: name.to_owned(),
            known: servers.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    fn servers(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Server>>> {
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.debug_struct("Stack").field("folder", &self.folder()).field("servers", &names).finish()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let dying: Vec<Dying> = self.servers().values().filter_map(|one| one.strike()).collect();
        for one in dying {
            // One that is stuck in the kernel dies when it comes back; there is nobody to tell.
            one.gone_blocking();
        }
        for server in self.servers().values() {
            postgres::segment::remove_left(server.folder());
        }
    }
}

fn raise_open_files() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(OPEN_FILES);
        if soft < wanted {
            // The limit as it is does for small stacks.
            setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).ok();
        }
    }
}
