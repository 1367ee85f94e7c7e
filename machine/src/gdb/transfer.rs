//! Packets that read and write memory (`m`, `x`, `M` and `X`), taken as a whole: `load`, `restore` and `dump` consist of
//! them, and the protocol's crate, which takes everything byte by byte, would be what such a transfer waits for.
//!
//! Whatever is unusual about a packet is left to the crate, which does not know `x`: gdb 16 and newer read binary data by it.

use std::num::NonZeroUsize;

use super::target::{NO_MEMORY, Target};
use super::wire::PACKET_SIZE;

/// Most bytes that an answer to `m` holds: each is two digits, and around them are `$`, `#` and the checksum.
const MOST_READ: usize = (PACKET_SIZE - 4) / 2;

/// Most bytes that an answer to `x` holds: before them is a `b`, and each may need an escape.
const MOST_READ_BINARY: usize = (PACKET_SIZE - 5) / 2;

/// Says in the answer to `qSupported` that there is `x`, with a `b` before the data.
pub(super) const BINARY_FEATURE: &str = ";binary-upload+";

/// What a packet asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Read { address: u64, length: NonZeroUsize },
    ReadBinary { address: u64, length: usize },
    Write { address: u64, data: Vec<u8> },
}

/// Whether a packet, `$` and checksum included, reads or writes memory.
pub(super) fn is_transfer(packet: &[u8]) -> bool {
    matches!(packet, [b'$', b'm' | b'x' | b'M' | b'X', ..])
}

/// The packet by which the protocol tells which hart's memory a packet is about that it does not know.
pub(super) fn known_read(packet: &[u8]) -> Option<String> {
    match parse(packet)? {
        Request::ReadBinary { address, .. } => Some(format!("m{address:x},1")),
        _ => None,
    }
}

/// What a packet that reads or writes memory is answered.
pub(super) enum Answer {
    /// A packet's body.
    Text(String),
    /// What was read.
    Memory(Vec<u8>),
    /// What was read, as binary data.
    Binary(Vec<u8>),
}

/// The answer to a packet that reads or writes memory of a hart.
pub(super) fn answer(target: &mut Target<'_>, hart: usize, packet: &[u8]) -> Option<Answer> {
    let failure = || Answer::Text(format!("E{NO_MEMORY:02x}"));
    let mut read = |address, length| {
        let mut data = vec![0; length];
        let count = target.read_memory(hart, address, &mut data);
        data.truncate(count);
        Some(data).filter(|data| !data.is_empty())
    };
    Some(match parse(packet)? {
        Request::Read { address, length } => read(address, length.get()).map_or_else(failure, Answer::Memory),
        // Nothing is there to be read anywhere.
        Request::ReadBinary { length: 0, .. } => Answer::Binary(Vec::new()),
        Request::ReadBinary { address, length } => read(address, length).map_or_else(failure, Answer::Binary),
        Request::Write { address, data } => match target.write_memory(hart, address, &data) {
            Some(()) => Answer::Text("OK".into()),
            None => failure(),
        },
    })
}

/// Writes bytes as binary data, with escapes for those that have a meaning in a packet (gdb's manual, "Overview" of the
/// remote protocol).
pub(super) fn write_binary(text: &mut Vec<u8>, data: &[u8]) {
    for part in data.split_inclusive(|byte| b"#$}*".contains(byte)) {
        match part.split_last() {
            Some((last, before)) if b"#$}*".contains(last) => {
                text.extend_from_slice(before);
                text.extend_from_slice(&[b'}', last ^ 0x20]);
            }
            _ => text.extend_from_slice(part),
        }
    }
}

/// Writes bytes as pairs of digits. Where eight or more consist of one digit alone, they are a run: the digit, `*`, and
/// the number of repetitions plus 29 as a character (gdb's manual, "Overview" of the remote protocol). A debugger takes
/// longer to read the digits than they take to be made, and much of a memory is zero.
pub(super) fn write_digits(text: &mut Vec<u8>, data: &[u8]) {
    /// 96 digits: 97 repetitions are what a run can have at most.
    const MOST_WORDS: usize = 6;
    let (words, rest) = data.as_chunks::<8>();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        let [digit, other] = digits(word[0]);
        if digit == other && *word == [word[0]; 8] {
            let run = words[at..].iter().take(MOST_WORDS).take_while(|next| *next == word).count();
            // None of the six characters has a meaning of its own in a packet.
            text.extend_from_slice(&[digit, b'*', (16 * run - 1) as u8 + 29]);
            at += run;
        } else {
            text.extend_from_slice(word.map(digits).as_flattened());
            at += 1;
        }
    }
    text.extend(rest.iter().flat_map(|byte| digits(*byte)));
}

fn parse(packet: &[u8]) -> Option<Request> {
    let (kind, body) = packet.strip_prefix(b"$")?.split_first()?;
    let (body, _checksum) = body.split_at(body.len().checked_sub(3)?);
    let end = body.iter().position(|byte| *byte == b':').unwrap_or(body.len());
    let (header, data) = (std::str::from_utf8(&body[..end]).ok()?, body.get(end + 1..));
    let (address, length) = header.split_once(',')?;
    let (address, length) = (number(address)?, usize::try_from(number(length)?).ok()?);
    Some(match (kind, data) {
        (b'm', None) => {
            Request::Read { address, length: NonZeroUsize::new(length).filter(|length| length.get() <= MOST_READ)? }
        }
        (b'x', None) => Request::ReadBinary { address, length: length.min(MOST_READ_BINARY) },
        (b'M', Some(data)) => Request::Write { address, data: bytes(data).filter(|data| data.len() == length)? },
        (b'X', Some(data)) => Request::Write { address, data: unescape(data).filter(|data| data.len() == length)? },
        _ => return None,
    })
}

