//! The decoder: finds the row that an encoding belongs to.
//!
//! Rows are sorted into buckets at compile time by the bits that tell most of them apart; a bucket lists the rows that
//! specialise another one first, so that the first match whose extensions are on is the right one.

use super::{Insn, Opcode, ROWS};
use crate::extension::ExtensionSet;

/// A row in a bucket.
#[derive(Clone, Copy)]
struct Entry {
    mask: u32,
    value: u32,
    opcode: Opcode,
}

/// Encodings of 32 bits by major opcode and `funct3`.
const STANDARD: usize = 0;
/// Encodings of 32 bits with the major opcode OP-FP, whose `funct3` is the rounding mode, by `funct7`.
const FLOAT: usize = STANDARD + 256;
/// Encodings of 16 bits by quadrant and `funct3`.
const COMPRESSED: usize = FLOAT + 128;
const BUCKETS: usize = COMPRESSED + 32;

const OP_FP: u32 = 0b10100;

/// The bucket of an encoding.
const fn bucket(word: u32) -> usize {
    let index = if word & 3 != 3 {
        COMPRESSED as u32 + ((word & 3) << 3 | word >> 13 & 7)
    } else if word >> 2 & 31 == OP_FP {
        FLOAT as u32 + (word >> 25)
    } else {
        STANDARD as u32 + ((word >> 2 & 31) << 3 | word >> 12 & 7)
    };
    index as usize
}

/// The bits that the encodings of a bucket share: mask, value and length in bytes.
const fn bucket_bits(index: usize) -> (u32, u32, u8) {
    let bits = index as u32;
    if index >= COMPRESSED {
        let bits = bits - COMPRESSED as u32;
        (0xe003, (bits & 7) << 13 | bits >> 3, 2)
    } else if index >= FLOAT {
        (0xfe00_007f, (bits - FLOAT as u32) << 25 | OP_FP << 2 | 3, 4)
    } else {
        (0x707f, (bits & 7) << 12 | bits >> 3 << 2 | 3, 4)
    }
}

const fn belongs(row: usize, index: usize) -> bool {
    let pattern = &ROWS[row].pattern;
    let (mask, value, length) = bucket_bits(index);
    let unused = index < FLOAT && index >> 3 == OP_FP as usize;
    !unused && pattern.length == length && (pattern.value ^ value) & pattern.mask & mask == 0
}

#[allow(long_running_const_eval)]
const ENTRY_COUNT: usize = {
    let mut count = 0;
    let mut index = 0;
    while index < BUCKETS {
        let mut row = 0;
        while row < ROWS.len() {
            count += belongs(row, index) as usize;
            row += 1;
        }
        index += 1;
    }
    count
};

struct Buckets {
    starts: [u16; BUCKETS + 1],
    entries: [Entry; ENTRY_COUNT],
}

#[allow(long_running_const_eval)]
static TABLE: Buckets = {
    let mut table =
        Buckets { starts: [0; BUCKETS + 1], entries: [Entry { mask: 0, value: 0, opcode: Opcode(0) }; ENTRY_COUNT] };
    let mut count = 0;
    let mut index = 0;
    while index < BUCKETS {
        table.starts[index] = count as u16;
        let mut special = true;
        loop {
            let mut row = 0;
            while row < ROWS.len() {
                if ROWS[row].specialises.is_some() == special && belongs(row, index) {
                    let pattern = &ROWS[row].pattern;
                    table.entries[count] =
                        Entry { mask: pattern.mask, value: pattern.value, opcode: Opcode(row as u16) };
                    count += 1;
                }
                row += 1;
            }
            if !special {
                break;
            }
            special = false;
        }
        index += 1;
    }
    table.starts[BUCKETS] = count as u16;
    table
};

/// Decodes an instruction: its place in the table and its operands, or `None` if the encoding is reserved, unknown or
/// of an extension that is not in `extensions`. Of a 16-bit encoding (`word & 3 != 3`) only the low half counts.
pub fn decode(word: u32, extensions: &ExtensionSet) -> Option<(Opcode, Insn)> {
    let word = if word & 3 == 3 { word } else { word & 0xffff };
    let index = bucket(word);
    let entries = &TABLE.entries[usize::from(TABLE.starts[index])..usize::from(TABLE.starts[index + 1])];
    entries.iter().filter(|entry| word & entry.mask == entry.value).find_map(|entry| {
        let row = &ROWS[usize::from(entry.opcode.0)];
        if !row.is_in(extensions) {
            return None;
        }
        row.pattern.decode(word).map(|insn| (entry.opcode, insn))
    })
}
