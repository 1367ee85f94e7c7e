//! The floating-point instructions: edge values and values without a pattern, in every rounding mode, static and
//! dynamic, with the flags that they raise.

use super::exact::{DOUBLE, Flagged, Format, Rounding, SINGLE};
use super::rows::{Body, Random};

const START: &str = "    li t0, STATUS_FS\n    csrs mstatus, t0\n";

/// A format with its suffix and the values to try, as register contents.
struct Kind {
    format: Format,
    suffix: &'static str,
    edges: Vec<u64>,
    random: Vec<u64>,
}

fn single() -> Kind {
    let edges = [
        0u32,
        0x8000_0000,
        0x3f80_0000,
        0xbf80_0000,
        0x3f80_0001,
        0x4040_0000,
        0x0000_0001,
        0x8000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x8080_0000,
        0x0080_0001,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffc1_2345,
        0x4f00_0000,
        0xcf00_0000,
        0x5f00_0000,
        0x3f00_0000,
        0x3fc0_0000,
        0x3380_0000,
        0x1f80_0000,
        0x4b00_0001,
    ];
    let mut edges: Vec<u64> = edges.into_iter().map(|bits| u64::from(bits) | u64::MAX << 32).collect();
    // Not boxed: the canonical NaN.
    edges.push(0x3f80_0000);
    edges.push(0xffff_fffe_3f80_0000);
    let random = Random(0x1357_9bdf_0246_8ace).map(|v| v >> 32 | u64::MAX << 32).take(400).collect();
    Kind { format: SINGLE, suffix: "s", edges, random }
}

fn double() -> Kind {
    let edges = vec![
        0,
        1 << 63,
        0x3ff0_0000_0000_0000,
        0xbff0_0000_0000_0000,
        0x3ff0_0000_0000_0001,
        0x4008_0000_0000_0000,
        1,
        0x8000_0000_0000_0001,
        0x000f_ffff_ffff_ffff,
        0x0010_0000_0000_0000,
        0x8010_0000_0000_0000,
        0x0010_0000_0000_0001,
        0x7fef_ffff_ffff_ffff,
        0xffef_ffff_ffff_ffff,
        0x7ff0_0000_0000_0000,
        0xfff0_0000_0000_0000,
        0x7ff8_0000_0000_0000,
        0x7ff0_0000_0000_0001,
        0xfff8_0001_2345_6789,
        0x41e0_0000_0000_0000,
        0xc1e0_0000_0020_0000,
        0x43e0_0000_0000_0000,
        0xc3e0_0000_0000_0000,
        0x3fe0_0000_0000_0000,
        0x3ff8_0000_0000_0000,
        0x3ca0_0000_0000_0000,
        0x1ff0_0000_0000_0000,
        // Near the borders of single precision.
        0x47ef_ffff_f000_0000,
        0x47ef_ffff_efff_ffff,
        0x380f_ffff_f000_0000,
        0x36a0_0000_0000_0000,
        0x3690_0000_0000_0000,
        0x3810_0000_1000_0000,
    ];
    let random = Random(0x0fed_cba9_8765_4321).take(400).collect();
    Kind { format: DOUBLE, suffix: "d", edges, random }
}

impl Kind {
    /// Numbers whose exponents are close, so that additions do something.
    fn near(&self, value: u64) -> u64 {
        let bits = self.format.fraction_bits;
        let keep = ((1u64 << bits) - 1) | 1 << (bits + self.format.exponent_bits) | 7 << bits;
        let middle = ((1u64 << (self.format.exponent_bits - 1)) - 4) << bits;
        let boxed = if bits == 23 { u64::MAX << 32 } else { 0 };
        value & keep | middle & !(7 << bits) | boxed
    }

    fn pairs(&self) -> Vec<(u64, u64)> {
        let edges = self.edges.iter().flat_map(|a| self.edges.iter().map(|b| (*a, *b)));
        let random = self.random.chunks(2).map(|pair| (pair[0], pair[1]));
        let near = self.random.chunks(2).map(|pair| (self.near(pair[0]), self.near(pair[1])));
        edges.chain(random).chain(near).collect()
    }

