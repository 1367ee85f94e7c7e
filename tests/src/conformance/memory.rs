//! Loads, stores and atomics: every width at every alignment, within a block, across blocks and across pages.

use super::integer::EDGES;
use super::rows::Body;

/// The bytes that loads find, by offset.
fn pattern(offset: u64) -> u8 {
    (offset as u8).wrapping_mul(0x4f).wrapping_add(0x83)
}

fn pattern_word(offset: u64, bytes: u64) -> u64 {
    (0..bytes).fold(0, |value, i| value | u64::from(pattern(offset + i)) << (8 * i))
}

/// Code that fills two pages from s11 on with the pattern.
const FILL: &str = "    li s11, 0x80200000
    mv a0, s11
    li a1, 8192
    li a2, 0x83
1:
    sb a2, 0(a0)
    addi a2, a2, 0x4f
    addi a0, a0, 1
    addi a1, a1, -1
    bnez a1, 1b
";

/// Offsets of accesses: all alignments at a block's end and at a page's end.
fn offsets() -> impl Iterator<Item = u64> {
    (0..16).chain(48..72).chain(4080..4104)
}

fn loads(body: &mut Body) {
    type Extend = fn(u64) -> u64;
    let all: [(&str, u64, Extend); 7] = [
        ("lb", 1, |v| v as i8 as i64 as u64),
        ("lh", 2, |v| v as i16 as i64 as u64),
        ("lw", 4, |v| v as i32 as i64 as u64),
        ("ld", 8, |v| v),
        ("lbu", 1, |v| v),
        ("lhu", 2, |v| v),
        ("lwu", 4, |v| v),
    ];
    for (name, bytes, extend) in all {
        let rows: Vec<[u64; 2]> = offsets().map(|at| [at, extend(pattern_word(at, bytes))]).collect();
        body.table(
            name,
            &rows,
            &format!(
                "    ld a1, 0(s0)
    ld a3, 8(s0)
    add a1, a1, s11
    {name} a0, 0(a1)
    check_equal a0, a3
    addi a2, a1, 2047
    {name} a0, -2047(a2)
    check_equal a0, a3
    addi a2, a1, -2047
    {name} a2, 2047(a2)
    check_equal a2, a3
    li a2, -2048
    sub a2, a1, a2
    {name} x0, -2048(a2)
    {name} a0, -2048(a2)
    check_equal a0, a3
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
"
            ),
        );
    }
}

