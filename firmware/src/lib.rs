//! What a guest finds before its operating system: a kernel placed in RAM, a device tree that describes the board, a
//! reset vector for machine-mode firmware, a built-in SBI for when there is none, and a monitor for when there is no
//! system at all.
//!
//! Everything read here comes from outside (image files, a user's device tree, a guest's calls): sizes are bounded
//! before they are believed, and nothing is written outside of RAM.

#![forbid(unsafe_code)]

pub mod device_tree;
pub mod image;
pub mod layout;
pub mod monitor;
mod quantity;
pub mod reset_vector;
pub mod sbi;
