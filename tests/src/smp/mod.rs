//! Programs for several harts: litmus tests of the memory model, and what harts do to each other.

pub mod cross_hart;
pub mod litmus;
