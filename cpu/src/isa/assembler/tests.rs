//! Tests of the assembler.

use super::*;

fn all() -> ExtensionSet {
    ExtensionSet::known()
}

fn words(source: &str) -> Vec<u32> {
    let program = assemble(source, 0x1000, &all()).unwrap();
    program.bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap())).collect()
}

fn bytes(source: &str) -> Vec<u8> {
    assemble(source, 0x1000, &all()).unwrap().bytes
}

fn error(source: &str) -> String {
    assemble(source, 0x1000, &all()).unwrap_err().to_string()
}

#[test]
fn labels_and_branches() {
    assert_eq!(
        words("start: nop\nbeq a0, a1, start\n j end\n nop\nend: ret"),
        [0x0000_0013, 0xfeb5_0ee3, 0x0080_006f, 0x0000_0013, 0x0000_8067]
    );
    // The nearest one counts: forward from the first branch, backward from the second.
    assert_eq!(words("1: j 1f\n1: j 1b\n j 1b\n1:"), [0x0040_006f, 0x0000_006f, 0xffdf_f06f]);
    assert_eq!(words("beqz a0, .+8"), [0x0005_0463]);
}

#[test]
fn far_addresses_come_in_pairs() {
    let source = "la a0, target\ncall target\ntail target\nlw a1, target\nsw a2, target, t0\n.org 0x2804\ntarget:";
    assert_eq!(
        words(source)[..10],
        [
            0x0000_2517,
            0x8045_0513, // 0x1804 = 0x2000 − 0x7fc
            0x0000_1097,
            0x7fc0_80e7, // 0x17fc
            0x0000_1317,
            0x7f43_0067,
            0x0000_1597,
            0x7ec5_a583,
            0x0000_1297,
            0x7ec2_a223
        ]
    );
    assert_eq!(
        words("here: auipc a0, %pcrel_hi(there)\naddi a0, a0, %pcrel_lo(here)\n.space 0x7f8\nthere:")[..2],
        [0x0000_1517, 0x8005_0513]
    );
    assert_eq!(words("lui a0, %hi(0x12345fff)\naddi a0, a0, %lo(0x12345fff)"), [0x1234_6537, 0xfff5_0513]);
}

/// Runs the integer instructions that `li` is made of.
fn run_li(value: i64) -> i64 {
    let program = assemble(&format!("li a0, {value}"), 0, &all()).unwrap();
    let mut register = 0i64;
    for word in program.bytes.chunks(4) {
        let word = u32::from_le_bytes(word.try_into().unwrap());
        let (opcode, insn) = crate::isa::decode(word, &all()).unwrap();
        let imm = i64::from(insn.imm);
        let source = if insn.rs1 == 0 { 0 } else { register };
        register = match opcode.row().mnemonic {
            "addi" => source.wrapping_add(imm),
            "addiw" => i64::from(source.wrapping_add(imm) as i32),
            "lui" => imm,
            "slli" => source << imm,
            other => panic!("{other} in li"),
        };
    }
    assert!(program.bytes.len() <= 32, "{value:#x} takes {} bytes", program.bytes.len());
    register
}

#[test]
fn li_loads_any_constant() {
    let mut state = 7u64;
    for round in 0..20_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = (state as i64) >> (round % 64);
        assert_eq!(run_li(value), value);
    }
    for shift in 0..64 {
        for delta in [-0x801, -0x800, -1, 0, 1, 0x7ff, 0x800, 0xfff] {
            let value = (1i64 << shift).wrapping_add(delta);
            assert_eq!(run_li(value), value);
            assert_eq!(run_li(value.wrapping_neg()), value.wrapping_neg());
        }
    }
}

#[test]
fn expressions() {
    let data = |text: &str| {
        let bytes = bytes(&format!(".equ two, 2\n.dword {text}"));
        i64::from_le_bytes(bytes.try_into().unwrap())
    };
    assert_eq!(data("1 + two * 3"), 7);
    assert_eq!(data("(1 + 2) * 3 << 1 | 1"), 19);
    assert_eq!(data("~0 & 0xff ^ 0b11"), 0xff ^ 3);
    assert_eq!(data("-7 / 2"), -3);
    assert_eq!(data("-7 % 4"), -3);
    assert_eq!(data("-1 >> 60"), 15);
    assert_eq!(data("'A' + '\\n'"), 75);
    assert_eq!(data("010"), 8);
    assert_eq!(data(". - 0x1000"), 0);
    assert_eq!(data("1 == 1 && 2 > 3 || !0"), 1);
    assert_eq!(data("0xffffffffffffffff"), -1);
    assert_eq!(error(".word 1 / 0"), "line 1: division by zero");
    assert_eq!(error(".word 1 << 64"), "line 1: shift by 64");
    assert_eq!(error(".word (1"), "line 1: ')' is missing");
    assert_eq!(error(&format!(".word {}1", "(".repeat(1000))), "line 1: an expression is nested too deeply");
    assert_eq!(error(&format!(".word {}1", "-".repeat(100_000))), "line 1: an expression is nested too deeply");
    assert_eq!(error(".word 0x"), "line 1: bad number '0x'");
    assert_eq!(error("\n.word nowhere"), "line 2: undefined symbol 'nowhere'");
}