    fn triples(&self) -> Vec<(u64, u64, u64)> {
        let few: Vec<u64> = self.edges.iter().copied().step_by(3).collect();
        let few = &few;
        let edges = few.iter().flat_map(|a| few.iter().flat_map(move |b| few.iter().map(move |c| (*a, *b, *c))));
        let near = self.random.chunks_exact(3).map(|t| (self.near(t[0]), self.near(t[1]), self.near(t[2])));
        // What cancels all but the product's lowest bits.
        let cancelling = self.random.chunks_exact(2).map(|pair| {
            let (a, b) = (self.near(pair[0]), self.near(pair[1]));
            let product = self.format.multiply(a, b, Rounding::TowardsZero).0;
            (a, b, self.format.negate(product))
        });
        edges.chain(near).chain(cancelling).collect()
    }

    fn singles(&self) -> Vec<u64> {
        let near = self.random.iter().map(|value| self.near(*value));
        self.edges.iter().copied().chain(self.random.iter().copied()).chain(near).collect()
    }

    /// Values around integers of all sizes, for conversions.
    fn integers(&self) -> Vec<u64> {
        let mut values = self.edges.clone();
        for bits in [0, 1, 8, 15, 16, 30, 31, 32, 33, 47, 52, 53, 62, 63, 64] {
            for difference in [-2, -1, 0, 1, 2] {
                for sign in [1, -1] {
                    let value =
                        self.format.round_integer(sign * ((1i128 << bits) + difference), Rounding::NearestEven).0;
                    values.push(value);
                    values.push(value ^ 1);
                }
            }
        }
        // Halves and quarters.
        let quarter = self.format.divide(
            self.format.round_integer(1, Rounding::NearestEven).0,
            self.format.round_integer(4, Rounding::NearestEven).0,
            Rounding::NearestEven,
        );
        for quarters in -16..=16 {
            let count = self.format.round_integer(quarters, Rounding::NearestEven).0;
            values.push(self.format.multiply(count, quarter.0, Rounding::NearestEven).0);
        }
        values
    }
}

/// Loops over rows in each rounding mode: the operands, what comes out, the flags. The instruction is run with the
/// mode in its encoding while another one is in `frm`, and then with the dynamic mode, on flags that are already there.
fn rounded<const N: usize>(
    body: &mut Body,
    name: &str,
    operands: usize,
    rows: impl Fn(Rounding) -> Vec<[u64; N]>,
    load: &str,
    instruction: impl Fn(&str, bool) -> String,
    read: &str,
) {
    for rounding in Rounding::ALL {
        let mode = rounding as usize;
        let other = (mode + 1) % 5;
        let (result, flags) = (operands * 8, operands * 8 + 8);
        let static_form = instruction(rounding.name(), false);
        let dynamic_form = instruction("dyn", true);
        body.table(
            &format!("{name}, {}", rounding.name()),
            &rows(rounding),
            &format!(
                "{load}    ld a2, {result}(s0)
    ld a3, {flags}(s0)
    fsrmi {other}
    fsflagsi 0
{static_form}    frflags a1
{read}    check_equal a0, a2
    check_equal a1, a3
    fsrmi {mode}
    fsflagsi 10
{dynamic_form}    frflags a1
{read}    check_equal a0, a2
    ori a3, a3, 10
    check_equal a1, a3
"
            ),
        );
    }
}

const READ_FLOAT: &str = "    fmv.x.d a0, fa0\n";

fn binary(body: &mut Body, kind: &Kind, name: &str, meaning: fn(Format, u64, u64, Rounding) -> Flagged) {
    let name = format!("{name}.{}", kind.suffix);
    rounded(
        body,
        &name,
        2,
        |rounding| {
            let row = |(a, b)| {
                let (result, flags) = meaning(kind.format, a, b, rounding);
                [a, b, result, flags]
            };
            kind.pairs().into_iter().map(row).collect()
        },
        "    fld fa1, 0(s0)\n    fld fa2, 8(s0)\n",
        |mode, alias| {
            if alias {
                format!("    fmv.d fa0, fa2\n    {name} fa0, fa1, fa0, {mode}\n")
            } else {
                format!("    {name} fa0, fa1, fa2, {mode}\n")
            }
        },
        READ_FLOAT,
    );
}

