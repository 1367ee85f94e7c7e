//! Judges of the arithmetic, shared by the tests and the `million` example.
//!
//! Two judges that know nothing of the crate or of each other: [`exact`] computes with unbounded integers and rounds by
//! the standard's definition, `berkeley` (only with `--cfg berkeley`) asks Berkeley SoftFloat.

#[cfg(berkeley)]
pub mod berkeley;
pub mod cases;
pub mod exact;
pub mod operation;
pub mod run;
