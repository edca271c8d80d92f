//! What can go wrong while servers are started and hurt, and what to do about it.

use std::io;
use std::path::PathBuf;

/// The one error type of this crate. Its message says what to do next.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The machine refused something: a file, a process, a socket.
    #[error("could not {doing}: {source}")]
    Io {
        /// What was being done, as a verb phrase.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },

    /// Debian packages are missing and could not be installed.
    #[error("could not install what servers need:\n{said}")]
    Packages {
        /// What the installer said; its last line is the one to run.
        said: String,
    },

    /// A program of this workspace has not been built.
    #[error("{program} is not built (looked in {looked}); run: cargo build --workspace")]
    Binary {
        /// The program's file name.
        program: String,
        /// The folders that were searched.
        looked: String,
    },

    /// A tool (initdb, cp, …) failed.
    #[error("{program} failed ({status}):\n{output}")]
    Tool {
        /// The program's name.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines it wrote.
        output: String,
    },

    /// A server did not become ready.
    #[error("{name} did not start: {reason}; last lines of {}:\n{tail}", log.display())]
    Start {
        /// The server's name.
        name: String,
        /// What happened instead.
        reason: String,
        /// Its log file.
        log: PathBuf,
        /// The last lines of the log since this start.
        tail: String,
    },

    /// No server has this name.
    #[error("no server is named {name}; there are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },

    /// A server of this name is already there.
    #[error("{name} was already started; restart it by name, or choose another name")]
    Taken {
        /// The name asked for.
        name: String,
    },

    /// The server is in no state for this.
    #[error("{name} is {state}; it cannot be {asked}")]
    State {
        /// The server's name.
        name: String,
        /// The state it is in.
        state: String,
        /// What was asked of it.
        asked: String,
    },

    /// No port could be found that nobody else uses.
    #[error("no free port found in {tried} tries; stop other stacks on this machine")]
    Ports {
        /// How many ports were tried.
        tried: u32,
    },

    /// This machine, or this user, cannot do it.
    #[error("cannot be done here: {0}")]
    NotHere(String),

    /// A name, folder or setting was not usable.
    #[error("{0}")]
    Input(String),
}

impl LocalError {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}
