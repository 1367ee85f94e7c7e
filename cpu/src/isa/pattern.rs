//! Bit pictures of encodings, parsed at compile time.
//!
//! A picture is written as in the tables of the RISC-V manuals, most significant bit first:
//!
//! | token | meaning |
//! |---|---|
//! | `0110011` | fixed bits |
//! | `rd` `rs1` `rs2` `rs3` | a register, 5 bits |
//! | `rd'` `rs1'` `rs2'` | one of `x8`–`x15`, 3 bits |
//! | `rd/rs1` | one field for two operands |
//! | `rm` | rounding mode, 3 bits; the reserved modes 5 and 6 do not match |
//! | `imm[20\|10:1\|11]` | bits of the signed immediate; its highest bit is the sign |
//! | `uimm[5:0]` `shamt[5:0]` `csr[11:0]` | bits of the unsigned immediate |
//! | `nzimm[..]` `nzuimm[..]` `nzshamt[..]` | the same, but the whole immediate is not 0 |
//! | `fm` `pred` `succ` | bits 11:8, 7:4 and 3:0 of the immediate |
//! | `zimm` | a 5-bit immediate in place of `rs1` |
//! | `aq` `rl` | ordering bits of an atomic |
//! | `rd!=0` `rd!={0,2}` `rd!=odd` | values that do not match |
//!
//! Anything else, and a picture that has neither 16 nor 32 bits, does not compile. Decoding and encoding both come from
//! the parsed [`Pattern`].

use super::Insn;

/// An operand of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operand {
    /// Destination register.
    Rd,
    /// First source register.
    Rs1,
    /// Second source register.
    Rs2,
    /// Third source register.
    Rs3,
    /// Rounding mode.
    Rm,
    /// Immediate.
    Imm,
    /// Acquire bit.
    Aq,
    /// Release bit.
    Rl,
}

impl Operand {
    const ALL: [Operand; 8] =
        [Operand::Rd, Operand::Rs1, Operand::Rs2, Operand::Rs3, Operand::Rm, Operand::Imm, Operand::Aq, Operand::Rl];
    const COUNT: usize = Self::ALL.len();

    /// The name that the manuals give it.
    pub const fn name(self) -> &'static str {
        match self {
            Operand::Rd => "rd",
            Operand::Rs1 => "rs1",
            Operand::Rs2 => "rs2",
            Operand::Rs3 => "rs3",
            Operand::Rm => "rm",
            Operand::Imm => "immediate",
            Operand::Aq => "aq",
            Operand::Rl => "rl",
        }
    }
}

/// A run of bits of the encoding that holds a run of bits of an operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The operand.
    pub operand: Operand,
    /// Lowest bit in the encoding.
    pub word_bit: u8,
    /// Number of bits.
    pub width: u8,
    /// Lowest bit in the operand.
    pub operand_bit: u8,
    /// Holds a register number less 8 (the `'` registers of the C extension).
    pub compressed: bool,
}

const MAX_PIECES: usize = 12;

/// Operands that have a fixed value, because a compressed instruction implies them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    /// Destination register.
    pub rd: i32,
    /// First source register.
    pub rs1: i32,
    /// Second source register.
    pub rs2: i32,
    /// Immediate.
    pub imm: i32,
}

impl Fixed {
    /// None: all zero.
    pub const NONE: Fixed = Fixed { rd: 0, rs1: 0, rs2: 0, imm: 0 };
}

/// A parsed bit picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The fixed bits.
    pub mask: u32,
    /// Their values.
    pub value: u32,
    /// Length of the encoding in bytes: 2 or 4.
    pub length: u8,
    pieces: [Piece; MAX_PIECES],
    piece_count: u8,
    /// For each operand, the set of small values that do not match.
    excluded: [u32; Operand::COUNT],
    /// Number of bits of a signed immediate; 0 if it is unsigned.
    signed_bits: u8,
    fixed: Fixed,
}

/// The operand that an encoding cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the encoding has no room for this {}", .0.name())]
pub struct Unencodable(pub Operand);

