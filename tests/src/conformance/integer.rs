//! The integer instructions: each on the pairs of edge values and on some without a pattern, with every way in which
//! its registers can coincide.

use super::rows::{Body, Random};

type Unary = (&'static str, fn(u64) -> u64);
/// A branch, and when it is taken.
type Branch = (&'static str, fn(u64, u64) -> bool);
type Binary = (&'static str, fn(u64, u64) -> u64);
/// An instruction with an immediate, and the immediates it is tried with.
type Immediate = (&'static str, fn(u64, i64) -> u64, &'static [i64]);

fn sext(value: u64) -> u64 {
    value as u32 as i32 as i64 as u64
}

fn low(value: u64) -> u32 {
    value as u32
}

fn signed(value: u64) -> i64 {
    value as i64
}

const RV64I: &[Binary] = &[
    ("add", |a, b| a.wrapping_add(b)),
    ("sub", |a, b| a.wrapping_sub(b)),
    ("sll", |a, b| a << (b & 63)),
    ("slt", |a, b| (signed(a) < signed(b)).into()),
    ("sltu", |a, b| (a < b).into()),
    ("xor", |a, b| a ^ b),
    ("srl", |a, b| a >> (b & 63)),
    ("sra", |a, b| (signed(a) >> (b & 63)) as u64),
    ("or", |a, b| a | b),
    ("and", |a, b| a & b),
    ("addw", |a, b| sext(a.wrapping_add(b))),
    ("subw", |a, b| sext(a.wrapping_sub(b))),
    ("sllw", |a, b| sext(a << (b & 31))),
    ("srlw", |a, b| sext((low(a) >> (b & 31)).into())),
    ("sraw", |a, b| (low(a) as i32 >> (b & 31)) as i64 as u64),
];

/// Immediates of twelve bits.
const TWELVE: &[i64] = &[0, 1, -1, 2, 31, 32, 0x555, -0x556, 2047, -2048];
/// Shift amounts of six and of five bits.
const SIX: &[i64] = &[0, 1, 2, 7, 31, 32, 33, 62, 63];
const FIVE: &[i64] = &[0, 1, 2, 7, 15, 16, 30, 31];

const RV64I_IMMEDIATE: &[Immediate] = &[
    ("addi", |a, i| a.wrapping_add(i as u64), TWELVE),
    ("slti", |a, i| (signed(a) < i).into(), TWELVE),
    ("sltiu", |a, i| (a < i as u64).into(), TWELVE),
    ("xori", |a, i| a ^ i as u64, TWELVE),
    ("ori", |a, i| a | i as u64, TWELVE),
    ("andi", |a, i| a & i as u64, TWELVE),
    ("slli", |a, i| a << i, SIX),
    ("srli", |a, i| a >> i, SIX),
    ("srai", |a, i| (signed(a) >> i) as u64, SIX),
    ("addiw", |a, i| sext(a.wrapping_add(i as u64)), TWELVE),
    ("slliw", |a, i| sext((low(a) << i).into()), FIVE),
    ("srliw", |a, i| sext((low(a) >> i).into()), FIVE),
    ("sraiw", |a, i| (low(a) as i32 >> i) as i64 as u64, FIVE),
];

const BRANCHES: &[Branch] = &[
    ("beq", |a, b| a == b),
    ("bne", |a, b| a != b),
    ("blt", |a, b| signed(a) < signed(b)),
    ("bge", |a, b| signed(a) >= signed(b)),
    ("bltu", |a, b| a < b),
    ("bgeu", |a, b| a >= b),
];

fn high(a: i128, b: i128) -> u64 {
    (a.wrapping_mul(b) >> 64) as u64
}

const M: &[Binary] = &[
    ("mul", |a, b| a.wrapping_mul(b)),
    ("mulh", |a, b| high(signed(a).into(), signed(b).into())),
    ("mulhsu", |a, b| high(signed(a).into(), b.into())),
    ("mulhu", |a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
    ("div", |a, b| if b == 0 { u64::MAX } else { signed(a).wrapping_div(signed(b)) as u64 }),
    ("divu", |a, b| a.checked_div(b).unwrap_or(u64::MAX)),
    ("rem", |a, b| if b == 0 { a } else { signed(a).wrapping_rem(signed(b)) as u64 }),
    ("remu", |a, b| a.checked_rem(b).unwrap_or(a)),
    ("mulw", |a, b| sext(a.wrapping_mul(b))),
    ("divw", |a, b| if low(b) == 0 { u64::MAX } else { (low(a) as i32).wrapping_div(low(b) as i32) as i64 as u64 }),
    ("divuw", |a, b| low(a).checked_div(low(b)).map_or(u64::MAX, |q| sext(q.into()))),
    ("remw", |a, b| if low(b) == 0 { sext(a) } else { (low(a) as i32).wrapping_rem(low(b) as i32) as i64 as u64 }),
    ("remuw", |a, b| sext(low(a).checked_rem(low(b)).unwrap_or(low(a)).into())),
];

const ZBA: &[Binary] = &[
    ("add.uw", |a, b| u64::from(low(a)).wrapping_add(b)),
    ("sh1add", |a, b| (a << 1).wrapping_add(b)),
    ("sh2add", |a, b| (a << 2).wrapping_add(b)),
    ("sh3add", |a, b| (a << 3).wrapping_add(b)),
    ("sh1add.uw", |a, b| (u64::from(low(a)) << 1).wrapping_add(b)),
    ("sh2add.uw", |a, b| (u64::from(low(a)) << 2).wrapping_add(b)),
    ("sh3add.uw", |a, b| (u64::from(low(a)) << 3).wrapping_add(b)),
];

const ZBA_IMMEDIATE: &[Immediate] = &[("slli.uw", |a, i| u64::from(low(a)) << i, SIX)];

const ZBB: &[Binary] = &[
    ("andn", |a, b| a & !b),
    ("orn", |a, b| a | !b),
    ("xnor", |a, b| !(a ^ b)),
    ("max", |a, b| signed(a).max(signed(b)) as u64),
    ("maxu", |a, b| a.max(b)),
    ("min", |a, b| signed(a).min(signed(b)) as u64),
    ("minu", |a, b| a.min(b)),
    ("rol", |a, b| a.rotate_left(b as u32 & 63)),
    ("ror", |a, b| a.rotate_right(b as u32 & 63)),
    ("rolw", |a, b| sext(low(a).rotate_left(b as u32 & 31).into())),
    ("rorw", |a, b| sext(low(a).rotate_right(b as u32 & 31).into())),
];

const ZBB_IMMEDIATE: &[Immediate] = &[
    ("rori", |a, i| a.rotate_right(i as u32), SIX),
    ("roriw", |a, i| sext(low(a).rotate_right(i as u32).into()), FIVE),
];

/// Ones in every byte that is not zero.
fn orc_b(a: u64) -> u64 {
    u64::from_le_bytes(a.to_le_bytes().map(|byte| if byte == 0 { 0 } else { 0xff }))
}

const ZBB_UNARY: &[Unary] = &[
    ("clz", |a| a.leading_zeros().into()),
    ("clzw", |a| low(a).leading_zeros().into()),
    ("ctz", |a| a.trailing_zeros().into()),
    ("ctzw", |a| low(a).trailing_zeros().into()),
    ("cpop", |a| a.count_ones().into()),
    ("cpopw", |a| low(a).count_ones().into()),
    ("sext.b", |a| a as i8 as i64 as u64),
    ("sext.h", |a| a as i16 as i64 as u64),
    ("zext.h", |a| a & 0xffff),
    ("orc.b", orc_b),
    ("rev8", u64::swap_bytes),
];

/// The product of two polynomials over GF(2).
fn carryless(a: u64, b: u64) -> u128 {
    (0..64).filter(|i| b >> i & 1 != 0).fold(0, |product, i| product ^ u128::from(a) << i)
}

const ZBC: &[Binary] = &[
    ("clmul", |a, b| carryless(a, b) as u64),
    ("clmulh", |a, b| (carryless(a, b) >> 64) as u64),
    ("clmulr", |a, b| (carryless(a, b) >> 63) as u64),
];

const ZBKB: &[Binary] = &[
    ("pack", |a, b| b << 32 | u64::from(low(a))),
    ("packh", |a, b| u64::from(b as u8) << 8 | u64::from(a as u8)),
    ("packw", |a, b| sext(b << 16 | u64::from(a as u16))),
];

const ZBKB_UNARY: &[Unary] = &[("brev8", |a| u64::from_le_bytes(a.to_le_bytes().map(u8::reverse_bits)))];

fn permute(table: u64, indices: u64, bits: u32) -> u64 {
    let mask = (1 << bits) - 1;
    let groups = (0..64).step_by(bits as usize);
    groups.fold(0, |result, at| {
        let distance = (indices >> at & mask) * u64::from(bits);
        let found = u32::try_from(distance).ok().and_then(|distance| table.checked_shr(distance)).unwrap_or(0);
        result | (found & mask) << at
    })
}

const ZBKX: &[Binary] = &[("xperm4", |a, b| permute(a, b, 4)), ("xperm8", |a, b| permute(a, b, 8))];

const ZBS: &[Binary] = &[
    ("bclr", |a, b| a & !(1 << (b & 63))),
    ("bext", |a, b| a >> (b & 63) & 1),
    ("binv", |a, b| a ^ 1 << (b & 63)),
    ("bset", |a, b| a | 1 << (b & 63)),
];

const ZBS_IMMEDIATE: &[Immediate] = &[
    ("bclri", |a, i| a & !(1 << i), SIX),
    ("bexti", |a, i| a >> i & 1, SIX),
    ("binvi", |a, i| a ^ 1 << i, SIX),
    ("bseti", |a, i| a | 1 << i, SIX),
];

const ZICOND: &[Binary] =
    &[("czero.eqz", |a, b| if b == 0 { 0 } else { a }), ("czero.nez", |a, b| if b != 0 { 0 } else { a })];

/// Zcb's instructions with one register, which is source and destination.
const ZCB_UNARY: &[Unary] = &[
    ("c.zext.b", |a| a & 0xff),
    ("c.sext.b", |a| a as i8 as i64 as u64),
    ("c.zext.h", |a| a & 0xffff),
    ("c.sext.h", |a| a as i16 as i64 as u64),
    ("c.zext.w", |a| a & 0xffff_ffff),
    ("c.not", |a| !a),
];

/// Compressed instructions with a source that is the destination too.
const C: &[Binary] = &[
    ("c.and", |a, b| a & b),
    ("c.or", |a, b| a | b),
    ("c.xor", |a, b| a ^ b),
    ("c.sub", |a, b| a.wrapping_sub(b)),
    ("c.addw", |a, b| sext(a.wrapping_add(b))),
    ("c.subw", |a, b| sext(a.wrapping_sub(b))),
    ("c.add", |a, b| a.wrapping_add(b)),
];

/// Immediates of six bits.
const COMPRESSED: &[i64] = &[1, -1, 2, 5, 15, 16, 31, -31, -32];
const COMPRESSED_SHIFT: &[i64] = &[1, 2, 7, 31, 32, 33, 63];

const C_IMMEDIATE: &[Immediate] = &[
    ("c.addi", |a, i| a.wrapping_add(i as u64), COMPRESSED),
    ("c.addiw", |a, i| sext(a.wrapping_add(i as u64)), &[0, 1, -1, 5, 16, 31, -32]),
    ("c.andi", |a, i| a & i as u64, &[0, 1, -1, 5, 16, 31, -32]),
    ("c.slli", |a, i| a << i, COMPRESSED_SHIFT),
    ("c.srli", |a, i| a >> i, COMPRESSED_SHIFT),
    ("c.srai", |a, i| (signed(a) >> i) as u64, COMPRESSED_SHIFT),
];

/// Values at the borders of what the widths hold, and patterns that tell bytes, halves and words apart.
pub(super) const EDGES: &[u64] = &[
    0,
    1,
    2,
    31,
    63,
    64,
    0x7f,
    0x80,
    0xff80,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x8000_0000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    0xffff_ffff_8000_0000,
    0xffff_ffff_ffff_ffff,
    0xffff_ffff_ffff_fffe,
    0x0123_4567_89ab_cdef,
    0xfedc_ba98_7654_3210,
    0x00ff_00ff_0000_ff00,
];

fn pairs() -> Vec<(u64, u64)> {
    let edges = EDGES.iter().flat_map(|a| EDGES.iter().map(|b| (*a, *b)));
    let random: Vec<u64> = Random(0x9e37_79b9_7f4a_7c15).take(128).collect();
    // Shifted right by some of its own bits, so that magnitudes differ.
    edges.chain(random.chunks(2).map(|pair| (pair[0] >> (pair[1] & 63), pair[1]))).collect()
}

fn singles() -> Vec<u64> {
    EDGES
        .iter()
        .copied()
        .chain(Random(0x2545_f491_4f6c_dd1d).take(40).map(|v| v >> (v & 63)))
        .chain((0..64).map(|i| 1 << i))
        .collect()
}

/// The ways in which registers can coincide. x0 as a destination takes nothing; as a source it is zero.
fn binary(body: &mut Body, (name, meaning): Binary) {
    let rows: Vec<[u64; 3]> = pairs().into_iter().map(|(a, b)| [a, b, meaning(a, b)]).collect();
    body.table(
        name,
        &rows,
        &format!(
            "    ld a1, 0(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    {name} a0, a1, a2
    check_equal a0, a3
    ld a4, 0(s0)
    check_equal a1, a4
    ld a4, 8(s0)
    check_equal a2, a4
    mv s9, a1
    {name} s9, s9, a2
    check_equal s9, a3
    mv t3, a2
    {name} t3, a1, t3
    check_equal t3, a3
    {name} x0, a1, a2
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
    bne a1, a2, 1f
    {name} s10, a1, a1
    check_equal s10, a3
    {name} a2, a2, a2
    check_equal a2, a3
    ld a2, 8(s0)
1:
    bnez a1, 1f
    {name} a0, x0, a2
    check_equal a0, a3
1:
    bnez a2, 1f
    {name} a0, a1, x0
    check_equal a0, a3
1:
"
        ),
    );
}

fn unary(body: &mut Body, (name, meaning): Unary) {
    let rows: Vec<[u64; 2]> = singles().into_iter().map(|a| [a, meaning(a)]).collect();
    body.table(
        name,
        &rows,
        &format!(
            "    ld a1, 0(s0)
    ld a3, 8(s0)
    {name} a0, a1
    check_equal a0, a3
    mv s11, a1
    {name} s11, s11
    check_equal s11, a3
    ld a4, 0(s0)
    check_equal a1, a4
    {name} x0, a1
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
"
        ),
    );
}

fn immediate(body: &mut Body, (name, meaning, values): Immediate) {
    for &value in values {
        let rows: Vec<[u64; 2]> = singles().into_iter().map(|a| [a, meaning(a, value)]).collect();
        body.table(
            &format!("{name} {value}"),
            &rows,
            &format!(
                "    ld a1, 0(s0)
    ld a3, 8(s0)
    {name} a0, a1, {value}
    check_equal a0, a3
    mv t4, a1
    {name} t4, t4, {value}
    check_equal t4, a3
    {name} x0, a1, {value}
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
"
            ),
        );
    }
}

/// A branch forwards and backwards.
fn branch(body: &mut Body, (name, taken): Branch) {
    let rows: Vec<[u64; 3]> = pairs().into_iter().map(|(a, b)| [a, b, taken(a, b).into()]).collect();
    body.table(
        name,
        &rows,
        &format!(
            "    ld a1, 0(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    li a0, 1
    {name} a1, a2, 1f
    li a0, 0
1:
    check_equal a0, a3
    li a0, 0
    j 2f
1:
    li a0, 1
    j 3f
2:
    {name} a1, a2, 1b
3:
    check_equal a0, a3
    bne a1, a2, 2f
    li a0, 1
    {name} a1, a1, 1f
    li a0, 0
1:
    check_equal a0, a3
2:
"
        ),
    );
}

/// A compressed instruction `name rd, rs2` on registers that its three-bit fields can name.
fn compressed(body: &mut Body, (name, meaning): Binary) {
    let rows: Vec<[u64; 3]> = pairs().into_iter().map(|(a, b)| [a, b, meaning(a, b)]).collect();
    body.table(
        name,
        &rows,
        &format!(
            "    ld a1, 0(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    mv a4, a1
    {name} a4, a2
    check_equal a4, a3
    mv s1, a1
    {name} s1, a2
    check_equal s1, a3
    bne a1, a2, 1f
    {name} a1, a1
    check_equal a1, a3
1:
"
        ),
    );
}

fn compressed_unary(body: &mut Body, (name, meaning): Unary) {
    let rows: Vec<[u64; 2]> = singles().into_iter().map(|a| [a, meaning(a)]).collect();
    body.table(
        name,
        &rows,
        &format!(
            "    ld a1, 0(s0)
    ld a3, 8(s0)
    mv a4, a1
    {name} a4
    check_equal a4, a3
    mv s1, a1
    {name} s1
    check_equal s1, a3
"
        ),
    );
}

fn compressed_immediate(body: &mut Body, (name, meaning, values): Immediate) {
    for &value in values {
        let rows: Vec<[u64; 2]> = singles().into_iter().map(|a| [a, meaning(a, value)]).collect();
        body.table(
            &format!("{name} {value}"),
            &rows,
            &format!(
                "    ld a1, 0(s0)
    ld a3, 8(s0)
    mv a4, a1
    {name} a4, {value}
    check_equal a4, a3
    mv s1, a1
    {name} s1, {value}
    check_equal s1, a3
"
            ),
        );
    }
}

fn body(binaries: &[Binary], immediates: &[Immediate], unaries: &[Unary]) -> String {
    let mut body = Body::new("");
    binaries.iter().for_each(|row| binary(&mut body, *row));
    immediates.iter().for_each(|row| immediate(&mut body, *row));
    unaries.iter().for_each(|row| unary(&mut body, *row));
    body.finish()
}

/// Names and bodies of the programs.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let mut branches = Body::new("");
    BRANCHES.iter().for_each(|row| branch(&mut branches, *row));
    let mut short = Body::new("");
    C.iter().for_each(|row| compressed(&mut short, *row));
    C_IMMEDIATE.iter().for_each(|row| compressed_immediate(&mut short, *row));
    let mut shorter = Body::new("");
    compressed(&mut shorter, ("c.mul", |a, b| a.wrapping_mul(b)));
    ZCB_UNARY.iter().for_each(|row| compressed_unary(&mut shorter, *row));
    vec![
        ("rv64i_arithmetic", body(RV64I, RV64I_IMMEDIATE, &[])),
        ("rv64i_branches", branches.finish()),
        ("m", body(M, &[], &[])),
        ("zba", body(ZBA, ZBA_IMMEDIATE, &[])),
        ("zbb", body(ZBB, ZBB_IMMEDIATE, ZBB_UNARY)),
        ("zbc", body(ZBC, &[], &[])),
        ("zbkb", body(ZBKB, &[], ZBKB_UNARY)),
        ("zbkx", body(ZBKX, &[], &[])),
        ("zbs", body(ZBS, ZBS_IMMEDIATE, &[])),
        ("zicond", body(ZICOND, &[], &[])),
        ("c_arithmetic", short.finish()),
        ("zcb_arithmetic", shorter.finish()),
    ]
}
