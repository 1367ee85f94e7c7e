//! Pseudo-instructions (RISC-V assembly programmer's manual): name, number of operands, and the instructions that they
//! stand for, with `$0`, `$1`, … for the operands.

/// One pseudo-instruction with one number of operands.
type Pseudo = (&'static str, usize, &'static [&'static str]);

const PSEUDO_INSTRUCTIONS: &[Pseudo] = &[
    ("nop", 0, &["addi zero, zero, 0"]),
    ("mv", 2, &["addi $0, $1, 0"]),
    ("not", 2, &["xori $0, $1, -1"]),
    ("neg", 2, &["sub $0, zero, $1"]),
    ("negw", 2, &["subw $0, zero, $1"]),
    ("sext.w", 2, &["addiw $0, $1, 0"]),
    ("zext.b", 2, &["andi $0, $1, 255"]),
    ("zext.w", 2, &["add.uw $0, $1, zero"]),
    ("seqz", 2, &["sltiu $0, $1, 1"]),
    ("snez", 2, &["sltu $0, zero, $1"]),
    ("sltz", 2, &["slt $0, $1, zero"]),
    ("sgtz", 2, &["slt $0, zero, $1"]),
    ("sgt", 3, &["slt $0, $2, $1"]),
    ("sgtu", 3, &["sltu $0, $2, $1"]),
    ("beqz", 2, &["beq $0, zero, $1"]),
    ("bnez", 2, &["bne $0, zero, $1"]),
    ("blez", 2, &["bge zero, $0, $1"]),
    ("bgez", 2, &["bge $0, zero, $1"]),
    ("bltz", 2, &["blt $0, zero, $1"]),
    ("bgtz", 2, &["blt zero, $0, $1"]),
    ("bgt", 3, &["blt $1, $0, $2"]),
    ("ble", 3, &["bge $1, $0, $2"]),
    ("bgtu", 3, &["bltu $1, $0, $2"]),
    ("bleu", 3, &["bgeu $1, $0, $2"]),
    ("j", 1, &["jal zero, $0"]),
    ("jal", 1, &["jal ra, $0"]),
    ("jr", 1, &["jalr zero, 0($0)"]),
    ("jalr", 1, &["jalr ra, 0($0)"]),
    ("ret", 0, &["jalr zero, 0(ra)"]),
    ("call", 1, &["auipc ra, %pcrel_hi($0)", "jalr ra, %near_lo($0)(ra)"]),
    ("call", 2, &["auipc $0, %pcrel_hi($1)", "jalr $0, %near_lo($1)($0)"]),
    ("tail", 1, &["auipc t1, %pcrel_hi($0)", "jalr zero, %near_lo($0)(t1)"]),
    ("jump", 2, &["auipc $1, %pcrel_hi($0)", "jalr zero, %near_lo($0)($1)"]),
    ("la", 2, &["auipc $0, %pcrel_hi($1)", "addi $0, $0, %near_lo($1)"]),
    ("lla", 2, &["auipc $0, %pcrel_hi($1)", "addi $0, $0, %near_lo($1)"]),
    ("fence", 0, &["fence iorw, iorw"]),
    ("sfence.vma", 0, &["sfence.vma zero, zero"]),
    ("sfence.vma", 1, &["sfence.vma $0, zero"]),
    ("csrr", 2, &["csrrs $0, $1, zero"]),
    ("csrw", 2, &["csrrw zero, $0, $1"]),
    ("csrs", 2, &["csrrs zero, $0, $1"]),
    ("csrc", 2, &["csrrc zero, $0, $1"]),
    ("csrwi", 2, &["csrrwi zero, $0, $1"]),
    ("csrsi", 2, &["csrrsi zero, $0, $1"]),
    ("csrci", 2, &["csrrci zero, $0, $1"]),
    ("rdcycle", 1, &["csrrs $0, cycle, zero"]),
    ("rdtime", 1, &["csrrs $0, time, zero"]),
    ("rdinstret", 1, &["csrrs $0, instret, zero"]),
    ("frcsr", 1, &["csrrs $0, fcsr, zero"]),
    ("fscsr", 1, &["csrrw zero, fcsr, $0"]),
    ("fscsr", 2, &["csrrw $0, fcsr, $1"]),
    ("frrm", 1, &["csrrs $0, frm, zero"]),
    ("fsrm", 1, &["csrrw zero, frm, $0"]),
    ("fsrm", 2, &["csrrw $0, frm, $1"]),
    ("fsrmi", 1, &["csrrwi zero, frm, $0"]),
    ("frflags", 1, &["csrrs $0, fflags, zero"]),
    ("fsflags", 1, &["csrrw zero, fflags, $0"]),
    ("fsflags", 2, &["csrrw $0, fflags, $1"]),
    ("fsflagsi", 1, &["csrrwi zero, fflags, $0"]),
    ("fmv.s", 2, &["fsgnj.s $0, $1, $1"]),
    ("fabs.s", 2, &["fsgnjx.s $0, $1, $1"]),
    ("fneg.s", 2, &["fsgnjn.s $0, $1, $1"]),
    ("fgt.s", 3, &["flt.s $0, $2, $1"]),
    ("fge.s", 3, &["fle.s $0, $2, $1"]),
    ("fmv.d", 2, &["fsgnj.d $0, $1, $1"]),
    ("fabs.d", 2, &["fsgnjx.d $0, $1, $1"]),
    ("fneg.d", 2, &["fsgnjn.d $0, $1, $1"]),
    ("fgt.d", 3, &["flt.d $0, $2, $1"]),
    ("fge.d", 3, &["fle.d $0, $2, $1"]),
    ("fmv.h", 2, &["fsgnj.h $0, $1, $1"]),
    ("fabs.h", 2, &["fsgnjx.h $0, $1, $1"]),
    ("fneg.h", 2, &["fsgnjn.h $0, $1, $1"]),
    ("fgt.h", 3, &["flt.h $0, $2, $1"]),
    ("fge.h", 3, &["fle.h $0, $2, $1"]),
    ("fmv.x.s", 2, &["fmv.x.w $0, $1"]),
    ("fmv.s.x", 2, &["fmv.w.x $0, $1"]),
    ("unimp", 0, &["csrrw zero, cycle, zero"]),
];

/// Loads and stores that take a symbol instead of `offset(register)`.
const MEMORY: &[(&str, usize)] = &[
    ("lb", 2),
    ("lh", 2),
    ("lw", 2),
    ("ld", 2),
    ("lbu", 2),
    ("lhu", 2),
    ("lwu", 2),
    ("sb", 3),
    ("sh", 3),
    ("sw", 3),
    ("sd", 3),
    ("flh", 3),
    ("flw", 3),
    ("fld", 3),
    ("fsh", 3),
    ("fsw", 3),
    ("fsd", 3),
];

/// The instructions that a pseudo-instruction stands for, or `None` if it is not one. `li` is not here: it depends on
/// its value.
pub(super) fn expand(mnemonic: &str, operands: &[String]) -> Option<Vec<String>> {
    let templates = PSEUDO_INSTRUCTIONS.iter().find(|(name, count, _)| *name == mnemonic && *count == operands.len());
    if let Some((_, _, templates)) = templates {
        return Some(templates.iter().map(|template| fill(template, operands)).collect());
    }
    if mnemonic == "jalr" && (2..=3).contains(&operands.len()) && !operands[1].ends_with(')') {
        let offset = operands.get(2).map_or("0", String::as_str);
        return Some(vec![format!("jalr {}, {offset}({})", operands[0], operands[1])]);
    }
    let symbol = operands.get(1).is_some_and(|operand| !operand.ends_with(')'));
    if symbol && MEMORY.contains(&(mnemonic, operands.len())) {
        // Stores and floating-point loads name a register for the address as a third operand.
        let address = &operands[operands.len() - 1].clone();
        let address = if operands.len() == 2 { &operands[0] } else { address };
        return Some(vec![
            format!("auipc {address}, %pcrel_hi({})", operands[1]),
            format!("{mnemonic} {}, %near_lo({})({address})", operands[0], operands[1]),
        ]);
    }
    None
}

fn fill(template: &str, operands: &[String]) -> String {
    // From the last one: no operand's text is searched for another's mark.
    let mut text = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        let index = usize::from(rest.as_bytes()[at + 1] - b'0');
        text.push_str(&operands[index]);
        rest = &rest[at + 2..];
    }
    text.push_str(rest);
    text
}

/// The shortest usual sequence that loads `value`: `lui` and `addiw` for 32 bits, then shifts and additions.
pub(super) fn load_immediate(register: &str, value: i64) -> Vec<String> {
    let mut sequence = Vec::new();
    load(register, value, &mut sequence);
    sequence
}

fn load(register: &str, value: i64, sequence: &mut Vec<String>) {
    let low = value << 52 >> 52;
    if value == low {
        sequence.push(format!("addi {register}, zero, {value}"));
    } else if i32::try_from(value).is_ok() {
        let high = value.wrapping_sub(low) >> 12 & 0xf_ffff;
        sequence.push(format!("lui {register}, {high}"));
        if low != 0 {
            sequence.push(format!("addiw {register}, {register}, {low}"));
        }
    } else {
        let upper = value.wrapping_sub(low);
        let shift = upper.trailing_zeros();
        load(register, upper >> shift, sequence);
        sequence.push(format!("slli {register}, {register}, {shift}"));
        if low != 0 {
            sequence.push(format!("addi {register}, {register}, {low}"));
        }
    }
}
