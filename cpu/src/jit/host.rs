//! What differs between hosts: the floating-point status word, and making new code visible to instruction fetches.

#[cfg(target_arch = "x86_64")]
use std::arch::naked_asm;

#[cfg(target_arch = "x86_64")]
use softfloat::Flags;

#[cfg(target_arch = "x86_64")]
use super::state::offset;
use crate::Hart;
#[cfg(target_arch = "x86_64")]
use crate::csr::mstatus;

/// The host's default floating-point environment with the flags of the guest's operations in it.
#[cfg(target_arch = "x86_64")]
mod float {
    use std::arch::asm;

    use super::Flags;

    /// All exceptions masked, round to nearest, no flags.
    pub const DEFAULT: u32 = 0x1f80;

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
    pub const fn guest(flags: u32) -> u64 {
        const FLAGS: [(u32, Flags); 5] =
            [(0, Flags::NV), (2, Flags::DZ), (3, Flags::OF), (4, Flags::UF), (5, Flags::NX)];
        let (mut guest, mut place) = (0, 0);
        while place < FLAGS.len() {
            let (host, flag) = FLAGS[place];
            if flags >> host & 1 != 0 {
                guest |= flag.bits() as u64;
            }
            place += 1;
        }
        guest
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

/// Moves the flags that have accrued on the host to the hart's, for translated code.
#[cfg(not(target_arch = "x86_64"))]
pub(super) extern "C" fn accrue_flags(_: *mut Hart) {}

/// Moves the flags that have accrued on the host to the hart's, for translated code: all registers stay as they are.
/// Flags of the hart that appear make `mstatus.FS` dirty.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub(super) extern "C" fn accrue_flags(_: *mut Hart) {
    /// The guest's flags for the host's.
    static GUEST: [u8; 64] = {
        let mut guest = [0; 64];
        let mut flags = 0;
        while flags < 64 {
            guest[flags] = float::guest(flags as u32) as u8;
            flags += 1;
        }
        guest
    };
    naked_asm!(
        "push rax",
        "push rcx",
        "sub rsp, 8",
        "stmxcsr [rsp]",
        "mov eax, [rsp]",
        "and eax, 0x3f",
        "jz 3f",
        "lea rcx, [rip + {guest}]",
        "movzx eax, byte ptr [rcx + rax]",
        "test eax, eax",
        "jz 2f",
        "or [rdi + {fflags}], rax",
        "or qword ptr [rdi + {mstatus}], {dirty}",
        "2:",
        "mov dword ptr [rsp], {default}",
        "ldmxcsr [rsp]",
        "3:",
        "add rsp, 8",
        "pop rcx",
        "pop rax",
        "ret",
        guest = sym GUEST,
        fflags = const offset::FFLAGS,
        mstatus = const offset::MSTATUS,
        dirty = const mstatus::FS.mask(),
        default = const float::DEFAULT,
    );
}

/// Enters translated code on behalf of the engine: `fn(hart, pc, left, code) -> result`. All registers that a caller expects
/// back are kept here, so that baseline code, which is entered and left by jumps, need not.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub(super) extern "sysv64" fn enter(_: *mut Hart, _: u64, _: i64, _: u64) -> i64 {
    naked_asm!(
        "push rbp",
        "mov rbp, rsp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "sub rsp, 8",
        "mov rax, rcx",
        "mov rcx, rdx",
        "xor edx, edx",
        "call rax",
        "add rsp, 8",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    );
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