impl Pattern {
    /// Parses a picture. Evaluated at compile time, where a panic is a compile error.
    pub const fn parse(picture: &str, fixed: Fixed) -> Pattern {
        let text = picture.as_bytes();
        let length = if width_of(text) == 16 {
            2
        } else if width_of(text) == 32 {
            4
        } else {
            panic!("a bit picture has 16 or 32 bits")
        };
        let mut pattern = Pattern {
            mask: 0,
            value: 0,
            length,
            pieces: [Piece { operand: Operand::Rd, word_bit: 0, width: 0, operand_bit: 0, compressed: false };
                MAX_PIECES],
            piece_count: 0,
            excluded: [0; Operand::COUNT],
            signed_bits: 0,
            fixed,
        };
        let mut bit = length as u32 * 8;
        let mut at = 0;
        while at < text.len() {
            if text[at] == b' ' {
                at += 1;
                continue;
            }
            let end = token_end(text, at);
            bit -= pattern.parse_token(text, at, end, bit);
            at = end;
        }
        pattern
    }

    /// Parses one token whose highest bit is below `top`; its width.
    const fn parse_token(&mut self, text: &[u8], start: usize, end: usize, top: u32) -> u32 {
        let width = token_width(text, start, end);
        let low = top - width;
        if text[start] == b'0' || text[start] == b'1' {
            let mut at = start;
            while at < end {
                self.mask |= 1 << (top - 1 - (at - start) as u32);
                self.value |= ((text[at] - b'0') as u32) << (top - 1 - (at - start) as u32);
                at += 1;
            }
            return width;
        }
        if let Some(bracket) = find(text, start, end, b'[') {
            self.parse_immediate(text, start, bracket, end, top);
            return width;
        }
        let names_end = match find(text, start, end, b'!') {
            Some(at) => at,
            None => end,
        };
        let excluded = parse_excluded(text, names_end, end);
        let mut name = start;
        while name < names_end {
            let name_end = match find(text, name, names_end, b'/') {
                Some(at) => at,
                None => names_end,
            };
            let compressed = text[name_end - 1] == b'\'';
            let base_end = if compressed { name_end - 1 } else { name_end };
            let (operand, operand_bit) = if is(text, name, base_end, "rd") {
                (Operand::Rd, 0)
            } else if is(text, name, base_end, "rs1") || is(text, name, base_end, "zimm") {
                (Operand::Rs1, 0)
            } else if is(text, name, base_end, "rs2") {
                (Operand::Rs2, 0)
            } else if is(text, name, base_end, "rs3") {
                (Operand::Rs3, 0)
            } else if is(text, name, base_end, "rm") {
                self.excluded[Operand::Rm as usize] = 1 << 5 | 1 << 6;
                (Operand::Rm, 0)
            } else if is(text, name, base_end, "fm") {
                (Operand::Imm, 8)
            } else if is(text, name, base_end, "pred") {
                (Operand::Imm, 4)
            } else if is(text, name, base_end, "succ") {
                (Operand::Imm, 0)
            } else if is(text, name, base_end, "aq") {
                (Operand::Aq, 0)
            } else if is(text, name, base_end, "rl") {
                (Operand::Rl, 0)
            } else {
                panic!("unknown field in a bit picture")
            };
            self.excluded[operand as usize] |= excluded;
            self.push(Piece { operand, word_bit: low as u8, width: width as u8, operand_bit, compressed });
            name = name_end + 1;
        }
        width
    }

    /// Parses `name[hi:lo|bit|…]`.
    const fn parse_immediate(&mut self, text: &[u8], start: usize, bracket: usize, end: usize, top: u32) {
        let mut name = start;
        if text[name] == b'n' && text[name + 1] == b'z' {
            self.excluded[Operand::Imm as usize] |= 1;
            name += 2;
        }
        let signed = is(text, name, bracket, "imm");
        if !(signed
            || is(text, name, bracket, "uimm")
            || is(text, name, bracket, "shamt")
            || is(text, name, bracket, "csr"))
        {
            panic!("unknown immediate in a bit picture");
        }
        if text[end - 1] != b']' {
            panic!("an immediate ends with a bracket");
        }
        let mut bit = top;
        let mut at = bracket + 1;
        while at < end {
            let (high, low, next) = parse_range(text, at);
            let width = high - low + 1;
            bit -= width;
            self.push(Piece {
                operand: Operand::Imm,
                word_bit: bit as u8,
                width: width as u8,
                operand_bit: low as u8,
                compressed: false,
            });
            if signed && high as u8 + 1 > self.signed_bits {
                self.signed_bits = high as u8 + 1;
            }
            at = next;
        }
    }

