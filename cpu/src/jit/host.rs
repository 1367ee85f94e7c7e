//! What differs between hosts: the floating-point status word, and making new code visible to instruction fetches.

use softfloat::Flags;

/// The host's default floating-point environment with the flags of the guest's operations in it.
#[cfg(target_arch = "x86_64")]
mod float {
    use std::arch::asm;

    use super::Flags;

    /// All exceptions masked, round to nearest, no flags.
    const DEFAULT: u32 = 0x1f80;

    fn read() -> u32 {
        let mut status = 0_u32;
        // SAFETY: stores MXCSR, which every x86-64 has, to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut status, options(nostack, preserves_flags)) };
        status
    }

    fn write(status: u32) {
        // SAFETY: loads MXCSR with its default control bits and some of its flag bits: exceptions stay masked and the
        // rounding mode stays what Rust code expects.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const status, options(nostack, preserves_flags, readonly)) };
    }

    /// The flags in MXCSR, and none from now on.
    pub fn take() -> u32 {
        let status = read();
        if status & 0x3f != 0 {
            write(DEFAULT);
        }
        status & 0x3f
    }

    /// The flags in MXCSR.
    pub fn save() -> u32 {
        read() & 0x3f
    }

    /// Sets the flags in MXCSR to what they were.
    pub fn restore(flags: u32) {
        if read() & 0x3f != flags {
            write(DEFAULT | flags);
        }
    }

    /// The guest's flags for the host's. Denormal operands (bit 1) raise nothing in RISC-V.
    pub fn guest(flags: u32) -> u64 {
        let bit = |host: u32, guest: Flags| if flags >> host & 1 != 0 { u64::from(guest.bits()) } else { 0 };
        bit(0, Flags::NV) | bit(2, Flags::DZ) | bit(3, Flags::OF) | bit(4, Flags::UF) | bit(5, Flags::NX)
    }
}

/// Hosts whose floating-point unit is not used for the guest.
#[cfg(not(target_arch = "x86_64"))]
mod float {
    pub fn take() -> u32 {
        0
    }

    pub fn save() -> u32 {
        0
    }

    pub fn restore(_: u32) {}

    pub fn guest(_: u32) -> u64 {
        0
    }
}

/// The host's floating-point flags, in its own layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HostFlags(u32);

impl HostFlags {
    /// As bits of `fflags`.
    pub fn guest(self) -> u64 {
        float::guest(self.0)
    }
}

/// The flags that have accrued on the host, and clears them.
pub(super) fn take_flags() -> HostFlags {
    HostFlags(float::take())
}

/// The flags that have accrued on the host.
pub(super) fn save_flags() -> HostFlags {
    HostFlags(float::save())
}

/// Puts flags back.
pub(super) fn restore_flags(flags: HostFlags) {
    float::restore(flags.0);
}

/// Makes code that was written through another mapping visible to instruction fetches at `start`.
pub(super) fn synchronise_code(start: *const u8, length: usize) {
    code::synchronise(start, length);
}

/// Instruction fetches are coherent with stores.
#[cfg(any(target_arch = "x86_64", target_arch = "s390x"))]
mod code {
    pub fn synchronise(_: *const u8, _: usize) {}
}

#[cfg(target_arch = "aarch64")]
mod code {
    use std::arch::asm;

    pub fn synchronise(start: *const u8, length: usize) {
        let kind: u64;
        // SAFETY: CTR_EL0 is readable at EL0 under Linux.
        unsafe { asm!("mrs {}, ctr_el0", out(reg) kind, options(nostack, nomem, preserves_flags)) };
        let (data_line, code_line) = (4_usize << (kind >> 16 & 15), 4_usize << (kind & 15));
        let end = start as usize + length;
        for line in (start as usize & !(data_line - 1)..end).step_by(data_line) {
            // SAFETY: cleaning a line of mapped memory changes nothing.
            unsafe { asm!("dc cvau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        // SAFETY: a barrier.
        unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
        for line in (start as usize & !(code_line - 1)..end).step_by(code_line) {
            // SAFETY: invalidating an instruction line changes nothing.
            unsafe { asm!("ic ivau, {}", in(reg) line, options(nostack, preserves_flags)) };
        }
        // SAFETY: barriers.
        unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
    }
}

#[cfg(target_arch = "riscv64")]
mod code {
    use std::arch::asm;

    pub fn synchronise(start: *const u8, length: usize) {
        const RISCV_FLUSH_ICACHE: usize = 259;
        let end = start as usize + length;
        // SAFETY: the system call flushes instruction caches of all threads and touches no memory.
        unsafe {
            asm!("ecall", in("a7") RISCV_FLUSH_ICACHE, inlateout("a0") start as usize => _, in("a1") end,
                in("a2") 0_usize, options(nostack));
        }
    }
}
