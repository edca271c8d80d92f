//! Calls whose tokens the router has never seen, beside the same calls again. h2load sends the same headers with every
//! call, so these come from a generator of our own; tokens are made before.

use super::CALL;
use crate::calls::{Line, Refused, bearer};
use crate::cpu;
use crate::sale::Cell;
use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use http::HeaderValue;
use proto::wire::fleet::{ProbeRequest, ProbeResponse};
use std::cell::Cell as Counter;
use std::time::Duration;

const CONNECTIONS: usize = 8;
const UNDER_WAY: usize = 256;
/// Long enough for every call.
const DEADLINE: Duration = Duration::from_secs(10);

/// What calls with these tokens cost, in microseconds of the processes' time: the first time, and the second.
pub(super) async fn us_per_call(
    cell: &Cell,
    url: &str,
    pids: &[u32],
    tokens: usize,
) -> Result<(f64, f64)> {
    let tokens: Vec<HeaderValue> = (0..tokens)
        .map(|number| bearer(&cell.token(&format!("fresh{number}"))))
        .collect::<Result<_>>()?;
    let lines = Line::many(url, CONNECTIONS, DEADLINE).await?;
    let first = once(&lines, &tokens, pids).await?;
    Ok((first, once(&lines, &tokens, pids).await?))
}

/// Calls once with every token.
async fn once(lines: &[Line], tokens: &[HeaderValue], pids: &[u32]) -> Result<f64> {
    let request =
        ProbeRequest { cell: String::new(), payload: vec![7; super::REQUEST_BYTES].into() };
    let next = Counter::new(0);
    let before_s = cpu::used_s(pids)?;
    try_join_all((0..UNDER_WAY).map(|_| async {
        loop {
            let number = next.replace(next.get() + 1);
            let Some(token) = tokens.get(number) else { return anyhow::Ok(()) };
            let answer = lines[number % lines.len()].call::<ProbeResponse>(CALL, token, &request);
            if let Err(error) = answer.await {
                let refused = error.downcast_ref::<Refused>().map(ToString::to_string);
                return Err(error).context(format!("a probe was refused: {refused:?}"));
            }
        }
    }))
    .await?;
    #[expect(clippy::cast_precision_loss, reason = "a count of calls is far below 2^53")]
    Ok((cpu::used_s(pids)? - before_s) / tokens.len() as f64 * 1_000_000.0)
}
