//! The template: a Postgres folder made once for each user and version, then copied (0.1 s instead of
//! one second). It is built aside and renamed into place, so nobody ever sees half of one; a lock file
//! keeps builders from doing it twice.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use ring::digest::{SHA256, digest};

use super::user;
use crate::LocalError;

/// Goes up when the template is made in another way.
const TEMPLATE_REVISION: u32 = 2;

/// The roles and the database that the template holds.
const ROLES: &str = include_str!("../../../postgres/roles.sql");

/// Copies the template to `folder/data`, and makes it first when there is none.
pub(crate) async fn copy_template(programs: &Path, folder: &Path) -> Result<(), LocalError> {
    let template = template(programs, folder).await?;
    own(folder, false).await?;
    copy(&template, &folder.join("data")).await?;
    own(&folder.join("data"), true).await
}

async fn template(programs: &Path, scratch: &Path) -> Result<PathBuf, LocalError> {
    let cache = cache_folder()?;
    let template = cache.join(template_name(programs).await?);
    if template.exists() {
        return Ok(template);
    }
    let lock = cache.join("postgres-template.lock");
    let doing = || LocalError::io(format!("lock {}", lock.display()));
    let file = File::create(&lock).map_err(doing())?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    let _lock = locked.await.map_err(|error| doing()(error.into()))?.map_err(doing())?;
    // Another builder may have had the lock before us.
    if !template.exists() {
        build(programs, scratch, &template).await?;
    }
    Ok(template)
}

/// Builds in the server's own folder, since the user `postgres` may not reach the cache.
async fn build(programs: &Path, scratch: &Path, template: &Path) -> Result<(), LocalError> {
    own(scratch, false).await?;
    let fresh = scratch.join("template");
    let fresh_text = fresh.display().to_string();
    let mut initdb = command(&programs.join("initdb"));
    initdb.args(["--pgdata", &fresh_text, "--username", "postgres", "--auth", "trust"]);
    initdb.args(["--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"]);
    run(initdb, "").await?;

    let mut single = command(&programs.join("postgres"));
    // With -j a statement ends at a semicolon before an empty line.
    single.args(["--single", "-j", "-D", &fresh_text, "-c", "exit_on_error=on", "postgres"]);
    run(single, &format!("{ROLES}\ncheckpoint;\n\n")).await?;

    let include = "\ninclude = 'floodgate.conf'\n";
    let file = fresh.join("postgresql.conf");
    let doing = || LocalError::io(format!("write {}", file.display()));
    let original = fs::read_to_string(&file).map_err(doing())?;
    fs::write(&file, original + include).map_err(doing())?;

    let aside = template.with_extension("new");
    fs::remove_dir_all(&aside).ok();
    copy(&fresh, &aside).await?;
    run(plain("sync", &[Path::new("--file-system"), &aside]), "").await?;
    fs::rename(&aside, template).map_err(LocalError::io("rename the Postgres template"))?;
    fs::remove_dir_all(&fresh).map_err(LocalError::io("remove the fresh Postgres folder"))
}

/// `postgres-template-15.18-2-1a2b3c4d`: a new minor version may bring a new catalogue, and other roles are another template.
async fn template_name(programs: &Path) -> Result<String, LocalError> {
    let said =
        run(plain(&programs.join("postgres").display().to_string(), &[Path::new("--version")]), "")
            .await?;
    let version = said.split_whitespace().nth(2).unwrap_or("unknown");
    let roles: String = digest(&SHA256, ROLES.as_bytes()).as_ref()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(format!("postgres-template-{version}-{TEMPLATE_REVISION}-{roles}"))
}

fn cache_folder() -> Result<PathBuf, LocalError> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    let uid = nix::unistd::geteuid();
    let make = |path: PathBuf| {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map(|()| path)
    };
    base.and_then(|base| make(base.join("floodgate")).ok())
        .map_or_else(|| make(std::env::temp_dir().join(format!("floodgate-cache-{uid}"))), Ok)
        .map_err(LocalError::io("make a cache folder"))
}

async fn copy(from: &Path, to: &Path) -> Result<(), LocalError> {
    let mut cp = plain("cp", &[Path::new("-a"), Path::new("--reflink=auto")]);
    cp.arg(from).arg(to);
    run(cp, "").await.map(drop)
}

/// Gives a folder to the user Postgres runs as.
async fn own(folder: &Path, recursive: bool) -> Result<(), LocalError> {
    let Some(user) = user() else { return Ok(()) };
    let owner = format!("{user}:{user}");
    let mut chown = plain("chown", &[]);
    if recursive {
        chown.arg("-R");
    }
    chown.arg(owner).arg(folder);
    run(chown, "").await.map(drop)
}

/// A command that runs as the user Postgres runs as.
fn command(program: &Path) -> Command {
    match user() {
        Some(user) => {
            let mut command = plain("setpriv", &[]);
            command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
            command
        }
        None => plain(&program.display().to_string(), &[]),
    }
}

fn plain(program: &str, args: &[&Path]) -> Command {
    let mut command = Command::new(program);
    command.args(args).current_dir("/").env("LC_ALL", "C").kill_on_drop(true);
    command
}

/// Runs a tool to its end and returns what it wrote.
async fn run(mut command: Command, input: &str) -> Result<String, LocalError> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let doing = || LocalError::io(format!("run {program}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(doing())?;
    if let Some(mut stdin) = child.stdin.take() {
        // A tool that does not read ends before it is written to; its status says how.
        stdin.write_all(input.as_bytes()).await.ok();
    }
    let output = child.wait_with_output().await.map_err(doing())?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let status = output.status.to_string();
    Err(LocalError::Tool { program, status, output: format!("{said}{errors}") })
}
