//! Compares the disassembler with binutils' `objdump` (and `llvm-mc` for extensions that binutils lacks), and the
//! assembler with binutils' `as`, over every row of the instruction table with random operands and over random words.
//!
//! ```text
//! cargo run --release -p cpu --example disassembly_check -- \
//!     --objdump riscv64-linux-gnu-objdump --as riscv64-linux-gnu-as --llvm-mc llvm-mc-19 [--words N] [--seed N]
//! ```
//!
//! Ends with status 1 if anything differs that [`tolerated`] does not explain.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};

use cpu::extension::ExtensionSet;
use cpu::isa::{Opcode, assembler::assemble, decode, disassemble};

/// Extensions of the table that binutils 2.40 knows; later versions know more, and then `objdump` reads them all the
/// same.
const AS_ARCH: &str = "rv64gc_zba_zbb_zbc_zbs_zicbom_zicbop_zicboz_zihintpause_svinval_zawrs_zfh_zbkb_zbkc_zbkx";
const LLVM_ATTRIBUTES: &str = "+m,+a,+f,+d,+c,+zba,+zbb,+zbc,+zbs,+zicond,+zicbom,+zicbop,+zicboz,+zihintpause,+zcb,\
    +zfh,+zfa,+experimental-zacas,+zabha,+zawrs,+zimop,+zcmop,+zihintntl,+svinval,+zbkb,+zbkc,+zbkx";

struct Options {
    objdump: String,
    assembler: String,
    llvm_mc: Option<String>,
    words: usize,
    seed: u64,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        objdump: "riscv64-linux-gnu-objdump".into(),
        assembler: "riscv64-linux-gnu-as".into(),
        llvm_mc: None,
        words: 200_000,
        seed: 1,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--objdump" => options.objdump = value,
            "--as" => options.assembler = value,
            "--llvm-mc" => options.llvm_mc = Some(value),
            "--words" => options.words = value.parse().map_err(|e| format!("--words: {e}"))?,
            "--seed" => options.seed = value.parse().map_err(|e| format!("--seed: {e}"))?,
            _ => return Err(format!("unknown option {name}")),
        }
    }
    Ok(options)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// The words to compare: rows with random operands, then random words.
fn words(options: &Options) -> Vec<u32> {
    let mut random = Random(options.seed);
    let mut words = Vec::new();
    let per_row = (options.words / 2).div_ceil(Opcode::all().count());
    for opcode in Opcode::all() {
        let pattern = &opcode.row().pattern;
        let length_mask = if pattern.length == 2 { 0xffff } else { u32::MAX };
        words.extend((0..per_row).map(|_| random.next() as u32 & length_mask & !pattern.mask | pattern.value));
    }
    while words.len() < options.words {
        let word = random.next() as u32;
        match word & 0x1f {
            // Longer than 32 bits.
            0x1f => {}
            low if low & 3 == 3 => words.push(word),
            _ => words.push(word & 0xffff),
        }
    }
    words.extend((0..0x1_0000).filter(|half| half & 3 != 3));
    let mut seen = HashSet::new();
    words.retain(|&word| seen.insert(word));
    words
}

fn length(word: u32) -> usize {
    if word & 3 == 3 { 4 } else { 2 }
}

/// Runs a program with `input` on its standard input; its standard output.
fn run(program: &str, arguments: &[&str], input: Option<String>) -> Result<String, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    let mut stdin = child.stdin.take();
    let writer = std::thread::spawn(move || {
        if let (Some(stdin), Some(input)) = (&mut stdin, input) {
            // A program that stops reading tells why on its standard error.
            let _ = stdin.write_all(input.as_bytes());
        }
    });
    let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    let _ = writer.join();
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{program}: {}", error.lines().take(20).collect::<Vec<_>>().join("\n")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// One instruction of `objdump -d`: address and text.
fn objdump_lines(output: &str) -> BTreeMap<u64, String> {
    let mut lines = BTreeMap::new();
    for line in output.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(address), Some(_), Some(text)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let Ok(address) = u64::from_str_radix(address.trim().trim_end_matches(':'), 16) else {
            continue;
        };
        lines.insert(address, normal(text));
    }
    lines
}

/// One space after the mnemonic, none after commas, no symbols, no comments; branch targets have `0x`.
fn normal(text: &str) -> String {
    let text = text.split('#').next().unwrap_or_default();
    let symbol = text.find(" <");
    let text = symbol.map_or(text, |at| &text[..at]);
    let mut fields = text.split_whitespace();
    let mut normal = fields.next().unwrap_or_default().to_owned();
    let operands: String = fields.collect();
    if !operands.is_empty() {
        normal.push(' ');
        normal.push_str(&operands);
    }
    if symbol.is_some() {
        let at = normal.rfind([',', ' ']).map_or(0, |at| at + 1);
        if !normal[at..].starts_with("0x") {
            normal.insert_str(at, "0x");
        }
    }
    normal
}

fn is_data(text: &str) -> bool {
    text.starts_with(".4byte") || text.starts_with(".2byte")
}