    const fn push(&mut self, piece: Piece) {
        self.pieces[self.piece_count as usize] = piece;
        self.piece_count += 1;
    }

    /// The pieces of the operands.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces[..self.piece_count as usize]
    }

    /// Whether the encoding has a field for `operand`.
    pub fn has(&self, operand: Operand) -> bool {
        self.pieces().iter().any(|piece| piece.operand == operand)
    }

    /// The operands that the encoding has no field for.
    pub fn implied(&self) -> Fixed {
        self.fixed
    }

    /// Whether two operands have one field.
    pub fn shares(&self, a: Operand, b: Operand) -> bool {
        let field = |operand| self.pieces().iter().find(|piece| piece.operand == operand).map(|piece| piece.word_bit);
        field(a).is_some() && field(a) == field(b)
    }

    /// Whether an encoding may match this pattern and `other`, constraints aside.
    pub const fn overlaps(&self, other: &Pattern) -> bool {
        self.length == other.length && (self.value ^ other.value) & self.mask & other.mask == 0
    }

    /// The operands of `word` if it matches.
    pub fn decode(&self, word: u32) -> Option<Insn> {
        if word & self.mask != self.value {
            return None;
        }
        let mut operands = [0u32; Operand::COUNT];
        operands[Operand::Rd as usize] = self.fixed.rd as u32;
        operands[Operand::Rs1 as usize] = self.fixed.rs1 as u32;
        operands[Operand::Rs2 as usize] = self.fixed.rs2 as u32;
        operands[Operand::Imm as usize] = self.fixed.imm as u32;
        for piece in self.pieces() {
            let bits = word >> piece.word_bit & ((1 << piece.width) - 1);
            let bias = if piece.compressed { 8 } else { 0 };
            operands[piece.operand as usize] |= (bits << piece.operand_bit) + bias;
        }
        let barred = |(&value, &excluded): (&u32, &u32)| value < 32 && excluded >> value & 1 != 0;
        if operands.iter().zip(&self.excluded).any(barred) {
            return None;
        }
        let mut imm = operands[Operand::Imm as usize] as i32;
        if self.signed_bits != 0 {
            let shift = 32 - u32::from(self.signed_bits);
            imm = imm << shift >> shift;
        }
        Some(Insn {
            raw: word,
            imm,
            rd: operands[Operand::Rd as usize] as u8,
            rs1: operands[Operand::Rs1 as usize] as u8,
            rs2: operands[Operand::Rs2 as usize] as u8,
            rs3: operands[Operand::Rs3 as usize] as u8,
            rm: operands[Operand::Rm as usize] as u8,
            index: 0,
            offset: 0,
        })
    }

    /// The encoding of `insn`'s operands. The ordering bits are taken from `insn.raw`.
    ///
    /// # Errors
    /// The first operand that has no place in the encoding: out of range, misaligned, excluded, or another value than
    /// the fixed one.
    pub fn encode(&self, insn: &Insn) -> Result<u32, Unencodable> {
        let mut word = self.value;
        for piece in self.pieces() {
            let operand = operand_of(insn, piece.operand);
            let bias = if piece.compressed { 8 } else { 0 };
            let bits = operand.wrapping_sub(bias) >> piece.operand_bit & ((1 << piece.width) - 1);
            word = word & !(((1 << piece.width) - 1) << piece.word_bit) | bits << piece.word_bit;
        }
        // What does not come back did not fit.
        match self.decode(word) {
            Some(decoded) => Operand::ALL
                .into_iter()
                // Without an ordering field its bits are others' bits.
                .filter(|&operand| !matches!(operand, Operand::Aq | Operand::Rl) || self.has(operand))
                .find(|&operand| operand_of(&decoded, operand) != operand_of(insn, operand))
                .map_or(Ok(word), |operand| Err(Unencodable(operand))),
            None => {
                let barred = |&operand: &Operand| {
                    let value = operand_of(insn, operand);
                    value < 32 && self.excluded[operand as usize] >> value & 1 != 0
                };
                Err(Unencodable(Operand::ALL.into_iter().find(barred).unwrap_or(Operand::Imm)))
            }
        }
    }
}

