//! RISC-V harts: the instruction table, CSRs, the MMU, the interpreter and the JIT.
//!
//! Each instruction is written once, generic over [`isa::Ops`]; see `ARCHITECTURE.md` for the walk of one.

mod counters;
pub mod csr;
pub mod extension;
pub mod isa;

mod block;
mod code;
pub mod commit;
mod debug;
mod engine;
mod hart;
mod hart_box;
mod helpers;
mod interpreter;
#[cfg(feature = "jit")]
mod jit;
mod lockstep;
mod masking;
mod memory;
mod mmu;
mod operations;
mod pmp;
mod quick;
mod ranges;
mod semihosting;
mod shared;
mod sync;
mod tlb;
mod trap;
mod trigger;

pub use counters::{Counts, Event, HPM_COUNTERS, hpmevent};
pub use debug::{DebugPoints, Mapping, SingleStep, TlbEntry, WatchKind, Watchpoint};
pub use engine::{Engine, EngineError, EngineKind, Engines};
pub use hart::{CACHE_BLOCK_SIZE, Configuration, Hart, HartState, Stop};
pub use hart_box::HartBox;
pub use interpreter::Interpreter;
#[cfg(feature = "jit")]
pub use jit::{CompilerStatistics, Jit, JitError, JitOptions, JitShared, JitStatistics};
pub use lockstep::Difference;
pub use mmu::{Access, Fault};
pub use shared::{HartShared, Request, event};
pub use trap::{CAUSE_INTERRUPT, Exception, Privilege, interrupt};
pub use trigger::{TRIGGERS, Triggers};

/// Proof that an instruction did not finish: the hart holds the trap that it raised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trapped(pub(crate) ());
