//! The registers as gdb knows them: numbers, the `g` packet, and the target description.
//!
//! Numbers are those that gdb itself has for RISC-V: x0 to x31, `pc`, f0 to f31, the CSRs by their own numbers from 65
//! on, and behind them the privilege mode. The `g` packet holds what every stop needs, x, `pc` and f; the rest is read
//! one by one.

use std::fmt::Write;
use std::num::NonZeroUsize;

use cpu::Hart;
use cpu::extension::Extension;
use gdbstub::arch;

const PC: usize = 32;
const F: usize = 33;
const CSR: usize = 65;
const CSRS: usize = 0x1000;
const PRIVILEGE: usize = CSR + CSRS;

/// RV64 for gdb.
pub(super) enum Riscv64 {}

impl arch::Arch for Riscv64 {
    type Usize = u64;
    type Registers = Registers;
    type BreakpointKind = usize;
    type RegId = Register;
}

/// One register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    X(usize),
    Pc,
    F(usize),
    Csr(u16),
    /// The privilege mode.
    Privilege,
}

impl arch::RegId for Register {
    fn from_raw_id(number: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let register = match number {
            0..PC => Register::X(number),
            PC => Register::Pc,
            F..CSR => Register::F(number - F),
            CSR..PRIVILEGE => Register::Csr((number - CSR) as u16),
            PRIVILEGE => Register::Privilege,
            _ => return None,
        };
        Some((register, NonZeroUsize::new(8)))
    }
}

/// The registers of the `g` packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    pub x: [u64; 32],
    pub pc: u64,
    /// If the hart has floating point.
    pub f: Option<[u64; 32]>,
}

impl arch::Registers for Registers {
    type ProgramCounter = u64;

    fn pc(&self) -> u64 {
        self.pc
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        let registers = self.x.iter().chain([&self.pc]).chain(self.f.iter().flatten());
        registers.flat_map(|value| value.to_le_bytes()).for_each(|byte| write_byte(Some(byte)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        let (values, []) = bytes.as_chunks::<8>() else { return Err(()) };
        let values: Vec<u64> = values.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        let (x, rest) = values.split_first_chunk::<32>().ok_or(())?;
        let (pc, f) = rest.split_first().ok_or(())?;
        let f = if f.is_empty() { None } else { Some(f.try_into().map_err(|_| ())?) };
        *self = Self { x: *x, pc: *pc, f };
        Ok(())
    }
}

/// Names of the integer registers in the standard calling convention.
const X_NAMES: [&str; 32] = [
    "zero", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "fp", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "s2",
    "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6",
];

/// Names of the floating-point registers in the standard calling convention.
const F_NAMES: [&str; 32] = [
    "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "fs0", "fs1", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5",
    "fa6", "fa7", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9", "fs10", "fs11", "ft8", "ft9", "ft10", "ft11",
];

/// What lldb, which knows no calling convention of RISC-V in older versions, is told of an integer register besides: what it
/// is for, and its number in debugging information (RISC-V ELF psABI, "DWARF Register Numbers"). gdb ignores it.
fn lldb_attributes(number: usize) -> String {
    let dwarf = format!("dwarf_regnum=\"{number}\" ehframe_regnum=\"{number}\"");
    match number {
        1 => format!("generic=\"ra\" {dwarf}"),
        2 => format!("generic=\"sp\" {dwarf}"),
        8 => format!("generic=\"fp\" {dwarf}"),
        10..=17 => format!("generic=\"arg{}\" {dwarf}", number - 9),
        _ => dwarf,
    }
}

/// The target description of a hart (gdb's manual, "Target Descriptions", "RISC-V Features").
pub(super) fn target_description(hart: &mut Hart) -> String {
    let mut xml = String::from(
        "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target version=\"1.0\">\n\
         <architecture>riscv:rv64</architecture>\n",
    );
    let mut feature = |name: &str, types: &str, registers: &mut dyn Iterator<Item = (&str, usize, String)>| {
        // Writing to a string does not fail.
        let _ = writeln!(xml, "<feature name=\"org.gnu.gdb.riscv.{name}\">{types}");
        for (name, number, kind) in registers {
            let _ = writeln!(xml, "<reg name=\"{name}\" bitsize=\"64\" regnum=\"{number}\" {kind}/>");
        }
        xml.push_str("</feature>\n");
    };
    let x_type = |number| {
        let kind = match number {
            1 => "code_ptr",
            2 | 3 | 4 | 8 => "data_ptr",
            _ => "int",
        };
        format!("type=\"{kind}\" {}", lldb_attributes(number))
    };
    let x = X_NAMES.iter().enumerate().map(|(number, name)| (*name, number, x_type(number)));
    feature("cpu", "", &mut x.chain([("pc", PC, "type=\"code_ptr\" generic=\"pc\"".to_owned())]));
    if hart.has(Extension::F) {
        let double = "<union id=\"riscv_double\"><field name=\"float\" type=\"ieee_single\"/>\
                      <field name=\"double\" type=\"ieee_double\"/></union>";
        // Behind the integer registers in debugging information.
        let kind = |number| {
            let dwarf = X_NAMES.len() + number;
            format!("type=\"riscv_double\" group=\"float\" dwarf_regnum=\"{dwarf}\" ehframe_regnum=\"{dwarf}\"")
        };
        feature("fpu", double, &mut F_NAMES.iter().enumerate().map(|(number, name)| (*name, F + number, kind(number))));
    }
    let csrs = cpu::csr::all().iter().filter(|row| hart.has_csr(row.number));
    let kind = |kind: &str| kind.to_owned();
    let csr = "type=\"int\" group=\"csr\"";
    feature("csr", "", &mut csrs.map(|row| (row.name, CSR + usize::from(row.number), kind(csr))));
    feature("virtual", "", &mut [("priv", PRIVILEGE, kind("type=\"int\" group=\"general\""))].into_iter());
    xml.push_str("</target>\n");
    xml
}

#[cfg(test)]
mod tests {
    use gdbstub::arch::{RegId as _, Registers as _};

    use super::*;

    #[test]
    fn numbers_lead_to_registers_and_end() {
        let register = |number| Register::from_raw_id(number).map(|(register, _)| register);
        assert_eq!(register(0), Some(Register::X(0)));
        assert_eq!(register(32), Some(Register::Pc));
        assert_eq!((register(33), register(64)), (Some(Register::F(0)), Some(Register::F(31))));
        assert_eq!((register(65), register(65 + 0xfff)), (Some(Register::Csr(0)), Some(Register::Csr(0xfff))));
        assert_eq!((register(4161), register(4162), register(usize::MAX)), (Some(Register::Privilege), None, None));
    }

    #[test]
    fn the_g_packet_round_trips_and_wrong_lengths_are_refused() {
        for f in [None, Some(std::array::from_fn(|index| index as u64 + 100))] {
            let registers = Registers { x: std::array::from_fn(|index| index as u64 * 3), pc: 0x8000_0000, f };
            let mut bytes = Vec::new();
            registers.gdb_serialize(|byte| bytes.extend(byte));
            let mut back = Registers::default();
            assert_eq!(back.gdb_deserialize(&bytes), Ok(()));
            assert_eq!(back, registers);
            for length in 0..bytes.len() {
                let whole = length == 33 * 8;
                assert_eq!(back.gdb_deserialize(&bytes[..length]).is_ok(), whole, "{length}");
            }
        }
    }
}
