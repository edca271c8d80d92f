//! The failpoints of a cell process that was built for drills, over its metrics port. What there is, the process says.

use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

use crate::{LocalError, Stack, http};

/// How often somebody who waits for a hit looks.
const POLL: Duration = Duration::from_millis(5);

/// A process's failpoints.
#[derive(Debug, Clone, Copy)]
pub struct Failpoints {
    address: SocketAddr,
}

/// A failpoint, and what has happened there in the life of its process.
#[derive(Debug, Clone, Deserialize, PartialEq, Eq)]
pub struct Failpoint {
    /// Its name, such as `hold.granted`.
    pub name: String,
    /// What can be done there.
    pub kind: FailpointKind,
    /// What is so when it is reached.
    pub sentence: String,
    /// The failpoint whose reply must be lost for this one to be reached.
    pub needs: Option<String>,
    /// How often it was reached.
    pub reached: u64,
    /// How often it was armed when it was reached.
    pub hits: u64,
    /// Who waits there now.
    pub waiting: u32,
}

/// What can be done at a failpoint.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum FailpointKind {
    /// Everything but losing a reply.
    Step,
    /// Everything.
    Reply,
    /// A wait, which can be cut short.
    Wait,
}

/// What happens to whoever reaches an armed failpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailpointAction {
    /// It waits until it is released.
    Pause,
    /// The process aborts.
    Crash,
    /// The reply that came is lost.
    Lose,
    /// It waits so long, in whole milliseconds.
    Delay(Duration),
}

impl Stack {
    /// The failpoints of a plane's process, such as `cell-1/p1`.
    ///
    /// # Errors
    /// When no plane has this name.
    pub fn failpoints(&self, name: &str) -> Result<Failpoints, LocalError> {
        let metrics = self.endpoint(name)?.metrics;
        let address = metrics.ok_or_else(|| LocalError::Input(format!("{name} is no plane")))?;
        Ok(Failpoints { address })
    }
}

impl Failpoints {
    /// All of them.
    ///
    /// # Errors
    /// When the process does not answer, or was built without failpoints; so with all of these.
    pub async fn list(&self) -> Result<Vec<Failpoint>, LocalError> {
        let text = self.request("GET", "/failpoints").await?;
        serde_json::from_str(&text).map_err(|error| LocalError::Input(format!("{error}: {text}")))
    }

    /// One of them, by its name.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn look(&self, name: &str) -> Result<Failpoint, LocalError> {
        let found = self.list().await?.into_iter().find(|one| one.name == name);
        found.ok_or_else(|| LocalError::Input(format!("no failpoint is named {name}")))
    }

    /// Arms one for the next `times` that reach it.
    ///
    /// # Errors
    /// When there is none of this name, or it cannot do that.
    pub async fn arm(
        &self,
        name: &str,
        action: FailpointAction,
        times: u32,
    ) -> Result<(), LocalError> {
        let action = match action {
            FailpointAction::Pause => "pause".to_owned(),
            FailpointAction::Crash => "crash".to_owned(),
            FailpointAction::Lose => "lose".to_owned(),
            FailpointAction::Delay(delay) => format!("delay&ms={}", delay.as_millis()),
        };
        self.post(name, &format!("{action}&times={times}")).await
    }

    /// Lets go whoever waits at one, and disarms it.
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn release(&self, name: &str) -> Result<(), LocalError> {
        self.post(name, "release").await
    }

    /// Cuts a wait short, or the next one.
    ///
    /// # Errors
    /// When there is none of this name, or it is no wait.
    pub async fn hurry(&self, name: &str) -> Result<(), LocalError> {
        self.post(name, "hurry").await
    }

    /// Waits until somebody is held at one.
    ///
    /// # Errors
    /// When nobody is within `limit`.
    pub async fn held(&self, name: &str, limit: Duration) -> Result<(), LocalError> {
        let until = Instant::now() + limit;
        while self.look(name).await?.waiting == 0 {
            if Instant::now() > until {
                return Err(LocalError::Input(format!("nobody reached {name} within {limit:?}")));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    async fn post(&self, name: &str, what: &str) -> Result<(), LocalError> {
        self.request("POST", &format!("/failpoints/{name}?do={what}")).await.map(drop)
    }

    async fn request(&self, method: &str, path: &str) -> Result<String, LocalError> {
        let answer = http::request(self.address, method, path, None).await;
        match answer.map_err(LocalError::io("reach a process's failpoints"))? {
            (200, text) => Ok(text),
            (status, said) => {
                let said = said.trim();
                let why = "is it built with --features floodgate-cell/drills?";
                Err(LocalError::Input(format!("{path}: {status} {said}; {why}")))
            }
        }
    }
}
