//! Debian's own Linux on the whole machine, within this process: booted, used, restarted, paused, asleep, saved,
//! restored and networked.

mod boot;
mod firmware;
mod guest;
mod harts;
mod network;
mod sleep;
mod state;
