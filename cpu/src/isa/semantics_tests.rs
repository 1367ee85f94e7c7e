//! Tests of the rows' semantics on a hart: integer instructions against the manuals' definitions written with Rust's
//! own operators, and NaN boxing.

use std::sync::Arc;

use bus::{AddressSpace, Clock, Ram};

use super::assembler::assemble;
use super::{Ops, decode, execute_row};
use crate::extension::ExtensionSet;
use crate::{Configuration, Hart, HartShared};

fn hart() -> Hart {
    let configuration = Configuration {
        extensions: ExtensionSet::known(),
        page_table_levels: 3,
        built_in_sbi: false,
        semihosting: None,
        reset_vector: 0x8000_0000,
    };
    let bus = AddressSpace::new(Ram::new(0x8000_0000, 0x10000).unwrap());
    Hart::new(configuration, Arc::new(HartShared::new(0)), Arc::new(bus), Clock::manual())
}

fn execute(hart: &mut Hart, text: &str) {
    let bytes = assemble(text, 0, &ExtensionSet::known()).unwrap().bytes;
    let mut word = [0; 4];
    word[..bytes.len()].copy_from_slice(&bytes);
    let (opcode, insn) = decode(u32::from_le_bytes(word), &ExtensionSet::known()).unwrap();
    assert!(execute_row(opcode, hart, &insn).is_ok(), "{text}");
}

fn extended(value: i32) -> u64 {
    i64::from(value) as u64
}

