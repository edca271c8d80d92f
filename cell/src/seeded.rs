//! Seeded bugs: defects that a drill plants on purpose, to see that some check of ours finds each of them.
//!
//! Promises: a build without the feature `drills` has none. In a build with it `FLOODGATE_SEEDED_BUG` names the one that
//! is planted. A bug is a changed line of what is shipped, one wherever the same promise is guarded a second time: in
//! Rust by asking [`planted!`], in Lua and SQL by another text in the line's place when the library or the schema is
//! loaded, which fails when the line is not there exactly once.

#[cfg(feature = "drills")]
mod plant;

#[cfg(feature = "drills")]
pub use plant::{BUGS, Bug, missing};
#[cfg(feature = "drills")]
pub(crate) use plant::{commit_later, is, lua, sql};

/// Whether this bug is planted.
#[cfg(feature = "drills")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::seeded::is($crate::seeded::Bug::$bug)
    };
}

/// Never, in whatever is released.
#[cfg(not(feature = "drills"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;

/// The library as it is written.
#[cfg(not(feature = "drills"))]
pub(crate) fn lua(library: &'static str) -> std::borrow::Cow<'static, str> {
    library.into()
}
