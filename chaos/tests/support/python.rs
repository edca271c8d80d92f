//! Python with what a test needs, installed once for each user.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// What a program in Python needs. The name goes up with the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    /// Of the environment.
    pub(crate) name: &'static str,
    /// What is installed, to the version.
    pub(crate) requirements: &'static [&'static str],
    /// What the environment must be able to do to be whole.
    pub(crate) imports: &'static str,
}

/// Its programs.
#[derive(Debug)]
pub(crate) struct Python {
    program: PathBuf,
}

impl Python {
    /// The environment in the user's cache; made first when it is missing or broken.
    pub(crate) async fn environment(needs: Needs) -> anyhow::Result<Python> {
        let cache = cache_folder()?;
        let folder = cache.join(needs.name);
        let python = Python { program: folder.join("bin/python") };
        let lock = File::create(cache.join(format!("{}.lock", needs.name)))?;
        // Held to the end, so that nobody uses one that is half made.
        let _lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock)).await??;
        if python.run(["-c", needs.imports]).await.is_ok() {
            return Ok(python);
        }
        ensure_python().await?;
        fs::remove_dir_all(&folder).ok();
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder)).await?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        python.run(pip.iter().chain(needs.requirements)).await?;
        python.run(["-c", needs.imports]).await?;
        Ok(python)
    }

    /// A command that still wants its arguments.
    pub(crate) fn command(&self) -> Command {
        Command::new(&self.program)
    }

    async fn run(
        &self,
        args: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> anyhow::Result<String> {
        run(self.command().args(args)).await
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

/// Runs a command to its end; returns what it printed.
pub(crate) async fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let output = command.kill_on_drop(true).output().await.with_context(|| program.clone())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} ended with {}:\n{said}{errors}", output.status);
    Ok(said)
}