fn operand_of(insn: &Insn, operand: Operand) -> u32 {
    match operand {
        Operand::Rd => insn.rd.into(),
        Operand::Rs1 => insn.rs1.into(),
        Operand::Rs2 => insn.rs2.into(),
        Operand::Rs3 => insn.rs3.into(),
        Operand::Rm => insn.rm.into(),
        Operand::Imm => insn.imm as u32,
        Operand::Aq => insn.aq().into(),
        Operand::Rl => insn.rl().into(),
    }
}

const fn token_end(text: &[u8], start: usize) -> usize {
    let mut at = start;
    while at < text.len() && text[at] != b' ' {
        at += 1;
    }
    at
}

const fn find(text: &[u8], start: usize, end: usize, byte: u8) -> Option<usize> {
    let mut at = start;
    while at < end {
        if text[at] == byte {
            return Some(at);
        }
        at += 1;
    }
    None
}

const fn is(text: &[u8], start: usize, end: usize, name: &str) -> bool {
    let name = name.as_bytes();
    if end - start != name.len() {
        return false;
    }
    let mut at = 0;
    while at < name.len() {
        if text[start + at] != name[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// The number of bits that all tokens have.
const fn width_of(text: &[u8]) -> u32 {
    let mut width = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at] == b' ' {
            at += 1;
            continue;
        }
        let end = token_end(text, at);
        width += token_width(text, at, end);
        at = end;
    }
    width
}

/// The number of bits of one token.
const fn token_width(text: &[u8], start: usize, end: usize) -> u32 {
    if text[start] == b'0' || text[start] == b'1' {
        let mut at = start;
        while at < end {
            if text[at] != b'0' && text[at] != b'1' {
                panic!("fixed bits are 0 or 1");
            }
            at += 1;
        }
        return (end - start) as u32;
    }
    if let Some(bracket) = find(text, start, end, b'[') {
        let mut width = 0;
        let mut at = bracket + 1;
        while at < end {
            let (high, low, next) = parse_range(text, at);
            width += high - low + 1;
            at = next;
        }
        return width;
    }
    let name_end = match (find(text, start, end, b'!'), find(text, start, end, b'/')) {
        (_, Some(at)) | (Some(at), None) => at,
        (None, None) => end,
    };
    if text[name_end - 1] == b'\'' || is(text, start, name_end, "rm") {
        3
    } else if is(text, start, name_end, "aq") || is(text, start, name_end, "rl") {
        1
    } else if is(text, start, name_end, "fm") || is(text, start, name_end, "pred") || is(text, start, name_end, "succ")
    {
        4
    } else {
        5
    }
}

/// Parses `hi:lo` or `bit` and the `|` or `]` after it: high, low and where the next one starts.
const fn parse_range(text: &[u8], start: usize) -> (u32, u32, usize) {
    let (high, mut at) = parse_number(text, start);
    let mut low = high;
    if text[at] == b':' {
        (low, at) = parse_number(text, at + 1);
    }
    if text[at] != b'|' && text[at] != b']' || low > high || high > 31 {
        panic!("bad range in a bit picture");
    }
    (high, low, at + 1)
}

/// Parses a decimal number: its value and where it ends.
const fn parse_number(text: &[u8], start: usize) -> (u32, usize) {
    let mut at = start;
    let mut number = 0;
    while at < text.len() && text[at].is_ascii_digit() {
        number = number * 10 + (text[at] - b'0') as u32;
        at += 1;
    }
    if at == start {
        panic!("a number is missing in a bit picture");
    }
    (number, at)
}

/// Parses `!=n`, `!={n,n}`, `!=odd` or nothing, to a set.
const fn parse_excluded(text: &[u8], start: usize, end: usize) -> u32 {
    if start == end {
        return 0;
    }
    if text[start + 1] != b'=' {
        panic!("a constraint starts with !=");
    }
    let mut at = start + 2;
    let braces = text[at] == b'{';
    if is(text, at, end, "odd") {
        return 0xaaaa_aaaa;
    }
    if braces {
        at += 1;
    }
    let mut set = 0;
    loop {
        let (number, next) = parse_number(text, at);
        set |= 1 << number;
        at = next;
        if at < end && braces && text[at] == b',' {
            at += 1;
        } else {
            break;
        }
    }
    if braces {
        if text[at] != b'}' {
            panic!("a set ends with a brace");
        }
        at += 1;
    }
    if at != end {
        panic!("a constraint has something behind it");
    }
    set
}
