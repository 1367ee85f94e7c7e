//! The first instructions of a hart that starts in M-mode, in the boot ROM: they lead to the firmware with the
//! registers that OpenSBI and other M-mode programs expect.
//!
//! a0 is the hart's number, a1 the address of the device tree, a2 the address of the `fw_dynamic_info` that tells
//! OpenSBI's `fw_dynamic` what comes next (OpenSBI, docs/firmware/fw_dynamic.md). QEMU's `virt` board starts the same
//! way.

/// Where the ROM is on the `virt` board, guest-physical; harts start at its first byte.
pub const ROM_BASE: u64 = 0x1000;

/// `FW_DYNAMIC_INFO_MAGIC_VALUE`: "OSBI".
const INFO_MAGIC: u64 = 0x4942_534f;
const INFO_VERSION: u64 = 2;
/// `FW_DYNAMIC_INFO_NEXT_MODE_S`.
const NEXT_MODE_SUPERVISOR: u64 = 1;

/// Offsets in the ROM: the code is six instructions, then come doublewords.
const START: u32 = 0x18;
const DEVICE_TREE: u32 = 0x20;
const INFO: u32 = 0x28;

const ZERO: u32 = 0;
const T0: u32 = 5;
const A0: u32 = 10;
const A1: u32 = 11;
const A2: u32 = 12;

/// What the ROM leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResetVector {
    /// Entry point of the M-mode program, guest-physical.
    pub start: u64,
    /// Address of the device tree, guest-physical.
    pub device_tree: u64,
    /// Entry point of the S-mode program that firmware is to start, guest-physical; 0 if there is none.
    pub next: u64,
    /// The hart that firmware should boot on.
    pub boot_hart: u64,
}

impl ResetVector {
    /// The content of the ROM. It may lie anywhere.
    pub fn rom(&self) -> Vec<u8> {
        let code = [
            upper_immediate(0x17, T0, 0),                 // auipc t0, 0
            immediate(0x13, 0, A2, T0, INFO),             // addi a2, t0, INFO
            immediate(0x73, 2, A0, ZERO, 0xf14),          // csrr a0, mhartid
            immediate(0x03, 3, A1, T0, DEVICE_TREE),      // ld a1, DEVICE_TREE(t0)
            immediate(0x03, 3, T0, T0, START),            // ld t0, START(t0)
            immediate(0x67, 0, ZERO, T0, 0),              // jr t0
        ];
        let data = [
            self.start,
            self.device_tree,
            INFO_MAGIC,
            INFO_VERSION,
            self.next,
            NEXT_MODE_SUPERVISOR,
            0, // options: none
            self.boot_hart,
        ];
        code.into_iter().flat_map(u32::to_le_bytes).chain(data.into_iter().flat_map(u64::to_le_bytes)).collect()
    }
}

/// An I-type instruction (unprivileged specification, "Base Instruction Formats").
const fn immediate(opcode: u32, function: u32, rd: u32, rs1: u32, immediate: u32) -> u32 {
    immediate << 20 | rs1 << 15 | function << 12 | rd << 7 | opcode
}

/// A U-type instruction.
const fn upper_immediate(opcode: u32, rd: u32, immediate: u32) -> u32 {
    immediate << 12 | rd << 7 | opcode
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_what_the_assembler_makes_of_it() {
        let rom = ResetVector { start: 0x8000_0000, device_tree: 0xbfe0_0000, next: 0x8020_0000, boot_hart: 0 }.rom();
        let (words, rest) = rom.as_chunks::<4>();
        assert!(rest.is_empty());
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        // From riscv64-linux-gnu-as of the comments above.
        assert_eq!(words[..6], [0x0000_0297, 0x0282_8613, 0xf140_2573, 0x0202_b583, 0x0182_b283, 0x0002_8067]);
        assert_eq!(words[6..10], [0x8000_0000, 0, 0xbfe0_0000, 0]);
        assert_eq!(words[10..14], [0x4942_534f, 0, 2, 0]);
        assert_eq!(words[14..], [0x8020_0000, 0, 1, 0, 0, 0, 0, 0]);
    }
}
