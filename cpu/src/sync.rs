//! What the protocols between the harts' threads are made of. The models of `tests/src/models` put loom's in its place.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
pub(crate) use std::sync::{Condvar, Mutex, PoisonError};
pub(crate) use std::thread::yield_now;
pub(crate) use std::time::Instant;