/// Why a difference from objdump is none, if so.
fn tolerated(word: u32, ours: &str, theirs: &str) -> Option<&'static str> {
    let mnemonic = theirs.split(' ').next().unwrap_or_default();
    if is_data(ours) && theirs.contains("unknown") {
        return Some("objdump prints reserved rounding modes as 'unknown'; they do not decode here");
    }
    if theirs.replace("unknown", "0") == ours {
        return Some("objdump prints an empty fence set as 'unknown'");
    }
    if word == 0 && theirs == "c.unimp" {
        return Some("the all-zero halfword is an instruction for objdump; the manual says illegal");
    }
    if ours.starts_with("c.nop") && mnemonic == "c.addi" {
        return Some("c.nop is an alias of c.addi for binutils");
    }
    if let Some(shift) = mnemonic.strip_suffix("64")
        && ours == format!("{shift} {},0x0", theirs.split(' ').nth(1).unwrap_or_default())
    {
        return Some("a compressed shift by 0 is RV128's c.slli64 to objdump; a HINT on RV64");
    }
    if ours.trim_start_matches("c.").starts_with("ntl.") && theirs.contains("add zero,") {
        return Some("ntl is an alias of add for binutils");
    }
    if is_data(ours) && (theirs == "c.addi16sp sp,0" || theirs.starts_with("c.lui") && theirs.ends_with(",0x0")) {
        return Some("objdump decodes the reserved immediate 0");
    }
    None
}

/// Numbers as signed decimal ones, and the last operand of a branch relative, as llvm-mc prints them.
fn as_llvm(text: &str) -> String {
    let number = |operand: &str| -> Option<i64> {
        match operand.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok().map(|value| value as i64),
            None => operand.parse().ok(),
        }
    };
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
    let operands: Vec<String> = operands
        .split(',')
        .map(|operand| {
            let operand = operand.trim();
            let operand = operand.strip_prefix("0(").map_or(operand.to_owned(), |rest| format!("({rest}"));
            number(&operand).map_or(operand, |value| value.to_string())
        })
        .collect();
    format!("{mnemonic} {}", operands.join(",")).trim_end().to_owned()
}

/// What llvm-mc makes of each word, or `None`.
fn llvm_texts(program: &str, words: &[u32]) -> Result<Vec<Option<String>>, String> {
    let mut input = String::new();
    for word in words {
        let bytes = word.to_le_bytes();
        let bytes: Vec<String> = bytes[..length(*word)].iter().map(|byte| format!("{byte:#04x}")).collect();
        let _ = writeln!(input, "{}", bytes.join(" "));
    }
    // With encodings shown, each line tells which word it belongs to.
    let arguments = ["--disassemble", "-triple=riscv64", "-M", "no-aliases", "-show-encoding", "-mattr"];
    let mut arguments = arguments.to_vec();
    arguments.push(LLVM_ATTRIBUTES);
    let output = run(program, &arguments, Some(input))?;
    let mut found = BTreeMap::new();
    for line in output.lines() {
        let Some((text, encoding)) = line.split_once("# encoding: [") else {
            continue;
        };
        let mut word = 0u32;
        for (index, byte) in encoding.trim_end_matches(']').split(',').enumerate() {
            let byte = u32::from_str_radix(byte.trim().trim_start_matches("0x"), 16).map_err(|e| e.to_string())?;
            word |= byte << (8 * index);
        }
        found.insert(word, as_llvm(&normal(text)));
    }
    Ok(words.iter().map(|word| found.get(word).cloned()).collect())
}

#[derive(Default)]
struct Report {
    counts: BTreeMap<&'static str, usize>,
    failures: Vec<String>,
}

impl Report {
    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }
}

/// Disassembly of all words by objdump, in the order of `words`.
fn objdump_texts(options: &Options, directory: &std::path::Path, words: &[u32]) -> Result<Vec<String>, String> {
    let (source, object) = (directory.join("words.s"), directory.join("words.o"));
    let mut text = String::new();
    for word in words {
        let _ = writeln!(text, ".insn {}, {word:#x}", length(*word));
    }
    std::fs::write(&source, text).map_err(|error| format!("{}: {error}", source.display()))?;
    let (source, object) = (source.to_string_lossy(), object.to_string_lossy());
    run(&options.assembler, &[&format!("-march={AS_ARCH}"), &source, "-o", &object], None)?;
    let output = run(&options.objdump, &["-d", "-z", "-M", "no-aliases", &object], None)?;
    let lines = objdump_lines(&output);
    let mut address = 0;
    words
        .iter()
        .map(|word| {
            let text = lines.get(&address).cloned().ok_or_else(|| format!("objdump has no line at {address:#x}"));
            address += length(*word) as u64;
            text
        })
        .collect()
}

