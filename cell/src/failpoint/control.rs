//! Failpoints from outside, on the metrics port of a build for drills.
//!
//! - `GET /failpoints`: every failpoint's name, kind, sentence, what it needs, and what has happened there, as JSON.
//! - `POST /failpoints/NAME?do=pause|crash|lose|delay&times=N&ms=N`: arms it for the next N (1) that reach it.
//! - `POST /failpoints/NAME?do=release`: lets go whoever waits there, and disarms it.
//! - `POST /failpoints/NAME?do=hurry`: cuts a wait short.

use super::Failpoint;
use super::armed::{Action, Point};
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Serialize)]
struct Told {
    name: &'static str,
    kind: &'static str,
    sentence: &'static str,
    needs: Option<&'static str>,
    reached: u64,
    hits: u64,
    waiting: u32,
}

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "do")]
    what: What,
    times: Option<u32>,
    ms: Option<u64>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum What {
    Pause,
    Crash,
    Lose,
    Delay,
    Release,
    Hurry,
}

/// The paths above.
pub(crate) fn routes() -> Router {
    Router::new().route("/failpoints", get(list)).route("/failpoints/{name}", post(act))
}

async fn list() -> Json<Vec<Told>> {
    Json(Failpoint::ALL.iter().map(|&point| told(point)).collect())
}

async fn act(
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Json<Told>, (StatusCode, String)> {
    let point = Failpoint::ALL.iter().copied().find(|point| point.name() == name);
    let point = point.ok_or((StatusCode::NOT_FOUND, format!("no failpoint is named {name}\n")))?;
    let here = Point::of(point);
    let times = asked.times.unwrap_or(1);
    let delay = || Duration::from_millis(asked.ms.unwrap_or(0));
    match (asked.what, point.kind()) {
        (What::Release, _) => here.release(),
        (What::Hurry, "wait") => here.hurry(),
        (What::Pause, "step" | "reply") => here.arm(Action::Pause, times),
        (What::Crash, "step" | "reply") => here.arm(Action::Crash, times),
        (What::Delay, "step" | "reply") => here.arm(Action::Delay(delay()), times),
        (What::Lose, "reply") => here.arm(Action::Lose, times),
        (_, kind) => {
            return Err((StatusCode::BAD_REQUEST, format!("that cannot be done at a {kind}\n")));
        }
    }
    Ok(Json(told(point)))
}

fn told(point: Failpoint) -> Told {
    let seen = Point::of(point).seen();
    Told {
        name: point.name(),
        kind: point.kind(),
        sentence: point.sentence(),
        needs: point.needs().map(Failpoint::name),
        reached: seen.reached,
        hits: seen.hits,
        waiting: seen.waiting,
    }
}