/// An instruction and what it makes of the values of a1 and a2.
type Case = (&'static str, fn(u64, u64) -> u64);

const CASES: &[Case] = &[
    ("add a0, a1, a2", u64::wrapping_add),
    ("sub a0, a1, a2", u64::wrapping_sub),
    ("and a0, a1, a2", |a, b| a & b),
    ("or a0, a1, a2", |a, b| a | b),
    ("xor a0, a1, a2", |a, b| a ^ b),
    ("sll a0, a1, a2", |a, b| a << (b & 63)),
    ("srl a0, a1, a2", |a, b| a >> (b & 63)),
    ("sra a0, a1, a2", |a, b| (a as i64 >> (b & 63)) as u64),
    ("slt a0, a1, a2", |a, b| u64::from((a as i64) < b as i64)),
    ("sltu a0, a1, a2", |a, b| u64::from(a < b)),
    ("addi a0, a1, -5", |a, _| a.wrapping_sub(5)),
    ("slti a0, a1, -5", |a, _| u64::from((a as i64) < -5)),
    ("sltiu a0, a1, -5", |a, _| u64::from(a < -5i64 as u64)),
    ("xori a0, a1, -5", |a, _| a ^ -5i64 as u64),
    ("slli a0, a1, 63", |a, _| a << 63),
    ("srai a0, a1, 33", |a, _| (a as i64 >> 33) as u64),
    ("lui a0, 0x80000", |_, _| 0xffff_ffff_8000_0000),
    ("addiw a0, a1, 2047", |a, _| extended((a as i32).wrapping_add(2047))),
    ("addw a0, a1, a2", |a, b| extended((a as i32).wrapping_add(b as i32))),
    ("subw a0, a1, a2", |a, b| extended((a as i32).wrapping_sub(b as i32))),
    ("sllw a0, a1, a2", |a, b| extended((a as i32) << (b & 31))),
    ("srlw a0, a1, a2", |a, b| extended((a as u32 >> (b & 31)) as i32)),
    ("sraw a0, a1, a2", |a, b| extended(a as i32 >> (b & 31))),
    ("slliw a0, a1, 31", |a, _| extended((a as i32) << 31)),
    ("srliw a0, a1, 1", |a, _| extended((a as u32 >> 1) as i32)),
    ("sraiw a0, a1, 7", |a, _| extended(a as i32 >> 7)),
    ("mul a0, a1, a2", u64::wrapping_mul),
    ("mulh a0, a1, a2", |a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64),
    ("mulhsu a0, a1, a2", |a, b| (i128::from(a as i64).wrapping_mul(i128::from(b)) >> 64) as u64),
    ("mulhu a0, a1, a2", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
    ("div a0, a1, a2", |a, b| if b == 0 { u64::MAX } else { (a as i64).wrapping_div(b as i64) as u64 }),
    ("divu a0, a1, a2", |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
    ("rem a0, a1, a2", |a, b| if b == 0 { a } else { (a as i64).wrapping_rem(b as i64) as u64 }),
    ("remu a0, a1, a2", |a, b| a.checked_rem(b).unwrap_or(a)),
    ("mulw a0, a1, a2", |a, b| extended((a as i32).wrapping_mul(b as i32))),
    ("divw a0, a1, a2", |a, b| extended(if b as i32 == 0 { -1 } else { (a as i32).wrapping_div(b as i32) })),
    ("divuw a0, a1, a2", |a, b| extended((a as u32).checked_div(b as u32).unwrap_or(u32::MAX) as i32)),
    ("remw a0, a1, a2", |a, b| extended(if b as i32 == 0 { a as i32 } else { (a as i32).wrapping_rem(b as i32) })),
    ("remuw a0, a1, a2", |a, b| extended((a as u32).checked_rem(b as u32).unwrap_or(a as u32) as i32)),
    ("add.uw a0, a1, a2", |a, b| u64::from(a as u32).wrapping_add(b)),
    ("sh1add a0, a1, a2", |a, b| (a << 1).wrapping_add(b)),
    ("sh2add a0, a1, a2", |a, b| (a << 2).wrapping_add(b)),
    ("sh3add a0, a1, a2", |a, b| (a << 3).wrapping_add(b)),
    ("sh1add.uw a0, a1, a2", |a, b| (u64::from(a as u32) << 1).wrapping_add(b)),
    ("sh2add.uw a0, a1, a2", |a, b| (u64::from(a as u32) << 2).wrapping_add(b)),
    ("sh3add.uw a0, a1, a2", |a, b| (u64::from(a as u32) << 3).wrapping_add(b)),
    ("slli.uw a0, a1, 40", |a, _| u64::from(a as u32) << 40),
    ("andn a0, a1, a2", |a, b| a & !b),
    ("orn a0, a1, a2", |a, b| a | !b),
    ("xnor a0, a1, a2", |a, b| !(a ^ b)),
    ("clz a0, a1", |a, _| a.leading_zeros().into()),
    ("clzw a0, a1", |a, _| (a as u32).leading_zeros().into()),
    ("ctz a0, a1", |a, _| a.trailing_zeros().into()),
    ("ctzw a0, a1", |a, _| (a as u32).trailing_zeros().into()),
    ("cpop a0, a1", |a, _| a.count_ones().into()),
    ("cpopw a0, a1", |a, _| (a as u32).count_ones().into()),
    ("max a0, a1, a2", |a, b| (a as i64).max(b as i64) as u64),
    ("maxu a0, a1, a2", u64::max),
    ("min a0, a1, a2", |a, b| (a as i64).min(b as i64) as u64),
    ("minu a0, a1, a2", u64::min),
    ("sext.b a0, a1", |a, _| a as i8 as u64),
    ("sext.h a0, a1", |a, _| a as i16 as u64),
    ("zext.h a0, a1", |a, _| a as u16 as u64),
    ("rol a0, a1, a2", |a, b| a.rotate_left(b as u32 & 63)),
    ("rolw a0, a1, a2", |a, b| extended((a as u32).rotate_left(b as u32 & 31) as i32)),
    ("ror a0, a1, a2", |a, b| a.rotate_right(b as u32 & 63)),
    ("rori a0, a1, 33", |a, _| a.rotate_right(33)),
    ("rorw a0, a1, a2", |a, b| extended((a as u32).rotate_right(b as u32 & 31) as i32)),
    ("roriw a0, a1, 3", |a, _| extended((a as u32).rotate_right(3) as i32)),
    ("orc.b a0, a1", |a, _| u64::from_le_bytes(a.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff }))),
    ("rev8 a0, a1", |a, _| a.swap_bytes()),
    ("clmul a0, a1, a2", |a, b| carry_less(a, b) as u64),
    ("clmulh a0, a1, a2", |a, b| (carry_less(a, b) >> 64) as u64),
    ("clmulr a0, a1, a2", |a, b| (carry_less(a, b) >> 63) as u64),
    ("pack a0, a1, a2", |a, b| b << 32 | u64::from(a as u32)),
    ("packh a0, a1, a2", |a, b| (b & 0xff) << 8 | a & 0xff),
    ("packw a0, a1, a2", |a, b| extended(((b as u32) << 16 | a as u32 & 0xffff) as i32)),
    ("brev8 a0, a1", |a, _| a.reverse_bits().swap_bytes()),
    ("xperm8 a0, a1, a2", |a, b| {
        let table = a.to_le_bytes();
        u64::from_le_bytes(b.to_le_bytes().map(|index| table.get(usize::from(index)).copied().unwrap_or(0)))
    }),
    ("xperm4 a0, a1, a2", |a, b| (0..16).fold(0, |r, at| r | (a >> (4 * (b >> (4 * at) & 15)) & 15) << (4 * at))),
    ("bclr a0, a1, a2", |a, b| a & !(1 << (b & 63))),
    ("bclri a0, a1, 40", |a, _| a & !(1 << 40)),
    ("bext a0, a1, a2", |a, b| a >> (b & 63) & 1),
    ("bexti a0, a1, 40", |a, _| a >> 40 & 1),
    ("binv a0, a1, a2", |a, b| a ^ 1 << (b & 63)),
    ("binvi a0, a1, 40", |a, _| a ^ 1 << 40),
    ("bset a0, a1, a2", |a, b| a | 1 << (b & 63)),
    ("bseti a0, a1, 40", |a, _| a | 1 << 40),
    ("czero.eqz a0, a1, a2", |a, b| if b == 0 { 0 } else { a }),
    ("czero.nez a0, a1, a2", |a, b| if b != 0 { 0 } else { a }),
    ("c.mv a0, a2", |_, b| b),
    ("mop.rr.3 a0, a1, a2", |_, _| 0),
];

/// Instructions whose destination is their first operand, a1.
const IN_PLACE: &[Case] = &[
    ("c.addi a1, -32", |a, _| a.wrapping_sub(32)),
    ("c.addiw a1, 31", |a, _| extended((a as i32).wrapping_add(31))),
    ("c.slli a1, 33", |a, _| a << 33),
    ("c.srli a1, 33", |a, _| a >> 33),
    ("c.srai a1, 33", |a, _| (a as i64 >> 33) as u64),
    ("c.andi a1, -3", |a, _| a & -3i64 as u64),
    ("c.add a1, a2", u64::wrapping_add),
    ("c.sub a1, a2", u64::wrapping_sub),
    ("c.xor a1, a2", |a, b| a ^ b),
    ("c.or a1, a2", |a, b| a | b),
    ("c.and a1, a2", |a, b| a & b),
    ("c.addw a1, a2", |a, b| extended((a as i32).wrapping_add(b as i32))),
    ("c.subw a1, a2", |a, b| extended((a as i32).wrapping_sub(b as i32))),
    ("c.li a1, -32", |_, _| -32i64 as u64),
    ("c.lui a1, 0xfffe0", |_, _| -0x20000i64 as u64),
    ("c.zext.b a1", |a, _| a & 0xff),
    ("c.sext.b a1", |a, _| a as i8 as u64),
    ("c.zext.h a1", |a, _| a & 0xffff),
    ("c.sext.h a1", |a, _| a as i16 as u64),
    ("c.zext.w a1", |a, _| a & 0xffff_ffff),
    ("c.not a1", |a, _| !a),
    ("c.mul a1, a2", u64::wrapping_mul),
    // As source and destination alike.
    ("sub a1, a1, a2", u64::wrapping_sub),
];

fn carry_less(a: u64, b: u64) -> u128 {
    (0..64).filter(|bit| b >> bit & 1 != 0).fold(0, |product, bit| product ^ u128::from(a) << bit)
}

/// Edge values and random ones.
fn values() -> Vec<u64> {
    let mut values = vec![0, 1, 2, 31, 32, 63, 64, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];
    values.extend([1 << 32, i64::MAX as u64, i64::MIN as u64, u64::MAX, u64::MAX << 31, 0x0080_0001_0000_ff00]);
    let mut state = 1u64;
    for round in 0..20 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        values.push(state >> (round * 3));
    }
    values
}

