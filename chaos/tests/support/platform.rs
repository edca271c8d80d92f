//! A platform for a test that speaks to its planes: cells of two processes, and orgs that live in some of them.

use local::{PlaneExtras, Platform, PlatformPlan};

/// Starts `cells` cells, of which every org gets `cells_per_org`; `router` are further flags of the router.
pub(crate) async fn start(
    cells: u32,
    cells_per_org: u32,
    router: &[&str],
) -> anyhow::Result<Platform> {
    start_with(cells, cells_per_org, router, &[]).await
}

/// The same, where all planes have this in their environment.
pub(crate) async fn start_with(
    cells: u32,
    cells_per_org: u32,
    router: &[&str],
    env: &[(&str, &str)],
) -> anyhow::Result<Platform> {
    let flags = |words: &[&str]| PlaneExtras {
        args: words.iter().map(|word| (*word).to_owned()).collect(),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    };
    let plan = PlatformPlan {
        cells,
        control_plane: flags(&["--cells-per-org", &cells_per_org.to_string()]),
        router: flags(router),
        cell: flags(&[]),
        ..PlatformPlan::default()
    };
    Ok(Platform::start(plan).await?)
}