fn stores(body: &mut Body) {
    const VALUE: u64 = 0x1122_3344_5566_7788;
    for (name, bytes) in [("sb", 1), ("sh", 2), ("sw", 4), ("sd", 8)] {
        // The doubleword before, the stored one and what follows it, as bytes around the access.
        let rows: Vec<[u64; 3]> = offsets()
            .filter(|at| *at >= 8)
            .map(|at| {
                let kept = if bytes == 8 { 0 } else { pattern_word(at, 8) & (u64::MAX << (8 * bytes)) };
                let stored = if bytes == 8 { VALUE } else { VALUE & ((1 << (8 * bytes)) - 1) };
                [at, kept | stored, pattern_word(at, 8)]
            })
            .collect();
        body.table(
            name,
            &rows,
            &format!(
                "    ld a1, 0(s0)
    ld a3, 8(s0)
    ld a4, 16(s0)
    add a1, a1, s11
    li a2, {VALUE:#x}
    ld s9, -8(a1)
    ld s10, 8(a1)
    addi a0, a1, -5
    {name} a2, 5(a0)
    ld a0, 0(a1)
    check_equal a0, a3
    ld a0, -8(a1)
    check_equal a0, s9
    ld a0, 8(a1)
    check_equal a0, s10
    sd a4, 0(a1)
    {name} x0, 0(a1)
    {load} a0, 0(a1)
    check a0, 0
    sd a4, 0(a1)
    # The address as the value.
    {name} a1, 0(a1)
    {load} a0, 0(a1)
    slli t0, a1, {unused}
    srli t0, t0, {unused}
    check_equal a0, t0
    sd a4, 0(a1)
",
                load = ["", "lbu", "lhu", "", "lwu", "", "", "", "ld"][bytes],
                unused = 64 - 8 * bytes,
            ),
        );
    }
}

/// The low `bits` bits, sign-extended.
fn narrow(value: u64, bits: u32) -> i64 {
    (value << (64 - bits)) as i64 >> (64 - bits)
}

/// What is left of `old` when its low `bits` bits are replaced.
fn replaced(old: u64, new: u64, bits: u32) -> u64 {
    let mask = u64::MAX >> (64 - bits);
    old & !mask | new & mask
}

/// Atomic memory operations on doublewords in memory, of which narrower ones take and give the low bits.
fn atomics(body: &mut Body, widths: &[(&str, &str, u32)]) {
    type Meaning = fn(i64, i64) -> i64;
    let all: [(&str, Meaning); 9] = [
        ("amoswap", |_, b| b),
        ("amoadd", |a, b| a.wrapping_add(b)),
        ("amoxor", |a, b| a ^ b),
        ("amoand", |a, b| a & b),
        ("amoor", |a, b| a | b),
        ("amomin", |a, b| a.min(b)),
        ("amomax", |a, b| a.max(b)),
        ("amominu", |a, b| (a as u64).min(b as u64) as i64),
        ("amomaxu", |a, b| (a as u64).max(b as u64) as i64),
    ];
    let code = |name: &str, load: &str| {
        format!(
            "    ld a1, 0(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    ld a4, 24(s0)
    sd a1, 0(s11)
    sd zero, 8(s11)
    {name} a0, a2, (s11)
    check_equal a0, a3
    ld a0, 0(s11)
    check_equal a0, a4
    ld a0, 8(s11)
    check a0, 0
    sd a1, 0(s11)
    mv t3, a2
    {name}.aqrl t3, t3, (s11)
    check_equal t3, a3
    ld a0, 0(s11)
    check_equal a0, a4
    sd a1, 0(s11)
    mv s9, s11
    {name}.aq s9, a2, (s9)
    check_equal s9, a3
    ld a0, 0(s11)
    check_equal a0, a4
    sd a1, 0(s11)
    {name}.rl x0, a2, (s11)
    ld a0, 0(s11)
    check_equal a0, a4
    sub a5, a5, a5
    mv a4, x0
    check_equal a4, a5
    {load} a0, 0(s11)
"
        )
    };
    for (name, meaning) in all {
        let pairs = || EDGES.iter().flat_map(|a| EDGES.iter().map(|b| (*a, *b)));
        for (suffix, load, bits) in widths {
            let rows: Vec<[u64; 4]> = pairs()
                .map(|(a, b)| {
                    let (old, operand) = (narrow(a, *bits), narrow(b, *bits));
                    [a, b, old as u64, replaced(a, meaning(old, operand) as u64, *bits)]
                })
                .collect();
            body.table(&format!("{name}{suffix}"), &rows, &code(&format!("{name}{suffix}"), load));
        }
    }
}

/// Compare-and-swap: rows of what memory holds, what is expected, what is to be stored, the result, and what memory
/// holds afterwards.
fn compare_and_swap(body: &mut Body) {
    for (suffix, bits) in [("b", 8), ("h", 16), ("w", 32), ("d", 64)] {
        let expected = |old: u64| {
            // The same in the bits that count, and different in each kind of bit.
            [old, old ^ 1, old ^ 1 << (bits - 1), if bits == 64 { !old } else { old ^ 1 << bits }, 0]
        };
        let rows: Vec<[u64; 5]> = EDGES
            .iter()
            .flat_map(|old| expected(*old).map(|expected| (*old, expected)))
            .map(|(old, expected)| {
                let new = 0x0123_4567_89ab_cdef;
                let equal = narrow(old, bits) == narrow(expected, bits);
                let after = if equal { replaced(old, new, bits) } else { old };
                [old, expected, new, narrow(old, bits) as u64, after]
            })
            .collect();
        body.table(
            &format!("amocas.{suffix}"),
            &rows,
            &format!(
                "    ld a1, 0(s0)
    ld a2, 8(s0)
    ld a3, 16(s0)
    ld a4, 24(s0)
    ld a5, 32(s0)
    sd a1, 0(s11)
    sd zero, 8(s11)
    mv a0, a2
    amocas.{suffix} a0, a3, (s11)
    check_equal a0, a4
    ld a0, 0(s11)
    check_equal a0, a5
    ld a0, 8(s11)
    check a0, 0
    # Compared and stored alike.
    sd a1, 0(s11)
    mv a0, a2
    amocas.{suffix}.aqrl a0, a0, (s11)
    check_equal a0, a4
    # The address as what is expected.
    sd s11, 0(s11)
    mv s9, s11
    amocas.{suffix}.aq s9, a3, (s9)
    {load} s10, 0(s11)
    sd a3, 8(s11)
    {load} t3, 8(s11)
    check_equal s10, t3
    # x0 expects zero, and stays so.
    sd zero, 0(s11)
    amocas.{suffix}.rl x0, a3, (s11)
    mv a0, x0
    check a0, 0
    {load} a0, 0(s11)
    check_equal a0, t3
    amocas.{suffix} x0, a1, (s11)
    mv a0, x0
    check a0, 0
    {load} a0, 0(s11)
    check_equal a0, t3
    mv a0, a3
    amocas.{suffix} a0, x0, (s11)
    check_equal a0, t3
    ld a0, 0(s11)
    check a0, 0
",
                load = match bits {
                    8 => "lb",
                    16 => "lh",
                    32 => "lw",
                    _ => "ld",
                }
            ),
        );
    }
}

/// Compare-and-swap of pairs, and what must not be: by hand.
const PAIRS: &str = "    li s11, 0x80200000
    # Both halves equal.
    li a0, 0x1111111122222222
    li a1, 0x3333333344444444
    sd a0, 16(s11)
    sd a1, 24(s11)
    li a2, 0x5555555566666666
    li a3, 0x7777777788888888
    addi a4, s11, 16
    mv s2, a0
    mv s3, a1
    amocas.q s2, a2, (a4)
    check_equal s2, a0
    check_equal s3, a1
    ld t3, 16(s11)
    check_equal t3, a2
    ld t3, 24(s11)
    check_equal t3, a3
    # One half differs.
    mv s2, a2
    mv s3, a1
    amocas.q.aq s2, a0, (a4)
    check_equal s2, a2
    check_equal s3, a3
    ld t3, 16(s11)
    check_equal t3, a2
    ld t3, 24(s11)
    check_equal t3, a3
    mv s2, a0
    mv s3, a3
    amocas.q.rl s2, a0, (a4)
    check_equal s2, a2
    check_equal s3, a3
    ld t3, 16(s11)
    check_equal t3, a2
    # The pair of x0 is zero, whatever x1 holds.
    li ra, 0x1234
    amocas.q s2, x0, (a4)
    ld t3, 16(s11)
    check t3, 0
    ld t3, 24(s11)
    check t3, 0
    mv a5, ra
    amocas.q.aqrl x0, a2, (a4)
    check_equal ra, a5
    mv t3, x0
    check t3, 0
    ld t3, 16(s11)
    check_equal t3, a2
    ld t3, 24(s11)
    check_equal t3, a3
    # It fails without a write, but needs the right to.
    amocas.q x0, a0, (a4)
    ld t3, 24(s11)
    check_equal t3, a3
    # The address in the pair of results.
    mv s2, a2
    mv s3, a3
    mv s4, s2
    addi s2, s11, 16
    amocas.q s2, a0, (s2)
    check_equal s2, a2
    check_equal s3, a3
    ld t3, 16(s11)
    check_equal t3, a2
    # Odd registers are reserved.
    try MACHINE
    .word 0x28c745af
    illegal
    try MACHINE
    .word 0x28d7452f
    illegal
    # Misaligned by each power of two.
    li s9, 8
1:
    addi a1, s11, 16
    add a1, a1, s9
    try MACHINE
    amocas.q a2, a4, (a1)
    trapped STORE_MISALIGNED, a1
    srli s9, s9, 1
    bnez s9, 1b
    addi a1, s11, 20
    try MACHINE
    amocas.d a2, a4, (a1)
    trapped STORE_MISALIGNED, a1
    addi a1, s11, 18
    try USER
    amocas.w a2, a4, (a1)
    trapped STORE_MISALIGNED, a1
    addi a1, s11, 17
    try USER
    amocas.h a2, a4, (a1)
    trapped STORE_MISALIGNED, a1
    # Where reading is all that is allowed.
    li t0, 0x80400000
    srli t0, t0, 2
    ori t0, t0, 0x1ff
    csrw pmpaddr0, t0
    li t0, -1
    csrw pmpaddr1, t0
    li t0, 0x1f19
    csrw pmpcfg0, t0
    sfence.vma
    li a1, 0x80400000
    try USER
    amocas.q a2, a4, (a1)
    trapped STORE_ACCESS_FAULT, a1
    try USER
    amocas.b a2, a4, (a1)
    trapped STORE_ACCESS_FAULT, a1
";

/// Misaligned halfwords; bytes are always aligned.
const SMALL: &str = "    li s11, 0x80200000
    addi a1, s11, 1
    try MACHINE
    amoadd.h a0, a2, (a1)
    trapped STORE_MISALIGNED, a1
    addi a1, s11, 3
    try USER
    amoswap.h a0, a2, (a1)
    trapped STORE_MISALIGNED, a1
    li a2, 5
    sd zero, 0(s11)
    amoadd.b a0, a2, (a1)
    ld a0, 0(s11)
    li a3, 0x5000000
    check_equal a0, a3
";

/// Names and bodies of the programs.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let mut access = Body::new(FILL);
    loads(&mut access);
    stores(&mut access);
    let mut amo = Body::new(FILL);
    atomics(&mut amo, &[(".d", "ld", 64), (".w", "lw", 32)]);
    let mut small = Body::new(SMALL);
    atomics(&mut small, &[(".h", "lh", 16), (".b", "lb", 8)]);
    let mut swaps = Body::new(PAIRS);
    compare_and_swap(&mut swaps);
    vec![
        ("rv64i_memory", access.finish()),
        ("zaamo", amo.finish()),
        ("zabha", small.finish()),
        ("zacas", swaps.finish()),
    ]
}