#[test]
fn integer_instructions_compute_what_the_manual_says() {
    let mut hart = hart();
    for (cases, destination) in [(CASES, 10), (IN_PLACE, 11)] {
        for (text, expected) in cases {
            let bytes = assemble(text, 0, &ExtensionSet::known()).unwrap().bytes;
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(&bytes);
            let (opcode, insn) = decode(u32::from_le_bytes(word), &ExtensionSet::known()).unwrap();
            for a in values() {
                for b in values() {
                    hart.set_x(11, a);
                    hart.set_x(12, b);
                    assert!(execute_row(opcode, &mut hart, &insn).is_ok());
                    assert_eq!(Ops::x(&mut hart, destination), expected(a, b), "{text} of {a:#x} and {b:#x}");
                }
            }
        }
    }
}

#[test]
fn narrow_floats_are_boxed() {
    let mut hart = hart();
    let one = 0xffff_ffff_3f80_0000;
    let cases: &[(&str, u64, u64, u64)] = &[
        // An unboxed operand is the canonical NaN.
        ("fsgnj.s fa0, fa1, fa2", 0x3f80_0000, one, 0xffff_ffff_7fc0_0000),
        ("fsgnj.s fa0, fa1, fa2", one, 0xffff_fffe_8000_0000, one),
        ("fsgnj.s fa0, fa1, fa2", one, 0xffff_ffff_8000_0000, 0xffff_ffff_bf80_0000),
        ("fsgnjn.s fa0, fa1, fa2", one, one, 0xffff_ffff_bf80_0000),
        ("fsgnjx.s fa0, fa1, fa2", 0xffff_ffff_bf80_0000, 0xffff_ffff_8000_0000, one),
        ("fsgnjn.d fa0, fa1, fa2", 1, 2, 0x8000_0000_0000_0001),
        ("fsgnj.h fa0, fa1, fa2", 0xffff_ffff_ffff_3c00, 0xffff_ffff_ffff_8000, 0xffff_ffff_ffff_bc00),
        ("fsgnj.h fa0, fa1, fa2", one, one, 0xffff_ffff_ffff_7e00),
        ("fmadd.s fa0, fa1, fa1, fa2, rne", one, one, 0xffff_ffff_4000_0000),
        ("fmsub.s fa0, fa1, fa1, fa2, rne", one, one, 0xffff_ffff_0000_0000),
        ("fnmsub.s fa0, fa1, fa1, fa2, rne", one, 0xffff_ffff_4040_0000, 0xffff_ffff_4000_0000),
        ("fnmadd.s fa0, fa1, fa1, fa2, rne", one, one, 0xffff_ffff_c000_0000),
        ("fcvt.d.s fa0, fa1", one, 0, 0x3ff0_0000_0000_0000),
        ("fcvt.s.d fa0, fa1, rne", 0x3ff0_0000_0000_0000, 0, one),
        ("fli.h fa0, min", 0, 0, 0xffff_ffff_ffff_0400),
    ];
    for &(text, a, b, expected) in cases {
        hart.set_f(11, a);
        hart.set_f(12, b);
        execute(&mut hart, text);
        assert_eq!(hart.f(10), expected, "{text} of {a:#x} and {b:#x}");
    }
    // Moves take the bits as they are.
    hart.set_f(11, 0x1234_5678_8000_0001);
    execute(&mut hart, "fmv.x.w a0, fa1");
    assert_eq!(Ops::x(&mut hart, 10), 0xffff_ffff_8000_0001);
    execute(&mut hart, "fmv.x.h a0, fa1");
    assert_eq!(Ops::x(&mut hart, 10), 1);
    hart.set_x(11, 0x1234_5678_8000_0001);
    execute(&mut hart, "fmv.w.x fa0, a1");
    assert_eq!(hart.f(10), 0xffff_ffff_8000_0001);
}
