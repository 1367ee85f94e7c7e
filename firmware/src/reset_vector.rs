//! The first instructions of a hart that starts in M-mode, in the boot ROM: they lead to the firmware with the
//! registers that OpenSBI and other M-mode programs expect.
//!
//! a0 is the hart's number, a1 the address of the device tree, a2 the address of the `fw_dynamic_info` that tells
//! OpenSBI's `fw_dynamic` what comes next (OpenSBI, docs/firmware/fw_dynamic.md). QEMU's `virt` board starts the same
//! way.

use cpu::extension::{Extension, ExtensionSet};
use cpu::isa::assembler;

/// Where the ROM is on the `virt` board, guest-physical; harts start at its first byte.
pub const ROM_BASE: u64 = 0x1000;

/// The content of the ROM, which may lie anywhere. The numbers of `info` are `FW_DYNAMIC_INFO_MAGIC_VALUE` ("OSBI"),
/// version 2, the next address, `FW_DYNAMIC_INFO_NEXT_MODE_S`, no options, and the hart to boot on.
const SOURCE: &str = "
        la      a2, info
        csrr    a0, mhartid
        la      t0, vector
        ld      a1, 8(t0)
        ld      t0, 0(t0)
        jr      t0
        .balign 8
vector: .dword  START, DEVICE_TREE
info:   .dword  0x4942534f, 2, NEXT, 1, 0, BOOT_HART
";

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
    ///
    /// # Panics
    /// Never: the source is fixed, and any numbers can be put into it.
    pub fn rom(&self) -> Vec<u8> {
        let Self { start, device_tree, next, boot_hart } = *self;
        let values = [("START", start), ("DEVICE_TREE", device_tree), ("NEXT", next), ("BOOT_HART", boot_hart)];
        let definitions: String = values.iter().map(|(name, value)| format!(".equ {name}, {value:#x};")).collect();
        // Any hart understands these.
        let extensions = ExtensionSet::of(&[Extension::I, Extension::Zicsr]);
        assembler::assemble(&(definitions + SOURCE), 0, &extensions).expect("the source assembles").bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::{AddressSpace, Clock, Ram};
    use cpu::{Configuration, Engine, HartBox, HartShared, Privilege};

    use super::*;

    #[test]
    fn any_numbers_can_be_put_into_it() {
        let size = |value| ResetVector { start: value, device_tree: value, next: value, boot_hart: value }.rom().len();
        assert_eq!([0, 1, i64::MAX as u64, 1 << 63, u64::MAX].map(size), [size(0); 5]);
    }

    #[test]
    fn a_hart_gets_to_the_firmware_with_its_arguments() {
        const ROM: u64 = 0x8000_3000;
        let vector =
            ResetVector { start: 0x8000_0100, device_tree: 0xbfe0_0000, next: 0x8020_0000, boot_hart: u64::MAX };
        let rom = vector.rom();
        let ram = Ram::new(0x8000_0000, 0x1_0000).unwrap();
        ram.write(ROM, &rom).unwrap();
        let configuration = Configuration {
            extensions: ExtensionSet::implemented(),
            page_table_levels: 5,
            built_in_sbi: false,
            semihosting: None,
            reset_vector: ROM,
        };
        let bus = Arc::new(AddressSpace::new(ram.clone()));
        let mut hart = HartBox::new(configuration, Arc::new(HartShared::new(3)), bus, Clock::manual());
        Engine::interpreter().run(&mut hart, 8);
        assert_eq!((hart.pc(), hart.privilege()), (0x8000_0100, Privilege::Machine));
        assert_eq!((hart.x(10), hart.x(11)), (3, 0xbfe0_0000));
        let info = hart.x(12);
        assert_eq!(info % 8, 0);
        let words: Vec<u64> = (0..6).map(|i| ram.load_u64(info - 0x8000_0000 + 8 * i).unwrap()).collect();
        assert_eq!(words, [0x4942_534f, 2, 0x8020_0000, 1, 0, u64::MAX]);
        assert_eq!(info + 48, ROM + rom.len() as u64);
    }
}
