//! Admission: a sale's waiting room. The line lives in the buyers' tickets; what is kept here is where it begins, where
//! it ends, and the gate that moves along it.
//!
//! Promises: nobody is admitted while nothing is free, never more than the sale's rate allows (INV-12), and a rank or a
//! gate is committed before anyone is told of it. It does not know who stands where: a ticket's rank says it all.

mod gate;
mod join;

pub(crate) use gate::{Gate, Pace, Step};
pub(crate) use join::serve;
