//! The OpenAPI documents, held against what the planes do: schemathesis makes requests that fit a document and requests
//! that do not, and looks at every answer.

use std::path::Path;

use proto::token::Role;

use crate::python::{self, Needs, Python};
use crate::shop::{ORG, Shop};

/// What schemathesis needs.
const NEEDS: Needs = Needs {
    name: "over-http-1",
    requirements: &["schemathesis==4.32.5"],
    imports: "import schemathesis.cli",
};

/// Requests that fit may still be refused: a sale's state, units that are gone and forged tickets stand in no schema. And
/// what was cancelled is still there to be seen.
const NOT_CHECKED: &str = "positive_data_acceptance,use_after_free,ensure_resource_availability";

/// With what else a request may be refused that does not fit: what is too large is not looked at.
const REFUSALS: &str = "[checks.negative_data_rejection]\nexpected-statuses = \
    [400, 401, 403, 404, 405, 409, 413, 414, 415]\n";
/// The same requests each time: a call understands some that no document asks for, as numbers in quotes.
const SEED: &str = "1";

/// Fails with what schemathesis has found.
pub(crate) async fn holds(shop: &Shop, sale: &str) -> anyhow::Result<()> {
    let python = Python::environment(NEEDS).await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("schemathesis.toml");
    let parameters = format!("[parameters]\norg = {ORG:?}\nsale = {sale:?}\n");
    std::fs::write(&config, format!("{parameters}{REFUSALS}"))?;
    let planes = [(&shop.router, Role::Buyer), (&shop.control, Role::Merchant)];
    for (url, role) in planes {
        let bearer = shop.bearer("schemathesis", role);
        run(&python, &config, (url, &bearer)).await?;
    }
    Ok(())
}

async fn run(python: &Python, config: &Path, (url, bearer): (&str, &str)) -> anyhow::Result<()> {
    let mut command = python.command();
    command.args(["-m", "schemathesis.cli", "--config-file"]).arg(config);
    command.args(["run", &format!("{url}/openapi.json"), "--url", url, "--no-color"]);
    command.args(["--header", &format!("Authorization: {bearer}")]);
    command.args(["--checks", "all", "--exclude-checks", NOT_CHECKED]);
    // Events do not end.
    command.args(["--exclude-operation-id", "WatchSale", "--phases", "examples,coverage,fuzzing"]);
    command.args(["--max-examples", "20", "--seed", SEED, "--request-timeout", "10"]);
    command.args(["--workers", "1", "--warnings", "off", "--continue-on-failure"]);
    python::run(command.current_dir(config.parent().unwrap_or(Path::new(".")))).await.map(drop)
}
