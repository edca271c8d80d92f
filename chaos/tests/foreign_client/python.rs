//! Python with grpcio, installed once for each user, and stubs made from the repository's `.proto` files.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// What is installed, to the version. The environment's name goes up with it.
const REQUIREMENTS: [&str; 5] = [
    "grpcio==1.85.1",
    "grpcio-tools==1.85.1",
    "grpcio-reflection==1.85.1",
    "grpcio-health-checking==1.85.1",
    "cryptography==50.0.2",
];
const ENVIRONMENT: &str = "foreign-client-1";
/// What the environment must be able to import to be whole.
const IMPORTS: &str = "import grpc, grpc_tools.protoc, grpc_reflection, grpc_health, cryptography";

/// Its programs.
#[derive(Debug)]
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// The environment in the user's cache; made first when it is missing or broken.
    pub(crate) async fn environment() -> anyhow::Result<Python> {
        let cache = cache_folder()?;
        let folder = cache.join(ENVIRONMENT);
        let python = Python { program: folder.join("bin/python") };
        let lock = File::create(cache.join(format!("{ENVIRONMENT}.lock")))?;
        // Held to the end, so that nobody uses one that is half made.
        let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        if python.run(["-c", IMPORTS]).await.is_ok() {
            return Ok(python);
        }
        ensure_python().await?;
        fs::remove_dir_all(&folder).ok();
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        python.run(pip.iter().chain(&REQUIREMENTS)).await?;
        python.run(["-c", IMPORTS]).await?;
        Ok(python)
    }

    /// Generates the stubs of all files under `protos` into `folder`.
    pub(crate) async fn generate(&self, protos: &Path, folder: &Path) -> anyhow::Result<()> {
        let mut files = Vec::new();
        collect(protos, protos, &mut files)?;
        ensure!(!files.is_empty(), "no .proto file under {}", protos.display());
        let flag = |name: &str, path: &Path| format!("--{name}={}", path.display());
        let mut args = vec!["-m".to_owned(), "grpc_tools.protoc".to_owned()];
        args.push(flag("proto_path", protos));
        args.push(flag("python_out", folder));
        args.push(flag("grpc_python_out", folder));
        self.run(args.iter().chain(&files)).await.map(drop)
    }

    /// Runs a script that finds the stubs in `stubs`; returns what it printed.
    pub(crate) async fn script(
        &self,
        stubs: &Path,
        script: &Path,
        args: &[&str],
    ) -> anyhow::Result<String> {
        let mut command = Command::new(&self.program);
        command.arg(script).args(args).env("PYTHONPATH", stubs).env("PYTHONDONTWRITEBYTECODE", "1");
        run(&mut command).await
    }

    async fn run(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<String> {
        run(Command::new(&self.program).args(args)).await
    }
}

/// Installs Debian's Python unless there is one that can make environments.
async fn ensure_python() -> anyhow::Result<()> {
    if run(Command::new("python3").args(["-c", "import venv, ensurepip"])).await.is_ok() {
        return Ok(());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/local/packages.sh");
    run(Command::new("sh").arg(script).args(["python3", "python3-venv"])).await.map(drop)
}

/// Where this user keeps what takes long to make.
fn cache_folder() -> anyhow::Result<PathBuf> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let folder = base.unwrap_or_else(std::env::temp_dir).join("floodgate");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<String>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path.strip_prefix(root)?.display().to_string());
        }
    }
    Ok(())
}

async fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| program.clone())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}:\n{said}{errors}", output.status);
    Ok(said)
}
