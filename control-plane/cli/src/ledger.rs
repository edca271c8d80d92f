//! Ledgers as files: an export of a sale's ledgers from a cell, and what can be said of it without the cell.
//!
//! - [`mod@file`]: the format. [`export`] writes it from a cell's Postgres.
//! - [`verify`] checks files against signed heads with nothing but public keys; [`sale`] checks all buckets together.
//! - [`evidence`] reads public keys and heads that somebody has kept.

pub(crate) mod evidence;
pub(crate) mod export;
pub(crate) mod file;
mod sale;
pub(crate) mod verify;
