//! Attacks: peers that do not buy. Each is a file: what it sends, by hand, and the hypothesis.
//!
//! They strike the port of a real router from an address of their own, on many connections at a time, while honest
//! clients beside them ask for a sale's state. What is wanted: every attacking connection is closed, with GOAWAY or
//! without, in its time; every message that is none is refused with a reason; the router's memory stays; honest clients
//! are served. Whoever attacks and whoever is attacked share this machine, so honest clients' latencies are shown beside,
//! and decide nothing.

mod closed;
mod continuation_flood;
mod deep_nesting;
mod empty_data;
mod gzip_bomb;
mod half_hello;
mod header_drip;
mod honest;
mod http1_body_drip;
mod http1_flood;
mod http1_header_drip;
mod lying_lengths;
mod many_fields;
mod memory;
mod message;
mod no_preface;
mod ping_flood;
mod rapid_reset;
mod raw;
mod run;
mod server_resets;
mod settings_flood;
mod table;
mod tiny_data;
mod wire;
mod zero_window;

use std::io;
use std::time::Duration;

use local::LocalError;

use crate::report::Proof;
use crate::scene::SceneError;

pub use run::run;

/// The attacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Attack {
    /// Calls that are reset as soon as they were sent.
    RapidReset,
    /// Calls with a mistake for which the router must reset them.
    ServerResets,
    /// Headers that go on and on.
    ContinuationFlood,
    /// DATA of no bytes.
    EmptyData,
    /// DATA of one byte.
    TinyData,
    /// SETTINGS.
    SettingsFlood,
    /// PING.
    PingFlood,
    /// Connections that say nothing.
    NoPreface,
    /// The first half of a TLS hello.
    HalfHello,
    /// Headers of which a byte comes now and then.
    HeaderDrip,
    /// Calls whose answers there is no window for.
    ZeroWindow,
    /// Requests of HTTP/1.1 for whose answers nobody waits.
    Http1Flood,
    /// Headers of HTTP/1.1 of which a byte comes now and then.
    Http1HeaderDrip,
    /// A body of which a byte comes now and then.
    Http1BodyDrip,
    /// Messages that are longer or shorter than they say.
    LyingLengths,
    /// A small message that becomes a large one.
    GzipBomb,
    /// Groups in groups in groups.
    DeepNesting,
    /// A million fields.
    ManyFields,
}

/// What an attack consists of.
enum Means {
    /// Frames by hand, or less than that.
    Wire(wire::Script),
    /// Calls with messages that are none.
    Messages(Vec<message::Lie>),
}

impl Attack {
    /// All of them.
    pub const ALL: [Attack; 18] = [
        Attack::RapidReset,
        Attack::ServerResets,
        Attack::ContinuationFlood,
        Attack::EmptyData,
        Attack::TinyData,
        Attack::SettingsFlood,
        Attack::PingFlood,
        Attack::NoPreface,
        Attack::HalfHello,
        Attack::HeaderDrip,
        Attack::ZeroWindow,
        Attack::Http1Flood,
        Attack::Http1HeaderDrip,
        Attack::Http1BodyDrip,
        Attack::LyingLengths,
        Attack::GzipBomb,
        Attack::DeepNesting,
        Attack::ManyFields,
    ];

    /// Its name on the command line; its file bears the same.
    pub const fn name(self) -> &'static str {
        match self {
            Attack::RapidReset => "rapid-reset",
            Attack::ServerResets => "server-resets",
            Attack::ContinuationFlood => "continuation-flood",
            Attack::EmptyData => "empty-data",
            Attack::TinyData => "tiny-data",
            Attack::SettingsFlood => "settings-flood",
            Attack::PingFlood => "ping-flood",
            Attack::NoPreface => "no-preface",
            Attack::HalfHello => "half-hello",
            Attack::HeaderDrip => "header-drip",
            Attack::ZeroWindow => "zero-window",
            Attack::Http1Flood => "http1-flood",
            Attack::Http1HeaderDrip => "http1-header-drip",
            Attack::Http1BodyDrip => "http1-body-drip",
            Attack::LyingLengths => "lying-lengths",
            Attack::GzipBomb => "gzip-bomb",
            Attack::DeepNesting => "deep-nesting",
            Attack::ManyFields => "many-fields",
        }
    }

    /// What is believed before.
    pub const fn hypothesis(self) -> &'static str {
        match self {
            Attack::RapidReset => rapid_reset::HYPOTHESIS,
            Attack::ServerResets => server_resets::HYPOTHESIS,
            Attack::ContinuationFlood => continuation_flood::HYPOTHESIS,
            Attack::EmptyData => empty_data::HYPOTHESIS,
            Attack::TinyData => tiny_data::HYPOTHESIS,
            Attack::SettingsFlood => settings_flood::HYPOTHESIS,
            Attack::PingFlood => ping_flood::HYPOTHESIS,
            Attack::NoPreface => no_preface::HYPOTHESIS,
            Attack::HalfHello => half_hello::HYPOTHESIS,
            Attack::HeaderDrip => header_drip::HYPOTHESIS,
            Attack::ZeroWindow => zero_window::HYPOTHESIS,
            Attack::Http1Flood => http1_flood::HYPOTHESIS,
            Attack::Http1HeaderDrip => http1_header_drip::HYPOTHESIS,
            Attack::Http1BodyDrip => http1_body_drip::HYPOTHESIS,
            Attack::LyingLengths => lying_lengths::HYPOTHESIS,
            Attack::GzipBomb => gzip_bomb::HYPOTHESIS,
            Attack::DeepNesting => deep_nesting::HYPOTHESIS,
            Attack::ManyFields => many_fields::HYPOTHESIS,
        }
    }

    fn means(self) -> Means {
        match self {
            Attack::RapidReset => Means::Wire(rapid_reset::script()),
            Attack::ServerResets => Means::Wire(server_resets::script()),
            Attack::ContinuationFlood => Means::Wire(continuation_flood::script()),
            Attack::EmptyData => Means::Wire(empty_data::script()),
            Attack::TinyData => Means::Wire(tiny_data::script()),
            Attack::SettingsFlood => Means::Wire(settings_flood::script()),
            Attack::PingFlood => Means::Wire(ping_flood::script()),
            Attack::NoPreface => Means::Wire(no_preface::script()),
            Attack::HalfHello => Means::Wire(half_hello::script()),
            Attack::HeaderDrip => Means::Wire(header_drip::script()),
            Attack::ZeroWindow => Means::Wire(zero_window::script()),
            Attack::Http1Flood => Means::Wire(http1_flood::script()),
            Attack::Http1HeaderDrip => Means::Wire(http1_header_drip::script()),
            Attack::Http1BodyDrip => Means::Wire(http1_body_drip::script()),
            Attack::LyingLengths => Means::Messages(lying_lengths::lies()),
            Attack::GzipBomb => Means::Messages(gzip_bomb::lies()),
            Attack::DeepNesting => Means::Messages(deep_nesting::lies()),
            Attack::ManyFields => Means::Messages(many_fields::lies()),
        }
    }
}

