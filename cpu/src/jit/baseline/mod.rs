//! The baseline compiler: quick code for what is warm.
//!
//! Between code that runs a few times and code worth Cranelift's time lies most of what a compiler, a shell script or a
//! boot runs: some hundred to some thousand times. It is compiled here, an instruction after the other, straight to
//! x86-64, in about an eighteenth of the time that Cranelift takes. Code that gets hot nevertheless asks for its region,
//! and goes on there.
//!
//! The emitter ([`emit`]) is one more instance of the instructions' semantics ([`crate::isa::Ops`]). A register that is
//! written is stored at once, and kept at hand until the end of its block: so memory is exact wherever code leaves, and a
//! block can be entered by whoever likes. What is compiled together is a [`unit`]. Its blocks are regions' equals: they
//! take the same parameters, lead on by links and the jump cache, and leave to the engine the same way.
//!
//! **Counters.** A block that others may enter and the head of a loop count down a word behind the hart. Below zero they
//! go by a link of their own ([`super::shared::Installed`]): to the region that begins there, or to the engine, which asks
//! for one.

#[cfg(target_arch = "x86_64")]
mod assembler;
#[cfg(target_arch = "x86_64")]
mod emit;
#[cfg(target_arch = "x86_64")]
mod misses;
#[cfg(target_arch = "x86_64")]
mod routines;
#[cfg(target_arch = "x86_64")]
mod unit;

#[cfg(target_arch = "x86_64")]
pub(super) use emit::compile;
#[cfg(target_arch = "x86_64")]
pub(super) use routines::routines;
#[cfg(target_arch = "x86_64")]
pub(super) use unit::{MOST_INSTRUCTIONS, Parcels, Unit};

/// Registers that are the same in all baseline code.
#[cfg(target_arch = "x86_64")]
const HART: assembler::Register = assembler::RDI;
#[cfg(target_arch = "x86_64")]
const PAGE_BASE: assembler::Register = assembler::RSI;
#[cfg(target_arch = "x86_64")]
const LEFT: assembler::Register = assembler::RCX;

/// A width's place among all.
#[cfg(target_arch = "x86_64")]
fn by_width(width: bus::Width) -> usize {
    width.bytes().trailing_zeros() as usize
}

/// Whether the host has what the emitter uses: processors since 2013 (Intel) and 2017 (AMD) do.
#[cfg(target_arch = "x86_64")]
pub(super) fn is_supported() -> bool {
    use std::arch::is_x86_feature_detected as has;
    has!("bmi1") && has!("bmi2") && has!("lzcnt") && has!("popcnt")
}

/// Whether the host has what the emitter uses.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn is_supported() -> bool {
    false
}