fn multiply_add(body: &mut Body, kind: &Kind, name: &str, negate_product: bool, negate_addend: bool) {
    let name = format!("{name}.{}", kind.suffix);
    let format = kind.format;
    rounded(
        body,
        &name,
        3,
        |rounding| {
            let row = |(a, b, c)| {
                let product = if negate_product { format.negate(a) } else { a };
                let addend = if negate_addend { format.negate(c) } else { c };
                let (result, flags) = format.multiply_add(product, b, addend, rounding);
                [a, b, c, result, flags]
            };
            kind.triples().into_iter().map(row).collect()
        },
        "    fld fa1, 0(s0)\n    fld fa2, 8(s0)\n    fld fa3, 16(s0)\n",
        |mode, alias| {
            if alias {
                format!("    fmv.d ft9, fa1\n    {name} ft9, ft9, fa2, fa3, {mode}\n    fmv.d fa0, ft9\n")
            } else {
                format!("    {name} fa0, fa1, fa2, fa3, {mode}\n")
            }
        },
        READ_FLOAT,
    );
}

/// Instructions from one float register to a float or an integer register.
fn unary(body: &mut Body, name: &str, values: &[u64], to_integer: bool, meaning: &dyn Fn(u64, Rounding) -> Flagged) {
    rounded(
        body,
        name,
        1,
        |rounding| {
            let row = |a: &u64| {
                let (result, flags) = meaning(*a, rounding);
                [*a, result, flags]
            };
            values.iter().map(row).collect()
        },
        "    fld fa1, 0(s0)\n",
        |mode, _| {
            let destination = if to_integer { "a0" } else { "fa0" };
            format!("    {name} {destination}, fa1, {mode}\n")
        },
        if to_integer { "" } else { READ_FLOAT },
    );
}

fn from_integer(body: &mut Body, kind: &Kind, source: &str, meaning: fn(u64) -> i128) {
    let name = format!("fcvt.{}.{source}", kind.suffix);
    let mut values: Vec<u64> = super::integer::EDGES.to_vec();
    values.extend(Random(0xabcd_ef01_2345_6789).take(100).map(|value| value >> (value & 63)));
    for bits in [24, 25, 26, 53, 54, 55, 62, 63] {
        for difference in -3i64..=3 {
            values.push((1u64 << bits).wrapping_add(difference as u64));
            values.push((1u64 << bits).wrapping_add((difference << (bits - 24)) as u64));
        }
    }
    // From 32 bits into double precision nothing is rounded, and assemblers take no mode.
    let exact = kind.suffix == "d" && source.starts_with('w');
    rounded(
        body,
        &name,
        1,
        |rounding| {
            let row = |a: &u64| {
                let (result, flags) = kind.format.round_integer(meaning(*a), rounding);
                [*a, result, flags]
            };
            values.iter().map(row).collect()
        },
        "    ld a4, 0(s0)\n",
        |mode, _| if exact { format!("    {name} fa0, a4\n") } else { format!("    {name} fa0, a4, {mode}\n") },
        READ_FLOAT,
    );
}

/// Instructions that do not round: the result, and the flags on top of what is there.
fn unrounded(body: &mut Body, name: &str, rows: &[[u64; 4]], to_integer: bool, operands: usize) {
    let destination = if to_integer { "a0" } else { "fa0" };
    let sources = if operands == 2 { "fa1, fa2" } else { "fa1" };
    let read = if to_integer { "" } else { READ_FLOAT };
    body.table(
        name,
        rows,
        &format!(
            "    fld fa1, 0(s0)
    fld fa2, 8(s0)
    ld a2, 16(s0)
    ld a3, 24(s0)
    fsflagsi 0
    {name} {destination}, {sources}
    frflags a1
{read}    check_equal a0, a2
    check_equal a1, a3
    fsflagsi 15
    {name} {destination}, {sources}
    frflags a1
{read}    check_equal a0, a2
    ori a3, a3, 15
    check_equal a1, a3
"
        ),
    );
}

fn sext(value: u64) -> u64 {
    value as u32 as i32 as i64 as u64
}

fn arithmetic(kind: &Kind) -> String {
    let mut body = Body::new(START);
    binary(&mut body, kind, "fadd", |format, a, b, rounding| format.add(a, b, rounding));
    binary(&mut body, kind, "fsub", |format, a, b, rounding| {
        // A NaN keeps being one under a changed sign.
        format.add(a, format.negate(b), rounding)
    });
    binary(&mut body, kind, "fmul", |format, a, b, rounding| format.multiply(a, b, rounding));
    binary(&mut body, kind, "fdiv", |format, a, b, rounding| format.divide(a, b, rounding));
    unary(&mut body, &format!("fsqrt.{}", kind.suffix), &kind.singles(), false, &|a, rounding| {
        kind.format.square_root(a, rounding)
    });
    body.finish()
}