/// How attacks are run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttackPlan {
    /// Which, one after another.
    pub attacks: Vec<Attack>,
    /// Connections of each at a time.
    pub connections: usize,
    /// How long each goes on; none: every connection is attacked on once, and time decides nothing.
    pub lasts: Option<Duration>,
    /// Whether the run folder stays.
    pub keep: bool,
}

impl AttackPlan {
    /// Attacks as they are shown.
    pub fn new(attacks: Vec<Attack>) -> AttackPlan {
        AttackPlan { attacks, connections: 100, lasts: Some(Duration::from_secs(10)), keep: false }
    }
}

/// Why there was no attack.
#[derive(Debug, thiserror::Error)]
pub enum AttackError {
    /// The servers.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// What was to be set up before.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// A socket, a file of /proc, or the terminal.
    #[error("an attack could not be made or watched: {0}")]
    Io(#[from] io::Error),
    /// An address that is none.
    #[error("the router cannot be reached: {0}")]
    Address(#[from] tonic::transport::Error),
}

/// What came of one attack.
#[derive(Debug)]
struct Outcome {
    attack: Attack,
    tally: Tally,
    memory: memory::Memory,
    honest: honest::Phase,
    /// Of the closed connections, how many the router says it closed for what they did.
    known: u64,
}

/// What its connections met.
#[derive(Clone, Debug, Default)]
struct Tally {
    /// How long each that was closed lived.
    closed_after: Vec<Duration>,
    /// Connections that were not closed in time.
    left: u32,
    /// Of those closed, how many were told why, by the HTTP/2 code.
    goaways: Vec<u32>,
    /// Answers to messages, by the gRPC code; none: the stream was reset or the connection closed.
    answers: Vec<Option<i32>>,
    /// Answers that are not allowed, and to what.
    wrong: Vec<String>,
    /// Bytes sent.
    sent: u64,
}

impl Tally {
    fn add(&mut self, mut other: Tally) {
        self.closed_after.append(&mut other.closed_after);
        self.goaways.append(&mut other.goaways);
        self.answers.append(&mut other.answers);
        self.left += other.left;
        self.wrong.append(&mut other.wrong);
        self.sent += other.sent;
    }
}

impl Outcome {
    /// What of it is not as it should be.
    fn faults(&self, timed: bool) -> Vec<String> {
        let mut faults = Vec::new();
        let Tally { closed_after, left, wrong, answers, .. } = &self.tally;
        if *left > 0 {
            faults.push(format!("{left} connections were not closed"));
        }
        if let Some(first) = wrong.first() {
            let count = wrong.len();
            faults.push(format!("{count} messages were not refused with a reason, like {first}"));
        }
        if closed_after.is_empty() && answers.is_empty() {
            faults.push("nothing was attacked".to_owned());
        }
        if let Means::Wire(script) = self.attack.means() {
            // Another defence, or chance, may have closed the others.
            let told = self.tally.goaways.iter().filter(|code| **code != 0).count();
            let known = usize::try_from(self.known).unwrap_or(usize::MAX).saturating_add(told);
            let checked = script.spoken != wire::Spoken::Http1 || !script.why.is_empty();
            if checked && known < closed_after.len() {
                let closed = closed_after.len();
                faults
                    .push(format!("of {closed} connections {known} were closed for what they did"));
            }
        }
        if let (true, Means::Wire(script)) = (timed, self.attack.means()) {
            let late = closed_after.iter().filter(|after| **after > script.within).count();
            if late > 0 {
                faults.push(format!("{late} connections were closed late"));
            }
        }
        if self.memory.grown_kib() > memory::GROWTH_KIB_MAX {
            faults.push(format!("the router grew by {} KiB", self.memory.grown_kib()));
        }
        if self.honest.failed > 0 || self.honest.calls() == 0 {
            let (failed, calls) = (self.honest.failed, self.honest.calls());
            faults.push(format!("of honest clients' calls {failed} failed, {calls} succeeded"));
        }
        faults
    }
}

fn proof(outcomes: &[Outcome], timed: bool) -> Proof {
    let kept = outcomes.iter().all(|outcome| outcome.faults(timed).is_empty());
    if kept { Proof::Kept } else { Proof::Broken }
}
