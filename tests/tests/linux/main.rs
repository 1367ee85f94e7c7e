//! Debian's own Linux on the whole machine, within this process: booted, used, restarted, paused, saved and restored.

mod boot;
mod firmware;
mod guest;
mod state;
