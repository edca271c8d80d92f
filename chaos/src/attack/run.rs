//! Attacks, one after another, on the router of a small platform.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use local::{
    Authority, PlaneBinaries, PlaneExtras, PlaneSpec, Platform, PlatformPlan, StackOptions,
};
use proto::token::Role;
use proto::wire::admin::sale::Class;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::closed::{closed, closed_in_time};
use super::honest::Honest;
use super::wire::Spoken;
use super::{
    Attack, AttackError, AttackPlan, Means, Outcome, Tally, memory, message, proof, table,
};
use crate::identity::{Signer, bearer};
use crate::report::Proof;
use crate::scene::{SaleTerms, Scene, SceneError};

/// Where attackers come from: honest clients come from 127.0.0.1.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

/// The routers that are struck: the one that honest clients ask, and one that speaks TLS.
const ROUTER: &str = "router";
const ENCRYPTED: &str = "router-tls";

/// The name that the latter is known by.
const ROUTER_NAME: &str = "spiffe://floodgate/router";

/// The org whose sale honest clients look at.
const ORG: &str = "acme";

/// For how long honest clients are alone first, and memory settles after each attack.
const QUIET: Duration = Duration::from_secs(2);

/// Runs the plan, draws what came of it to `out`, and says what it proved.
///
/// # Errors
/// When the platform could not be started or watched: nothing is proved then.
pub async fn run(plan: &AttackPlan, out: &mut impl Write) -> Result<Proof, AttackError> {
    let with = |flags: &[&str]| PlaneExtras {
        args: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        env: Vec::new(),
    };
    // Honest clients are all the same buyer.
    let router = ["--buyer-calls-per-s", "100000", "--buyer-calls-burst", "100000"];
    let platform = Platform::start(PlatformPlan {
        cells: 1,
        processes: 1,
        control_plane: with(&["--cells-per-org", "1"]),
        router: with(&router),
        options: StackOptions { keep: plan.keep, ..StackOptions::default() },
        ..PlatformPlan::default()
    })
    .await?;
    let proof = on_platform(plan, &platform, out).await;
    platform.shutdown().await?;
    proof
}

async fn on_platform(
    plan: &AttackPlan,
    platform: &Platform,
    out: &mut impl Write,
) -> Result<Proof, AttackError> {
    let scene = Scene::open(platform).await?;
    let signer = Signer::of_org(ORG, "k1", &[7; 32]).map_err(SceneError::from)?;
    scene.register(ORG, &signer).await?;
    let sale = scene.sale(ORG, &signer, &terms()).await?.name;
    let token = signer.token("buyer", Role::Buyer, scene.expires_s);
    let router = platform.stack().endpoint(ROUTER)?;
    if plan.attacks.iter().any(|attack| attack.port() != ROUTER) {
        encrypted(platform).await?;
    }

    let authorization = bearer(&token).map_err(SceneError::from)?;
    let honest = Honest::begin(&router.url, &sale, &authorization).await?;
    // The first calls find a router that does not know the sale yet.
    while honest.phase().calls() == 0 {
        sleep(Duration::from_millis(50)).await;
    }
    honest.phase();
    sleep(QUIET).await;
    let alone = honest.phase();

    let mut outcomes = Vec::new();
    for attack in &plan.attacks {
        let (stack, port, why) = (platform.stack(), attack.port(), attack.why());
        let target = Target { address: stack.endpoint(port)?.address, token: token.clone() };
        let known = closed(stack, port, why).await?;
        let struck = async {
            let tally = strike(*attack, plan, target).await;
            let during = honest.met().await;
            if plan.lasts.is_some() {
                sleep(QUIET).await;
            }
            (tally, during)
        };
        honest.phase();
        let pid = stack.pid(port).unwrap_or_default();
        let ((tally, honest), memory) = memory::during(pid, struck).await?;
        let tally = tally?;
        let seen = u64::try_from(tally.closed_after.len()).unwrap_or(u64::MAX);
        let after = closed_in_time(stack, port, why, known.saturating_add(seen)).await?;
        let known = after.saturating_sub(known);
        outcomes.push(Outcome { attack: *attack, tally, memory, honest, known });
    }
    let timed = plan.lasts.is_some();
    table::draw(out, plan, &alone, &outcomes)?;
    Ok(proof(&outcomes, timed))
}

/// Starts a second router, whose port speaks TLS.
async fn encrypted(platform: &Platform) -> Result<(), AttackError> {
    let stack = platform.stack();
    let files = Authority::found(&stack.folder().join("attacked"))?.issue("router", ROUTER_NAME)?;
    let args = [
        ("--etcd", stack.endpoint("etcd")?.url),
        ("--tls-cert", files.cert.display().to_string()),
        ("--tls-key", files.key.display().to_string()),
    ];
    let spec = PlaneSpec {
        name: ENCRYPTED.to_owned(),
        program: PlaneBinaries::find().program("floodgate-router")?,
        args: args.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect(),
        env: Vec::new(),
    };
    stack.start_plane(&spec).await?;
    Ok(())
}

impl Attack {
    /// The router that it strikes.
    fn port(self) -> &'static str {
        match self.means() {
            Means::Wire(script) if script.spoken == Spoken::Tls => ENCRYPTED,
            _ => ROUTER,
        }
    }

    /// Why that closes its connections.
    fn why(self) -> &'static [&'static str] {
        match self.means() {
            Means::Wire(script) => script.why,
            Means::Messages(_) => &[],
        }
    }
}

fn terms() -> SaleTerms {
    SaleTerms {
        class: Class::Standard,
        stock: 100,
        cap: 1,
        hold_ttl: Duration::from_secs(60),
        keeping_time: Duration::from_secs(60),
        admission_rate: 100,
        starts_in: Duration::ZERO,
        lasts: Duration::from_secs(3_600),
    }
}

#[derive(Clone, Debug)]
struct Target {
    address: SocketAddr,
    token: String,
}

/// Strikes on all connections at a time.
async fn strike(attack: Attack, plan: &AttackPlan, target: Target) -> Result<Tally, AttackError> {
    let means = Arc::new(attack.means());
    let until = plan.lasts.map(|lasts| Instant::now() + lasts);
    let mut striking = JoinSet::new();
    for _ in 0..plan.connections {
        let (means, target) = (means.clone(), target.clone());
        striking.spawn(async move {
            let mut tally = once(&means, &target).await?;
            while until.is_some_and(|until| Instant::now() < until) {
                tally.add(once(&means, &target).await?);
            }
            Ok::<_, std::io::Error>(tally)
        });
    }
    let mut all = Tally::default();
    while let Some(struck) = striking.join_next().await {
        all.add(struck.map_err(std::io::Error::other)??);
    }
    Ok(all)
}

async fn once(means: &Means, target: &Target) -> std::io::Result<Tally> {
    let from = SocketAddr::from((ATTACKER, 0));
    match means {
        Means::Wire(script) => script.play(target.address, from).await,
        Means::Messages(lies) => message::tell(lies, &target.token, target.address, from).await,
    }
}
