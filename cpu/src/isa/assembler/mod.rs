//! An assembler for test programs and firmware, in the dialect of binutils.
//!
//! Every row of the instruction table is accepted in its own syntax, beside the usual pseudo-instructions (`pseudo`),
//! labels (also numeric ones, `1:` with `1b` and `1f`), expressions with C's operators, `%hi`, `%lo`, `%pcrel_hi` and
//! `%pcrel_lo`, macros, conditions and repetitions. Sections are accepted and ignored: everything stays in the order of
//! the source, in one piece that starts at the origin.
//!
//! One pass over the source lays everything out, so sizes must be known when they are met: `li`, `.space`, `.align`,
//! `.if` and the like cannot use what is defined below them. What can be encoded at once is; the rest waits for the end
//! of the source, when all symbols are known.

mod expression;
mod operands;
mod pseudo;
mod source;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;

use self::expression::{ExpressionError, Place, evaluate};
use super::rv64i::{add, addi};
use super::syntax::{self, Suffix};
use super::{Flow, Insn, Instruction, Opcode, Operand};
use crate::extension::{Extension, ExtensionSet};

/// An assembled program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The address of the first byte.
    pub origin: u64,
    /// Labels and `.equ` symbols.
    pub symbols: BTreeMap<String, u64>,
}

/// What is wrong with a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct AssembleError {
    /// The line, counted from 1; of a macro's body, the line of the outermost use.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// Largest program, in bytes: a slip in a `.space` is told, not allocated.
const SIZE_LIMIT: usize = 256 << 20;
/// Most lines that macros and repetitions may make.
const LINE_LIMIT: usize = 10_000_000;
/// Deepest nesting of macros.
const MACRO_DEPTH_LIMIT: usize = 64;

/// Assembles `source` to run at address `origin`, with the instructions of `extensions`.
///
/// # Errors
/// The first mistake in the source.
pub fn assemble(source: &str, origin: u64, extensions: &ExtensionSet) -> Result<Program, AssembleError> {
    let mut assembler = Assembler::new(origin, *extensions);
    let mut in_comment = false;
    for (index, text) in source.lines().enumerate() {
        for statement in source::statements(text, &mut in_comment) {
            assembler.input.push_back(Line {
                number: index + 1,
                text: statement.trim().into(),
                within: None,
                depth: 0,
            });
        }
    }
    while let Some(line) = assembler.input.pop_front() {
        assembler.line(&line).map_err(|message| line.error(message))?;
    }
    if let Some(open) = assembler.conditions.last() {
        return Err(AssembleError { line: open.line, message: ".endif is missing".into() });
    }
    assembler.finish()
}

/// A statement and where it is from.
#[derive(Clone, Debug)]
struct Line {
    number: usize,
    text: Rc<str>,
    /// The macro whose body it is in, and its line there.
    within: Option<(Rc<str>, usize)>,
    depth: usize,
}

impl Line {
    fn error(&self, message: String) -> AssembleError {
        let message = match &self.within {
            Some((name, line)) => format!("{message} (in macro '{name}', line {line})"),
            None => message,
        };
        AssembleError { line: self.number, message }
    }
}

/// Symbols with their values.
#[derive(Debug, Default)]
struct Symbols {
    named: BTreeMap<String, i64>,
    /// Those defined by `.set` and `=`, which may change.
    variable: std::collections::BTreeSet<String>,
    /// Numeric labels in order: number and address.
    local: Vec<(u32, u64)>,
    /// The arguments of `%pcrel_hi` by the address of their instruction, with the number of numeric labels before it.
    pcrel_hi: BTreeMap<u64, (String, usize)>,
}

impl Symbols {
    fn value(&self, name: &str) -> Option<i64> {
        self.named.get(name).copied()
    }

    /// The nearest numeric label before or after `position`.
    fn local(&self, label: u32, position: usize, forward: bool) -> Option<u64> {
        let position = position.min(self.local.len());
        let found = |&&(number, _): &&(u32, u64)| number == label;
        let entry = if forward {
            self.local[position..].iter().find(found)
        } else {
            self.local[..position].iter().rfind(found)
        };
        entry.map(|&(_, address)| address)
    }
}

