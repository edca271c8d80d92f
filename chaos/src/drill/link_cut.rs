//! `link-cut`: the TCP connections between the router and the process that keeps a bucket break, or nothing comes
//! through them any more, with frames under way. Frames that were held up arrive late, in both directions.

use std::time::Duration;

use tokio::time::sleep;

use super::{Blow, DrillError, Field, Setup, Special, now_us};

pub(super) const HYPOTHESIS: &str = "a link that breaks or hangs loses no acknowledgement, and its bucket sells again within 3 s \
     of its mending";

/// After it is mended: the longest pause before a process is dialled again, and a buyer's own.
const GRANTING_AGAIN_MAX: Duration = Duration::from_secs(3);

/// How it is hurt: broken once; broken and refused; hung for less than a ping takes, and for longer than two.
#[derive(Clone, Copy, Debug)]
enum How {
    Broken,
    Away(Duration),
    Hung(Duration),
}

const WAYS: [How; 4] = [
    How::Broken,
    How::Away(Duration::from_millis(1_000)),
    How::Hung(Duration::from_millis(800)),
    How::Hung(Duration::from_millis(5_000)),
];

pub(super) fn setup() -> Setup {
    Setup { special: Special::Relays, ..Setup::default() }
}

pub(super) async fn strike(field: &Field<'_>) -> Result<Option<Blow>, DrillError> {
    let Some((bucket, cell, _)) = field.victim_bucket().cloned() else { return Ok(None) };
    let mut session = field.postgres(&cell).await?;
    let Some(aim) = field.aim(1.0).await else { return Ok(None) };
    let Some(process) = field.keeper(&mut session, bucket, &cell).await? else { return Ok(None) };
    let relay = field.platform.relay(&process)?;
    let (what, takes) = match WAYS[field.way(WAYS.len())] {
        How::Broken => ("broke".to_owned(), Duration::ZERO),
        How::Away(takes) => (format!("broke, for {} ms,", takes.as_millis()), takes),
        How::Hung(takes) => (format!("hung, for {} ms,", takes.as_millis()), takes),
    };
    let mut blow = aim.blow(format!("{what} the link to {process}"));
    match WAYS[field.way(WAYS.len())] {
        How::Broken => relay.cut(),
        How::Away(_) => relay.shut(),
        How::Hung(_) => relay.hang(),
    }
    sleep(takes).await;
    let back_us = now_us();
    let (connections, bytes) = relay.passed();
    relay.mend();
    blow.found(format!("{connections} connections had carried {bytes} bytes"));
    if connections == 0 {
        blow.void("nobody was connected through the relay".to_owned());
    }
    let blow = blow.mended(back_us);
    Ok(Some(blow.again_within(GRANTING_AGAIN_MAX)))
}
