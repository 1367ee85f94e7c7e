//! The devices of a board, one file each.
//!
//! A device is a fixed configuration, run-time glue (interrupt lines, backends, alarms) and one serialisable `State`
//! of its registers. Its lines are a function of the state: every change ends in `sync()`, and so does restoring. It
//! does not know its address or interrupt number; [`bus::Device::describe`] is told them.
//!
//! Locks are taken in the order device → backend or interrupt controller → hart. An alarm rings and a backend calls
//! back without locks; so both may take a device's.

// `unsafe` words are allowed in two places: where a library declares methods with them, and for a TAP interface's ioctls.
#![deny(unsafe_code)]

use std::sync::{Mutex, MutexGuard};

pub mod aclint;
pub mod backend;
pub mod finisher;
pub mod plic;
#[cfg(test)]
mod recorder;
pub mod rom;
pub mod rtc;
pub mod uart;
pub mod virtio;

/// Locks `mutex`, also after a panic elsewhere: registers are plain values, valid in any combination.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
