//! Boards: which devices a machine has, and where. A board is one file.

pub mod virt;