/// What waits for all symbols.
enum Deferred {
    Instruction { opcode: Opcode, suffix: String, operands: Vec<String> },
    Data { width: usize, expression: String },
}

struct Fixup {
    line: Line,
    /// Where in the bytes.
    at: usize,
    local_position: usize,
    what: Deferred,
}

struct Macro {
    parameters: Vec<(String, Option<String>)>,
    body: Vec<Line>,
}

struct Condition {
    line: usize,
    /// Lines are taken now.
    active: bool,
    /// A branch has been taken already, or none can be.
    done: bool,
}

struct Assembler {
    extensions: ExtensionSet,
    origin: u64,
    bytes: Vec<u8>,
    symbols: Symbols,
    fixups: Vec<Fixup>,
    input: VecDeque<Line>,
    lines_made: usize,
    macros: HashMap<String, Rc<Macro>>,
    expansions: usize,
    conditions: Vec<Condition>,
    mnemonics: HashMap<&'static str, Opcode>,
    /// Compressed forms by what they expand to.
    compressed: HashMap<Opcode, Vec<Opcode>>,
    compress: bool,
    options: Vec<bool>,
    /// The last bytes were an instruction: padding is, too.
    after_code: bool,
}

type Outcome<T = ()> = Result<T, String>;

impl Assembler {
    fn new(origin: u64, extensions: ExtensionSet) -> Self {
        let mut compressed: HashMap<Opcode, Vec<Opcode>> = HashMap::new();
        for opcode in Opcode::all() {
            let row = opcode.row();
            if let (Some(base), true) = (row.expands_to, row.is_in(&extensions)) {
                compressed.entry(base).or_default().push(opcode);
            }
        }
        Assembler {
            extensions,
            origin,
            bytes: Vec::new(),
            symbols: Symbols::default(),
            fixups: Vec::new(),
            input: VecDeque::new(),
            lines_made: 0,
            macros: HashMap::new(),
            expansions: 0,
            conditions: Vec::new(),
            mnemonics: Opcode::all().map(|opcode| (opcode.row().mnemonic, opcode)).collect(),
            compressed,
            compress: false,
            options: Vec::new(),
            after_code: false,
        }
    }

    fn here(&self) -> u64 {
        self.origin.wrapping_add(self.bytes.len() as u64)
    }