fn fused(kind: &Kind) -> String {
    let mut body = Body::new(START);
    multiply_add(&mut body, kind, "fmadd", false, false);
    multiply_add(&mut body, kind, "fmsub", false, true);
    multiply_add(&mut body, kind, "fnmsub", true, false);
    multiply_add(&mut body, kind, "fnmadd", true, true);
    body.finish()
}

fn others(kind: &Kind) -> String {
    let mut body = Body::new(START);
    let (format, suffix) = (kind.format, kind.suffix);
    let mut pairwise = |name: &str, to_integer: bool, meaning: &dyn Fn(u64, u64) -> Flagged| {
        let row = |(a, b)| {
            let (result, flags) = meaning(a, b);
            [a, b, result, flags]
        };
        let rows: Vec<[u64; 4]> = kind.pairs().into_iter().map(row).collect();
        unrounded(&mut body, &format!("{name}.{suffix}"), &rows, to_integer, 2);
    };
    pairwise("fmin", false, &|a, b| format.extreme(a, b, false));
    pairwise("fmax", false, &|a, b| format.extreme(a, b, true));
    pairwise("feq", true, &|a, b| format.compare(a, b, false, true, true));
    pairwise("flt", true, &|a, b| format.compare(a, b, true, false, false));
    pairwise("fle", true, &|a, b| format.compare(a, b, true, true, false));
    pairwise("fsgnj", false, &|a, b| (format.inject(a, b, |_, sign| sign), 0));
    pairwise("fsgnjn", false, &|a, b| (format.inject(a, b, |_, sign| !sign), 0));
    pairwise("fsgnjx", false, &|a, b| (format.inject(a, b, |one, other| one != other), 0));
    let classes: Vec<[u64; 4]> = kind.singles().into_iter().map(|a| [a, 0, format.classify(a), 0]).collect();
    unrounded(&mut body, &format!("fclass.{suffix}"), &classes, true, 1);
    let raw: Vec<[u64; 4]> =
        kind.singles().into_iter().map(|a| [a, 0, if suffix == "s" { sext(a) } else { a }, 0]).collect();
    unrounded(&mut body, if suffix == "s" { "fmv.x.w" } else { "fmv.x.d" }, &raw, true, 1);
    body.finish()
}

fn conversions(kind: &Kind) -> String {
    let mut body = Body::new(START);
    let (format, suffix) = (kind.format, kind.suffix);
    let targets: [(&str, i128, i128); 4] = [
        ("w", i32::MIN as i128, i32::MAX as i128),
        ("wu", 0, u32::MAX as i128),
        ("l", i64::MIN as i128, i64::MAX as i128),
        ("lu", 0, u64::MAX as i128),
    ];
    for (target, least, most) in targets {
        unary(&mut body, &format!("fcvt.{target}.{suffix}"), &kind.integers(), true, &|a, rounding| {
            let (value, flags) = format.to_integer(a, least, most, rounding);
            let word = value as u64;
            (if target.starts_with('w') { sext(word) } else { word }, flags)
        });
    }
    from_integer(&mut body, kind, "w", |value| (value as i32).into());
    from_integer(&mut body, kind, "wu", |value| (value as u32).into());
    from_integer(&mut body, kind, "l", |value| (value as i64).into());
    from_integer(&mut body, kind, "lu", |value| value.into());
    if suffix == "d" {
        unary(&mut body, "fcvt.s.d", &kind.singles(), false, &|a, rounding| DOUBLE.convert(a, SINGLE, rounding));
        let rows: Vec<[u64; 4]> = single()
            .singles()
            .into_iter()
            .map(|a| {
                let (result, flags) = SINGLE.convert(a, DOUBLE, Rounding::NearestEven);
                [a, 0, result, flags]
            })
            .collect();
        unrounded(&mut body, "fcvt.d.s", &rows, false, 1);
    }
    body.finish()
}

/// Names and bodies of the programs.
pub(super) fn bodies() -> Vec<(&'static str, String)> {
    let (single, double) = (single(), double());
    vec![
        ("f_arithmetic", arithmetic(&single)),
        ("f_fused", fused(&single)),
        ("f_others", others(&single)),
        ("f_conversions", conversions(&single)),
        ("d_arithmetic", arithmetic(&double)),
        ("d_fused", fused(&double)),
        ("d_others", others(&double)),
        ("d_conversions", conversions(&double)),
    ]
}