/// A number in hexadecimal digits, and nothing but digits.
fn number(text: &str) -> Option<u64> {
    let are_digits = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, 16).ok().filter(|_| are_digits)
}

fn digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

/// Bytes of pairs of digits.
fn bytes(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, []) = text.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8)).collect()
}

/// Binary data of a packet: the byte behind `}` has bit 5 inverted (gdb's manual, "Overview" of the remote protocol).
fn unescape(mut text: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::with_capacity(text.len());
    while let Some(at) = text.iter().position(|byte| *byte == b'}') {
        data.extend_from_slice(&text[..at]);
        data.push(text.get(at + 1)? ^ 0x20);
        text = &text[at + 2..];
    }
    data.extend_from_slice(text);
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: &[u8]) -> Vec<u8> {
        [b"$", body, b"#00"].concat()
    }

    /// What a debugger makes of runs.
    fn expand(text: &[u8]) -> Vec<u8> {
        let mut expanded = Vec::new();
        let mut text = text.iter();
        while let Some(&character) = text.next() {
            if character == b'*' {
                let repetitions = text.next().unwrap() - 29;
                let last = *expanded.last().unwrap();
                expanded.extend(std::iter::repeat_n(last, repetitions.into()));
            } else {
                expanded.push(character);
            }
        }
        expanded
    }

    #[test]
    fn memory_as_digits_and_runs() {
        let mut text = Vec::new();
        write_digits(&mut text, &[0, 0, 0, 0, 0, 0, 0, 0, 0x5a, 0xff]);
        assert_eq!(text, b"0*,5aff");
        // Runs of every length between other bytes, at every alignment.
        for length in 0..120 {
            for (byte, offset) in [(0, 0), (0x77, 3), (0xff, 8), (0x10, 5)] {
                let data = [vec![0x12; offset], vec![byte; length], vec![0x34; 9]].concat();
                text.clear();
                write_digits(&mut text, &data);
                assert!(text.iter().all(|character| (b' '..=b'|').contains(character) && !b"#$+-".contains(character)));
                assert_eq!(bytes(&expand(&text)), Some(data));
            }
        }
        text.clear();
        write_digits(&mut text, &[0; 4096]);
        assert!(text.len() < 4096 / 15, "{}", text.len());
    }

    #[test]
    fn memory_as_binary_data() {
        let data: Vec<u8> = (0..=255).chain(*b"}}##**$$").collect();
        let mut text = Vec::new();
        write_binary(&mut text, &data);
        assert!(text.iter().all(|byte| !b"#$*".contains(byte)));
        assert_eq!(text.len(), data.len() + 4 + 8);
        assert_eq!(unescape(&text), Some(data));
    }

    #[test]
    fn requests_in_all_forms() {
        let write = |data: &[u8]| Some(Request::Write { address: 0x8000_0000, data: data.to_vec() });
        let length = NonZeroUsize::new(16).unwrap();
        assert_eq!(parse(&packet(b"m80000000,10")), Some(Request::Read { address: 0x8000_0000, length }));
        assert_eq!(parse(&packet(b"x80000000,10")), Some(Request::ReadBinary { address: 0x8000_0000, length: 16 }));
        let most = Some(Request::ReadBinary { address: 0, length: MOST_READ_BINARY });
        assert_eq!(parse(&packet(b"x0,fffffff")), most, "an answer may be shorter");
        assert_eq!(known_read(&packet(b"xfff8,10")).as_deref(), Some("mfff8,1"));
        assert_eq!(parse(&packet(b"M80000000,2:0aFf")), write(b"\x0a\xff"));
        assert_eq!(parse(&packet(b"X80000000,4:a}\x03:\0")), write(b"a#:\0"));
        assert_eq!(parse(&packet(b"X80000000,0:")), write(b""));
        assert!(is_transfer(b"$m0,1#00") && !is_transfer(b"$qC#b4") && !is_transfer(b"$"));
    }

    #[test]
    fn what_is_unusual_is_left_alone() {
        for body in [
            "",
            "m",
            "m,",
            "m1",
            "m1,0",
            "m+1,1",
            "m1,1:",
            "mz,1",
            "m10000000000000000,1",
            "m0,fffffff",
            "M0,1:",
            "M0,1:0",
            "M0,1:0g",
            "M0,1:0000",
            "M0,1",
            "X0,2:a",
            "X0,1:}",
            "X0,1",
            "X0:1",
            "x0",
            "x0,1:",
            "g",
        ] {
            assert_eq!(parse(&packet(body.as_bytes())), None, "{body}");
        }
        for truncated in [&b"$"[..], b"", b"$m", b"$m#", b"m0,1#00"] {
            assert_eq!(parse(truncated), None);
        }
    }
}