fn check_disassembler(
    options: &Options,
    directory: &std::path::Path,
    words: &[u32],
    report: &mut Report,
) -> Result<HashSet<u32>, String> {
    let all = ExtensionSet::known();
    let mut agreed = HashSet::new();
    let theirs = objdump_texts(options, directory, words)?;
    let llvm = match &options.llvm_mc {
        Some(program) => Some(llvm_texts(program, words)?),
        None => None,
    };
    let mut address = 0;
    for (index, (&word, theirs)) in words.iter().zip(&theirs).enumerate() {
        let ours = disassemble(word, address, &all);
        let relative = disassemble(word, 0, &all);
        address += length(word) as u64;
        if ours == *theirs {
            agreed.insert(word);
            report.count(if is_data(&ours) { "objdump agrees: not an instruction" } else { "objdump agrees" });
            continue;
        }
        if let Some(reason) = tolerated(word, &ours, theirs) {
            report.count(reason);
            continue;
        }
        match llvm.as_ref().map(|llvm| &llvm[index]) {
            // llvm-mc prints the dynamic rounding mode of some instructions.
            Some(Some(text)) if text.trim_end_matches(",dyn") == as_llvm(&relative).trim_end_matches(",dyn") => {
                report.count("objdump does not, llvm-mc agrees")
            }
            Some(None) if is_data(&ours) => report.count("objdump does not, llvm-mc agrees: not an instruction"),
            other => {
                report.failures.push(format!("{word:#010x}: ours '{ours}', objdump '{theirs}', llvm-mc {other:?}"));
            }
        }
    }
    Ok(agreed)
}

/// Assembles what both disassemblers printed alike, with both assemblers.
fn check_assembler(
    options: &Options,
    directory: &std::path::Path,
    words: &[u32],
    agreed: &HashSet<u32>,
    report: &mut Report,
) -> Result<(), String> {
    let all = ExtensionSet::known();
    let mut source = String::new();
    let mut expected = Vec::new();
    for &word in words {
        let Some((opcode, _)) = decode(word, &all) else {
            continue;
        };
        let text = disassemble(word, expected.len() as u64, &all);
        if is_data(&text) || !agreed.contains(&word) || !is_plain(opcode, &text) {
            continue;
        }
        source.push_str(&text);
        source.push('\n');
        expected.extend_from_slice(&word.to_le_bytes()[..length(word)]);
        report.count("instructions given to both assemblers");
    }
    let ours = assemble(&source, 0, &all).map_err(|error| format!("our assembler: {error}"))?;
    let (path, object, binary) = (directory.join("text.s"), directory.join("text.o"), directory.join("text.bin"));
    let header = ".option norelax\n.option norvc\n";
    // Without its `.option rvc` the assembler does not accept compressed mnemonics, with it compresses others.
    let mut with_options = String::from(header);
    for line in source.lines() {
        if line.starts_with("c.") {
            let _ = writeln!(with_options, ".option rvc\n{line}\n.option norvc");
        } else {
            let _ = writeln!(with_options, "{line}");
        }
    }
    std::fs::write(&path, with_options).map_err(|error| format!("{}: {error}", path.display()))?;
    let (path, object) = (path.to_string_lossy(), object.to_string_lossy());
    run(&options.assembler, &[&format!("-march={AS_ARCH}"), &path, "-o", &object], None)?;
    let objcopy = options.objdump.replace("objdump", "objcopy");
    run(&objcopy, &["-O", "binary", "-j", ".text", &object, &binary.to_string_lossy()], None)?;
    let theirs = std::fs::read(&binary).map_err(|error| format!("{}: {error}", binary.display()))?;
    for (name, bytes) in [("our assembler", &ours.bytes), ("as", &theirs)] {
        if *bytes != expected {
            let at = bytes.iter().zip(&expected).position(|(a, b)| a != b).unwrap_or(bytes.len().min(expected.len()));
            report.failures.push(format!("{name} differs at {at:#x} of {:#x} bytes", expected.len()));
        }
    }
    Ok(())
}

/// Whether binutils' assembler takes the text for one instruction: it has no HINTs in compressed syntax, and relocates
/// what has a target.
fn is_plain(opcode: Opcode, text: &str) -> bool {
    let row = opcode.row();
    let hint = row.pattern.length == 2 && (text.contains("zero") || text.contains(",0x0") || text.ends_with(",0"));
    !hint && !matches!(row.flow, cpu::isa::Flow::Branch | cpu::isa::Flow::Jump)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("disassembly_check: {error}");
            return ExitCode::from(2);
        }
    };
    let directory = std::env::temp_dir().join(format!("disassembly-check-{}", std::process::id()));
    let words = words(&options);
    let mut report = Report::default();
    let result = std::fs::create_dir_all(&directory)
        .map_err(|error| format!("{}: {error}", directory.display()))
        .and_then(|()| check_disassembler(&options, &directory, &words, &mut report))
        .and_then(|agreed| check_assembler(&options, &directory, &words, &agreed, &mut report));
    // What is left of the temporary files harms nobody.
    let _ = std::fs::remove_dir_all(&directory);
    println!("{} words", words.len());
    for (what, count) in &report.counts {
        println!("{count:8} {what}");
    }
    for failure in report.failures.iter().take(60) {
        println!("DIFFERENCE {failure}");
    }
    if let Err(error) = result {
        eprintln!("disassembly_check: {error}");
        return ExitCode::FAILURE;
    }
    println!("{} differences", report.failures.len());
    if report.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