#[test]
fn data_and_alignment() {
    assert_eq!(bytes(".byte 1, -1, 255\n.half 0x1234\n.word later\nlater:"), [1, 255, 255, 0x34, 0x12, 9, 0x10, 0, 0]);
    assert_eq!(bytes(".asciz \"a\\n\\\"#;\\x41\\101\"\n.ascii \"b\""), *b"a\n\"#;AA\0b");
    assert_eq!(bytes(".byte 1\n.align 2\n.byte 2\n.space 2, 7"), [1, 0, 0, 0, 2, 7, 7]);
    assert_eq!(bytes("c.nop\n.align 3"), [1, 0, 1, 0, 0x13, 0, 0, 0]);
    assert_eq!(bytes(".fill 2, 2, 0x102"), [2, 1, 2, 1]);
    assert_eq!(bytes(".double 1.5"), 1.5f64.to_le_bytes());
    assert_eq!(error(".byte 256"), "line 1: 0x100 does not fit 1 bytes");
    assert_eq!(error(".space -1"), "line 1: the size is negative or too large");
    assert_eq!(error(".space 1 << 40"), "line 1: the size is negative or too large");
    assert_eq!(error(".align 64"), "line 1: the alignment is a power of two below 2^32");
    assert_eq!(error("nop\n.align 31"), "line 2: the program is too large");
    assert_eq!(error(".space 200 << 20\n.space 200 << 20"), "line 2: the program is too large");
}

#[test]
fn macros_conditions_and_repetitions() {
    let source = "
        .macro put value, width=1
            .if \\width == 1
                .byte \\value
            .else
                .half \\value
            .endif
        label\\@:
        .endm
        put 1
        put 2, 2
        .set n, 0
        .rept 3
            .byte n
            .set n, n + 1
        .endr
        .irp reg, 5, 6
            .byte \\reg
        .endr
        .ifdef absent
            .error \"no\"
        .elseif 0
            .error \"neither\"
        .endif";
    assert_eq!(bytes(source), [1, 2, 0, 0, 1, 2, 5, 6]);
    assert_eq!(error(".macro m\nm\n.endm\nm"), "line 4: macros are nested too deeply (in macro 'm', line 2)");
    assert_eq!(error(".macro m\nbad x\n.endm\n\nm"), "line 5: unknown instruction 'bad' (in macro 'm', line 2)");
    assert_eq!(error("nop\n.macro m"), "line 2: .endm is missing");
    assert_eq!(error(".if 1"), "line 1: .endif is missing");
    assert_eq!(error(".rept 1 << 40\nnop\n.endr"), "line 1: macros and repetitions make too many lines");
    assert_eq!(error(".endif"), "line 1: .endif without .if");
    assert_eq!(error(".rept 3\nx:\n.endr"), "line 2: symbol 'x' is already defined");
}

#[test]
fn mistakes_are_told_with_their_line() {
    assert_eq!(error("nop\naddi a0, a1, 2048"), "line 2: addi cannot encode this immediate 2048");
    assert_eq!(error("addi a0, a1"), "line 1: addi takes other operands: rd, rs1, imm");
    assert_eq!(error("addi a0, x32, 1"), "line 1: 'x32' is no integer register");
    assert_eq!(error("fadd.s fa0, a0, fa1"), "line 1: 'a0' is no floating-point register");
    assert_eq!(error("csrr a0, nothing"), "line 1: unknown CSR 'nothing'");
    assert_eq!(error("c.lwsp zero, 0(sp)"), "line 1: c.lwsp cannot encode this rd");
    assert_eq!(error("c.addi4spn a0, sp, 0"), "line 1: c.addi4spn cannot encode this immediate 0");
    assert_eq!(error("c.lw a0, 1(a1)"), "line 1: c.lw cannot encode this immediate 1");
    assert_eq!(error("c.lw a0, 0(t0)"), "line 1: c.lw cannot encode this rs1");
    assert_eq!(error("frobnicate"), "line 1: unknown instruction 'frobnicate'");
    assert_eq!(error("beq a0, a1, far\n.space 0x1000\nfar:"), "line 1: beq cannot encode this immediate 4100");
    assert_eq!(error("fadd.s fa0, fa0, fa0, rxx"), "line 1: 'rxx' is no rounding mode");
    assert_eq!(error("li a0, later\nlater:"), "line 1: 'later' must be defined above this");
    assert_eq!(error("x:\nx:"), "line 2: symbol 'x' is already defined");
    let base = ExtensionSet::of(&[Extension::I]);
    assert_eq!(assemble("mul a0, a0, a0", 0, &base).unwrap_err().message, "mul needs extension m");
    assert_eq!(assemble(".option rvc", 0, &base).unwrap_err().message, ".option rvc without compressed instructions");
}

#[test]
fn comments_and_separators() {
    assert_eq!(bytes(".byte 1 # one\n.byte '#' // two\n/* .byte 3\n.byte 4 */ .byte 5; .byte 6"), [1, b'#', 5, 6]);
}

#[test]
fn compression_on_request() {
    let source = ".option push\n.option rvc\naddi a0, a0, 1\nmv a1, a2\nlw a0, 4(sp)\nnop\nadd a0, a0, a1\nret\n\
                  addi a0, a1, 1\n.option pop\naddi a0, a0, 1";
    assert_eq!(
        bytes(source),
        [
            0x05, 0x05, // c.addi a0, 1
            0xb2, 0x85, // c.mv a1, a2
            0x12, 0x45, // c.lwsp a0, 4(sp)
            0x01, 0x00, // c.nop
            0x2e, 0x95, // c.add a0, a1
            0x82, 0x80, // c.jr ra
            0x13, 0x85, 0x15, 0x00, // addi a0, a1, 1
            0x13, 0x05, 0x15, 0x00, // addi a0, a0, 1
        ]
    );
}

#[test]
fn symbols_are_told() {
    let program = assemble(".equ size, 5\nstart:\nnop\nend:", 0x8000_0000, &all()).unwrap();
    let symbols: Vec<_> = program.symbols.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(symbols, [("end", 0x8000_0004), ("size", 5), ("start", 0x8000_0000)]);
}
