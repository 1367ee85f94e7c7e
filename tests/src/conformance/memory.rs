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

fn word(value: u64) -> u64 {
    value as u32 as i32 as i64 as u64
}

/// Atomic memory operations: what memory holds afterwards, for doublewords; words take and give the low half.
fn atomics(body: &mut Body) {
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
        let double: Vec<[u64; 4]> = pairs().map(|(a, b)| [a, b, a, meaning(a as i64, b as i64) as u64]).collect();
        let words: Vec<[u64; 4]> = pairs()
            .map(|(a, b)| {
                let result = meaning(a as i32 as i64, b as i32 as i64) as u32;
                [a, b, word(a), a & !0xffff_ffff | u64::from(result)]
            })
            .collect();
        body.table(&format!("{name}.d"), &double, &code(&format!("{name}.d"), "ld"));
        body.table(&format!("{name}.w"), &words, &code(&format!("{name}.w"), "lw"));
    }
}

/// Names and bodies of the programs.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let mut access = Body::new(FILL);
    loads(&mut access);
    stores(&mut access);
    let mut amo = Body::new(FILL);
    atomics(&mut amo);
    vec![("rv64i_memory", access.finish()), ("zaamo", amo.finish())]
}