    fn place(&self) -> Place<'_> {
        Place { symbols: &self.symbols, here: self.here(), local_position: self.symbols.local.len() }
    }

    /// The value of an expression that must be known now.
    fn value(&self, text: &str) -> Outcome<i64> {
        evaluate(text, self.place()).map_err(|error| match error {
            ExpressionError::Undefined(name) => format!("'{name}' must be defined above this"),
            ExpressionError::Invalid(message) => message,
        })
    }

    fn line(&mut self, line: &Line) -> Outcome {
        let mut statement: &str = &line.text;
        let word = source::split_word(statement).0;
        if self.condition(word, source::split_word(statement).1, line)? {
            return Ok(());
        }
        while let Some((label, rest)) = source::split_label(statement) {
            self.label(label)?;
            statement = rest;
        }
        if statement.is_empty() {
            return Ok(());
        }
        if let Some((name, value)) = statement.split_once('=')
            && !name.trim().is_empty()
            && name.trim().chars().all(source::is_name)
            && !value.starts_with('=')
        {
            return self.assign(name.trim(), value, true);
        }
        let (word, rest) = source::split_word(statement);
        if let Some(definition) = self.macros.get(word).cloned() {
            return self.expand_macro(word, &definition, rest, line);
        }
        if word.starts_with('.') {
            return self.directive(word, rest, line);
        }
        self.statement(statement, line)
    }

    /// Handles conditional directives and lines that a condition leaves out.
    fn condition(&mut self, word: &str, rest: &str, line: &Line) -> Outcome<bool> {
        let active = self.conditions.last().is_none_or(|condition| condition.active);
        let truth = |assembler: &Self| -> Outcome<bool> {
            Ok(match word {
                ".ifdef" => assembler.symbols.value(rest).is_some(),
                ".ifndef" => assembler.symbols.value(rest).is_none(),
                ".ifb" => rest.is_empty(),
                ".ifnb" => !rest.is_empty(),
                ".ifc" | ".ifnc" => {
                    let operands = source::split_operands(rest);
                    let [a, b] = &operands[..] else {
                        return Err(format!("{word} takes two operands"));
                    };
                    (a == b) == (word == ".ifc")
                }
                _ => assembler.value(rest)? != 0,
            })
        };
        match word {
            ".if" | ".ifdef" | ".ifndef" | ".ifb" | ".ifnb" | ".ifc" | ".ifnc" => {
                let taken = active && truth(self)?;
                self.conditions.push(Condition { line: line.number, active: taken, done: taken || !active });
            }
            ".else" | ".elseif" => {
                let Some(condition) = self.conditions.last() else {
                    return Err(format!("{word} without .if"));
                };
                let taken = !condition.done && (word == ".else" || self.value(rest)? != 0);
                let condition = self.conditions.last_mut().expect("seen above");
                condition.active = taken;
                condition.done |= taken;
            }
            ".endif" => {
                self.conditions.pop().ok_or(".endif without .if")?;
            }
            _ => return Ok(!active),
        }
        Ok(true)
    }

    fn label(&mut self, label: &str) -> Outcome {
        let here = self.here();
        if label.starts_with(|c: char| c.is_ascii_digit()) {
            let number = label.parse().map_err(|_| format!("bad numeric label '{label}'"))?;
            self.symbols.local.push((number, here));
            return Ok(());
        }
        if self.symbols.named.insert(label.into(), here as i64).is_some() {
            return Err(format!("symbol '{label}' is already defined"));
        }
        Ok(())
    }

    fn assign(&mut self, name: &str, value: &str, variable: bool) -> Outcome {
        let value = self.value(value)?;
        let known = self.symbols.named.contains_key(name);
        if known && !(variable && self.symbols.variable.contains(name)) {
            return Err(format!("symbol '{name}' is already defined"));
        }
        if name.starts_with(|c: char| c.is_ascii_digit()) || name == "." {
            return Err(format!("'{name}' is no name for a symbol"));
        }
        if variable {
            self.symbols.variable.insert(name.into());
        }
        self.symbols.named.insert(name.into(), value);
        Ok(())
    }

    // Macros and repetitions.

    /// Takes the lines up to the `end` that belongs to this `start`.
    fn body(&mut self, starts: &[&str], end: &str) -> Outcome<Vec<Line>> {
        let mut body = Vec::new();
        let mut depth = 0usize;
        while let Some(line) = self.input.pop_front() {
            let word = source::split_word(&line.text).0;
            if word == end {
                if depth == 0 {
                    return Ok(body);
                }
                depth -= 1;
            } else if starts.contains(&word) {
                depth += 1;
            }
            body.push(line);
        }
        Err(format!("{end} is missing"))
    }

    fn define_macro(&mut self, rest: &str, line: &Line) -> Outcome {
        let (name, parameters) = source::split_word(rest.trim());
        let name = name.trim_end_matches(',').to_owned();
        if name.is_empty() {
            return Err(".macro needs a name".into());
        }
        let parameters = parameters.split([',', ' ', '\t']).filter(|parameter| !parameter.is_empty()).map(
            |parameter| match parameter.split_once('=') {
                Some((name, default)) => (name.to_owned(), Some(default.to_owned())),
                None => (parameter.trim_end_matches(":req").to_owned(), None),
            },
        );
        let parameters = parameters.collect();
        let body = self.body(&[".macro"], ".endm")?;
        let within = line.within.clone();
        let first = line.number;
        let body = body.into_iter().map(|line| Line { within: within.clone(), ..line }).collect::<Vec<_>>();
        if self.macros.insert(name.clone(), Rc::new(Macro { parameters, body })).is_some() {
            return Err(format!("macro '{name}' of line {first} is already defined"));
        }
        Ok(())
    }

    fn expand_macro(&mut self, name: &str, definition: &Macro, rest: &str, line: &Line) -> Outcome {
        let arguments = source::split_operands(rest);
        if arguments.len() > definition.parameters.len() {
            return Err(format!("macro '{name}' takes {} arguments", definition.parameters.len()));
        }
        let mut values = Vec::new();
        for (index, (parameter, default)) in definition.parameters.iter().enumerate() {
            let given = arguments.get(index).filter(|argument| !argument.is_empty()).or(default.as_ref());
            values.push((parameter.as_str(), given.map_or("", String::as_str)));
        }
        self.expansions += 1;
        let count = self.expansions.to_string();
        let name: Rc<str> = name.into();
        let lines = definition.body.iter().map(|body| Line {
            number: line.number,
            text: substitute(&body.text, &values, &count).into(),
            within: Some((name.clone(), body.number)),
            depth: line.depth + 1,
        });
        let lines: Vec<Line> = lines.collect();
        self.insert(lines, line)
    }

    /// Puts lines before all others.
    fn insert(&mut self, lines: Vec<Line>, line: &Line) -> Outcome {
        self.lines_made += lines.len();
        if line.depth >= MACRO_DEPTH_LIMIT {
            return Err("macros are nested too deeply".into());
        }
        if self.lines_made > LINE_LIMIT {
            return Err("macros and repetitions make too many lines".into());
        }
        for line in lines.into_iter().rev() {
            self.input.push_front(line);
        }
        Ok(())
    }

    fn repeat(&mut self, word: &str, rest: &str, line: &Line) -> Outcome {
        let body = self.body(&[".rept", ".irp"], ".endr")?;
        let operands = source::split_operands(rest);
        let mut lines = Vec::new();
        if word == ".rept" {
            let count = self.value(rest)?;
            let count = usize::try_from(count).map_err(|_| format!("cannot repeat {count} times"))?;
            if count.saturating_mul(body.len()) > LINE_LIMIT {
                return Err("macros and repetitions make too many lines".into());
            }
            for _ in 0..count {
                lines.extend(body.iter().cloned());
            }
        } else {
            let Some((name, values)) = operands.split_first() else {
                return Err(".irp needs a name".into());
            };
            for value in values {
                lines.extend(body.iter().map(|line| Line {
                    // `\@` stays for the macro around it.
                    text: substitute(&line.text, &[(name, value)], "\\@").into(),
                    ..line.clone()
                }));
            }
        }
        self.insert(lines, line)
    }

    // Directives.

    fn directive(&mut self, word: &str, rest: &str, line: &Line) -> Outcome {
        let operands = source::split_operands(rest);
        match word {
            ".macro" => self.define_macro(rest, line),
            ".rept" | ".irp" => self.repeat(word, rest, line),
            ".endm" | ".endr" => Err(format!("{word} without its start")),
            ".equ" | ".set" | ".equiv" => match &operands[..] {
                [name, value] => self.assign(name, value, word == ".set"),
                _ => Err(format!("{word} takes a name and a value")),
            },
            ".byte" => self.data(1, &operands, line),
            ".half" | ".short" | ".hword" | ".2byte" => self.data(2, &operands, line),
            ".word" | ".long" | ".int" | ".4byte" => self.data(4, &operands, line),
            ".dword" | ".quad" | ".8byte" => self.data(8, &operands, line),
            ".float" | ".double" => self.floats(word, &operands),
            ".ascii" | ".asciz" | ".string" => {
                for operand in &operands {
                    let bytes = source::string(operand).ok_or_else(|| format!("{operand} is no string"))?;
                    self.emit(&bytes, false)?;
                    if word != ".ascii" {
                        self.emit(&[0], false)?;
                    }
                }
                Ok(())
            }
            ".align" | ".p2align" => {
                let power = self.value(operands.first().map_or("", String::as_str))?;
                let power = u32::try_from(power).ok().filter(|&power| power < 32);
                self.align(1 << power.ok_or("the alignment is a power of two below 2^32")?)
            }
            ".balign" => {
                let alignment = self.value(operands.first().map_or("", String::as_str))?;
                match u64::try_from(alignment) {
                    Ok(alignment) if alignment.is_power_of_two() => self.align(alignment),
                    _ => Err("the alignment is a power of two".into()),
                }
            }
            ".space" | ".zero" | ".skip" => {
                let size = self.value(operands.first().map_or("", String::as_str))?;
                let fill = operands.get(1).map_or(Ok(0), |fill| self.value(fill))?;
                self.fill(size, fill as u8)
            }
            ".fill" => {
                let count = self.value(operands.first().map_or("", String::as_str))?;
                let size = operands.get(1).map_or(Ok(1), |size| self.value(size))?;
                let value = operands.get(2).map_or(Ok(0), |value| self.value(value))?;
                if !(0..=8).contains(&size) || !(0..=SIZE_LIMIT as i64).contains(&count) {
                    return Err(".fill takes a count, a size of up to 8 and a value".into());
                }
                for _ in 0..count {
                    self.emit(&value.to_le_bytes()[..size as usize], false)?;
                }
                Ok(())
            }
            ".org" => {
                let target = self.value(rest)?;
                let distance = target.wrapping_sub(self.here() as i64);
                if distance < 0 {
                    return Err(format!("{target:#x} is before the current address {:#x}", self.here()));
                }
                self.fill(distance, 0)
            }
            ".option" => self.option(rest),
            ".error" => Err(operands.first().cloned().unwrap_or_default().trim_matches('"').to_owned()),
            ".globl" | ".global" | ".local" | ".weak" | ".hidden" | ".text" | ".data" | ".bss" | ".rodata"
            | ".section" | ".type" | ".size" | ".file" | ".ident" | ".attribute" => Ok(()),
            _ => Err(format!("unknown directive '{word}'")),
        }
    }

    fn option(&mut self, option: &str) -> Outcome {
        match option {
            "rvc" if !self.extensions.contains(Extension::Zca) => {
                return Err(".option rvc without compressed instructions".into());
            }
            "rvc" => self.compress = true,
            "norvc" => self.compress = false,
            "push" => self.options.push(self.compress),
            "pop" => self.compress = self.options.pop().ok_or(".option pop without push")?,
            "relax" | "norelax" | "pic" | "nopic" => {}
            _ => return Err(format!("unknown option '{option}'")),
        }
        Ok(())
    }

    fn data(&mut self, width: usize, operands: &[String], line: &Line) -> Outcome {
        for operand in operands {
            let at = self.bytes.len();
            match evaluate(operand, self.place()) {
                Ok(value) => {
                    let bytes = data_bytes(value, width)?;
                    self.emit(&bytes[..width], false)?;
                }
                Err(ExpressionError::Undefined(_)) => {
                    self.defer(line, at, Deferred::Data { width, expression: operand.clone() });
                    self.emit(&[0; 8][..width], false)?;
                }
                Err(ExpressionError::Invalid(message)) => return Err(message),
            }
        }
        Ok(())
    }

    fn floats(&mut self, word: &str, operands: &[String]) -> Outcome {
        for operand in operands {
            let bad = |_| format!("'{operand}' is no floating-point number");
            if word == ".float" {
                self.emit(&operand.parse::<f32>().map_err(bad)?.to_le_bytes(), false)?;
            } else {
                self.emit(&operand.parse::<f64>().map_err(bad)?.to_le_bytes(), false)?;
            }
        }
        Ok(())
    }

    fn align(&mut self, alignment: u64) -> Outcome {
        let padding = self.here().wrapping_neg() & (alignment - 1);
        self.room(usize::try_from(padding).unwrap_or(usize::MAX))?;
        let half = padding & 3 == 2 && self.extensions.contains(Extension::Zca);
        if !self.after_code || padding & 3 != 0 && !half {
            return self.fill(padding as i64, 0);
        }
        if half {
            self.emit(&[1, 0], true)?;
        }
        for _ in 0..padding / 4 {
            self.emit(&0x13u32.to_le_bytes(), true)?;
        }
        Ok(())
    }

    fn fill(&mut self, size: i64, value: u8) -> Outcome {
        let size = usize::try_from(size).ok().filter(|&size| size <= SIZE_LIMIT);
        let size = size.ok_or("the size is negative or too large")?;
        self.room(size)?;
        self.bytes.resize(self.bytes.len() + size, value);
        self.after_code &= size == 0;
        Ok(())
    }

    fn room(&self, size: usize) -> Outcome {
        if self.bytes.len().saturating_add(size) > SIZE_LIMIT { Err("the program is too large".into()) } else { Ok(()) }
    }

    fn emit(&mut self, bytes: &[u8], code: bool) -> Outcome {
        self.room(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        self.after_code = code;
        Ok(())
    }

    fn defer(&mut self, line: &Line, at: usize, what: Deferred) {
        self.fixups.push(Fixup { line: line.clone(), at, local_position: self.symbols.local.len(), what });
    }

    // Instructions.

    /// An instruction or pseudo-instruction.
    fn statement(&mut self, statement: &str, line: &Line) -> Outcome {
        let (mnemonic, rest) = source::split_word(statement);
        let mnemonic = mnemonic.to_ascii_lowercase();
        let operands = source::split_operands(rest);
        if mnemonic == "li" {
            let [register, value] = &operands[..] else {
                return Err("li takes a register and a value".into());
            };
            if operands::integer_register(register).is_none() {
                return Err(format!("'{register}' is no integer register"));
            }
            let value = self.value(value)?;
            for text in pseudo::load_immediate(register, value) {
                self.plain(&text, true, line)?;
            }
            return Ok(());
        }
        match pseudo::expand(&mnemonic, &operands) {
            // The second of a pair refers to the first by its distance.
            Some(texts) => texts.iter().try_for_each(|text| self.plain(text, texts.len() == 1, line)),
            None => self.instruction(&mnemonic, operands, true, line),
        }
    }

    fn plain(&mut self, text: &str, compressible: bool, line: &Line) -> Outcome {
        let (mnemonic, rest) = source::split_word(text);
        self.instruction(mnemonic, source::split_operands(rest), compressible, line)
    }

    /// The row with this mnemonic, and its suffix.
    fn find<'a>(&self, mnemonic: &'a str) -> Option<(Opcode, &'a str)> {
        if let Some(&opcode) = self.mnemonics.get(mnemonic)
            && syntax::parse(opcode.row().syntax).0 != Some(Suffix::Number)
        {
            return Some((opcode, ""));
        }
        let (stem, suffix) = mnemonic.split_at(mnemonic.rfind('.')?);
        let opcode = *self.mnemonics.get(stem)?;
        let fits = match syntax::parse(opcode.row().syntax).0 {
            Some(Suffix::Ordering) => matches!(suffix, ".aq" | ".rl" | ".aqrl"),
            Some(Suffix::Number) => suffix[1..].parse::<u8>().is_ok_and(|number| suffix[1..] == number.to_string()),
            None => false,
        };
        fits.then_some((opcode, suffix))
    }

    fn instruction(&mut self, mnemonic: &str, operands: Vec<String>, compressible: bool, line: &Line) -> Outcome {
        let (opcode, suffix) = self.find(mnemonic).ok_or_else(|| format!("unknown instruction '{mnemonic}'"))?;
        let row = opcode.row();
        let missing = row.requires.iter().find(|&extension| !self.extensions.contains(extension));
        if let (Some(missing), false) = (missing, row.is_in(&self.extensions)) {
            return Err(format!("{mnemonic} needs extension {missing}"));
        }
        let at = self.bytes.len();
        for operand in &operands {
            if let Some(argument) = operand.strip_prefix("%pcrel_hi(").and_then(|rest| rest.strip_suffix(')')) {
                let entry = (argument.to_owned(), self.symbols.local.len());
                self.symbols.pcrel_hi.insert(self.here(), entry);
            }
        }
        match operands::parse(row, suffix, &operands, self.place()) {
            Ok(insn) => {
                let short = self.compress && compressible && !matches!(row.flow, Flow::Branch | Flow::Jump);
                let word = match short.then(|| self.compressed_form(opcode, &insn)).flatten() {
                    Some(word) => word,
                    None => encode(opcode, &insn)?,
                };
                let length = if word & 3 == 3 { 4 } else { 2 };
                self.emit(&word.to_le_bytes()[..length], true)
            }
            Err(ExpressionError::Undefined(_)) => {
                self.defer(line, at, Deferred::Instruction { opcode, suffix: suffix.into(), operands });
                self.emit(&[0; 4][..usize::from(row.pattern.length)], true)
            }
            Err(ExpressionError::Invalid(message)) => Err(message),
        }
    }

    /// The encoding of a compressed instruction that does the same. HINTs are left alone, but for `nop`.
    fn compressed_form(&self, opcode: Opcode, insn: &Insn) -> Option<u32> {
        let nop = opcode == addi::OPCODE && *insn == Insn::default();
        if insn.rd == 0 && opcode.row().flow == Flow::Next && opcode.row().pattern.has(Operand::Rd) && !nop {
            return None;
        }
        let (opcode, insn) = if opcode == addi::OPCODE && insn.imm == 0 && insn.rs1 != 0 {
            // A move: the compressed one is an addition to x0.
            (add::OPCODE, Insn { rs1: 0, rs2: insn.rs1, ..*insn })
        } else {
            (opcode, *insn)
        };
        self.compressed.get(&opcode)?.iter().find_map(|compressed| {
            let word = compressed.row().pattern.encode(&Insn { raw: 0, ..insn }).ok()?;
            (super::decode(word, &self.extensions)?.0 == *compressed).then_some(word)
        })
    }

    /// Encodes what waited for symbols.
    fn finish(mut self) -> Result<Program, AssembleError> {
        for fixup in &self.fixups {
            let here = self.origin.wrapping_add(fixup.at as u64);
            let place = Place { symbols: &self.symbols, here, local_position: fixup.local_position };
            let encoded = match &fixup.what {
                Deferred::Data { width, expression } => evaluate(expression, place)
                    .map_err(ExpressionError::message)
                    .and_then(|value| data_bytes(value, *width))
                    .map(|bytes| (bytes, *width)),
                Deferred::Instruction { opcode, suffix, operands } => {
                    let row = opcode.row();
                    operands::parse(row, suffix, operands, place)
                        .map_err(ExpressionError::message)
                        .and_then(|insn| encode(*opcode, &insn))
                        .map(|word| (u64::from(word).to_le_bytes(), usize::from(row.pattern.length)))
                }
            };
            let (bytes, width) = encoded.map_err(|message| fixup.line.error(message))?;
            self.bytes[fixup.at..fixup.at + width].copy_from_slice(&bytes[..width]);
        }
        let symbols = self.symbols.named.into_iter().map(|(name, value)| (name, value as u64)).collect();
        Ok(Program { bytes: self.bytes, origin: self.origin, symbols })
    }
}

fn encode(opcode: Opcode, insn: &Insn) -> Outcome<u32> {
    opcode.row().pattern.encode(insn).map_err(|error| {
        let value = match error.0 {
            Operand::Imm => format!("immediate {}", insn.imm),
            operand => operand.name().to_owned(),
        };
        format!("{} cannot encode this {value}", opcode.row().mnemonic)
    })
}

/// The little-endian bytes of a value that fits `width` bytes as a signed or as an unsigned number.
fn data_bytes(value: i64, width: usize) -> Outcome<[u8; 8]> {
    let bits = 8 * width as u32;
    let fits = width == 8 || (-(1i64 << (bits - 1))..1i64 << bits).contains(&value);
    if fits { Ok(value.to_le_bytes()) } else { Err(format!("{value:#x} does not fit {width} bytes")) }
}

/// Puts a macro's arguments in place of `\name`, and its count in place of `\@`.
fn substitute(text: &str, values: &[(&str, &str)], count: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('@') {
            result.push_str(count);
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix("()") {
            rest = after;
            continue;
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        match values.iter().find(|(name, _)| *name == &rest[..end]) {
            Some((_, value)) => {
                result.push_str(value);
                rest = &rest[end..];
            }
            None => result.push('\\'),
        }
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests;
