//! Loading programs into guest RAM: kernels, firmware, test programs.
//!
//! A file is told apart by its content, never by its name: an ELF (`elf`), a RISC-V Linux `Image` or an EFI zboot
//! `vmlinuz` around one (`linux`), or a compressed form of these (`compression`). What is none of them is named
//! (`identify`) and refused.
//!
//! A [`Program`] is checked before it exists: its segments lie inside RAM and do not overlap, and its entry point is in
//! one of them. So [`Program::place`] cannot fail or write elsewhere.

mod compression;
mod elf;
mod identify;
mod kept;
mod linux;
#[cfg(test)]
pub(crate) mod test_files;

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use bus::Ram;

use crate::quantity::Bytes;
use compression::Compression;
pub use kept::Kept;

/// The largest file that is read: more than any kernel with its debug information.
const MAX_FILE_SIZE: u64 = 2 << 30;

/// How many wrappings (compression, zboot) are taken off: a compressed zboot file has three.
const MAX_NESTING: usize = 3;

/// Why a file cannot be loaded. Each message names the file, what was found and what would be accepted.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// The host's reason.
        source: std::io::Error,
    },
    /// The file is larger than any kernel.
    #[error("{file}: larger than {}, which no kernel is", Bytes(MAX_FILE_SIZE))]
    FileSize {
        /// The file.
        file: String,
    },
    /// The file is something else.
    #[error(
        "{file}: found {found}; accepted are a RISC-V 64-bit little-endian ELF program, a RISC-V Linux Image, an EFI \
         zboot vmlinuz, and any of these compressed by gzip, xz or zstd"
    )]
    Unknown {
        /// The file.
        file: String,
        /// What it is.
        found: String,
    },
    /// The compression is not supported.
    #[error("{file}: compressed by {method}, which is not supported; compress it by gzip, xz or zstd, or not at all")]
    Compression {
        /// The file.
        file: String,
        /// Name of the compression.
        method: String,
    },
    /// The compressed data are damaged or truncated.
    #[error("{file}: the {method} data are damaged or truncated: {reason}")]
    Damaged {
        /// The file.
        file: String,
        /// Name of the compression.
        method: &'static str,
        /// What the decompressor says.
        reason: String,
    },
    /// The decompressed program cannot fit.
    #[error("{file}: decompresses to more than the {} of RAM that the guest has; give it more with -m", Bytes(*.limit))]
    Expansion {
        /// The file.
        file: String,
        /// Bytes of RAM.
        limit: u64,
    },
    /// Compressed data in compressed data.
    #[error("{file}: compressed data inside of compressed data, more than {MAX_NESTING} layers deep")]
    Nesting {
        /// The file.
        file: String,
    },
    /// The headers contradict the file or themselves.
    #[error("{file}: {format}: {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// The format that it claims to have.
        format: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A segment is not in RAM.
    #[error(
        "{file}: loads at {start:#x}..{end:#x}, which is not in RAM ({:#x}..{:#x}, {}); {}", .ram.start, .ram.end,
        Bytes(.ram.end - .ram.start), outside_cure(*.start, .ram)
    )]
    OutsideRam {
        /// The file.
        file: String,
        /// First address, guest-physical.
        start: u64,
        /// End of the segment.
        end: u64,
        /// The guest's RAM.
        ram: Range<u64>,
    },
    /// Two segments share addresses.
    #[error("{file}: the segments at {first:#x} and {second:#x} overlap")]
    Overlap {
        /// The file.
        file: String,
        /// Address of one.
        first: u64,
        /// Address of the other.
        second: u64,
    },
    /// The program does not start in what is loaded.
    #[error("{file}: the entry point {entry:#x} is {reason}")]
    Entry {
        /// The file.
        file: String,
        /// The address.
        entry: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
}

fn outside_cure(start: u64, ram: &Range<u64>) -> &'static str {
    /// A program linked further behind the start of RAM is meant for other addresses.
    const MOST_RAM: u64 = 64 << 30;
    if start.checked_sub(ram.start).is_some_and(|offset| offset < MOST_RAM) {
        "give the guest more RAM with -m"
    } else {
        "link the program for the guest's RAM"
    }
}

/// Where programs may go.
#[derive(Clone, Debug)]
pub struct Room {
    /// The guest's RAM, guest-physical.
    pub ram: Range<u64>,
    /// Where a program that runs anywhere is put, at least: above what sits at the start of RAM. An ELF program that
    /// is linked for a place is loaded there, wherever that is in RAM.
    pub lowest: u64,
}

impl Room {
    /// The size of RAM in bytes.
    fn size(&self) -> u64 {
        self.ram.end - self.ram.start
    }
}

/// One contiguous part of a program in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    /// Guest-physical address.
    address: u64,
    /// The virtual address that its symbols refer to; the same unless the file says otherwise.
    virtual_address: u64,
    /// The bytes of the file to be copied there.
    file: Range<usize>,
    /// Size in memory; what the file does not fill is zero.
    size: u64,
}

/// What kind of program was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// An ELF executable.
    Elf,
    /// A RISC-V Linux `Image`.
    LinuxImage,
    /// Bytes without a header.
    Flat,
}

/// A program with its place in RAM.
#[derive(Debug)]
pub struct Program {
    format: Format,
    /// The file, unwrapped.
    data: Kept,
    /// Sorted by address, disjoint, inside RAM.
    segments: Vec<Segment>,
    entry: u64,
}

impl Program {
    /// What kind of program it is.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The guest-physical address of the first instruction.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// All addresses from the first to the last that the program occupies, memory that starts as zero included.
    pub fn range(&self) -> Range<u64> {
        let start = self.segments.first().map_or(self.entry, |segment| segment.address);
        let end = self.segments.last().map_or(self.entry, |segment| segment.address + segment.size);
        start..end
    }

    /// The guest-physical address of an ELF symbol, such as `tohost` or `begin_signature`; `None` if the program has
    /// no such symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        if self.format != Format::Elf {
            return None;
        }
        let value = elf::symbol(&self.data.bytes().ok()?, name)?;
        // A symbol may mark the end of a segment.
        let holds = |segment: &&Segment| value.wrapping_sub(segment.virtual_address) <= segment.size;
        let segment = self.segments.iter().find(holds);
        Some(segment.map_or(value, |segment| segment.address.wrapping_add(value.wrapping_sub(segment.virtual_address))))
    }

    /// Writes the program into `ram`, which is the RAM of the [`Room`] it was made for: the bytes of the file, and
    /// zeros where the program expects them.
    pub fn place(&self, ram: &Ram) {
        for segment in &self.segments {
            // The segments were checked against the room; another machine's RAM may be smaller, and then stays as it is.
            let file = segment.file.start as u64..segment.file.end as u64;
            let zeros = segment.address + segment.file.len() as u64..segment.address + segment.size;
            if let Err(error) = self.data.place(ram, file, segment.address) {
                tracing::error!("a program segment at {:#x} cannot be placed: {error}", segment.address);
            } else if clear(ram, zeros).is_none() {
                tracing::error!("a program segment at {:#x} is not in {ram:?}", segment.address);
            }
        }
    }

    /// Has its bytes wait for the next reset elsewhere than in memory ([`Kept::put_away`]).
    pub fn put_away(&self) {
        self.data.put_away();
    }

    /// A program that is nothing but its bytes, at [`Room::lowest`], where it also starts; it takes `size` bytes of
    /// memory, no less than it has.
    pub(crate) fn flat(file: &str, bytes: Vec<u8>, size: u64, room: &Room) -> Result<Self, ImageError> {
        let segment = Segment { address: room.lowest, virtual_address: room.lowest, file: 0..bytes.len(), size };
        Self::new(file, Format::Flat, bytes, vec![segment], room.lowest, room)
    }

    /// Checks the invariant of the type.
    fn new(
        file: &str,
        format: Format,
        data: Vec<u8>,
        mut segments: Vec<Segment>,
        entry: u64,
        room: &Room,
    ) -> Result<Self, ImageError> {
        segments.sort_by_key(|segment| segment.address);
        for segment in &segments {
            let (start, end) = (segment.address, segment.address.saturating_add(segment.size));
            if start < room.ram.start || end > room.ram.end {
                return Err(ImageError::OutsideRam { file: file.into(), start, end, ram: room.ram.clone() });
            }
        }
        for pair in segments.windows(2) {
            if pair[0].address + pair[0].size > pair[1].address {
                let (first, second) = (pair[0].address, pair[1].address);
                return Err(ImageError::Overlap { file: file.into(), first, second });
            }
        }
        let entry_error = |reason| ImageError::Entry { file: file.into(), entry, reason };
        // An instruction is at least two bytes long.
        let holds = |s: &Segment| entry >= s.address && entry - s.address < (s.file.len() as u64).saturating_sub(1);
        if !segments.iter().any(holds) {
            return Err(entry_error("outside of what is loaded"));
        }
        if !entry.is_multiple_of(2) {
            return Err(entry_error("odd"));
        }
        Ok(Self { format, data: data.into(), segments, entry })
    }
}

/// Makes guest-physical `range` zero; pages that are so already are only read, so that untouched RAM costs nothing.
fn clear(ram: &Ram, range: Range<u64>) -> Option<()> {
    let mut chunk = [0; 4096];
    let mut address = range.start;
    while address < range.end {
        let length = (range.end - address).min(chunk.len() as u64) as usize;
        ram.read(address, &mut chunk[..length])?;
        if chunk[..length].iter().any(|byte| *byte != 0) {
            chunk.fill(0);
            ram.write(address, &chunk[..length])?;
        }
        address += length as u64;
    }
    Some(())
}

/// Reads the kernel at `path`. See [`kernel_from_bytes`].
pub fn load_kernel(path: &Path, room: &Room) -> Result<Program, ImageError> {
    kernel_from_bytes(&path.display().to_string(), read_file(path)?, room)
}

/// Makes a kernel out of the content of a file: an ELF program, a Linux `Image`, an EFI zboot file, or one of these
/// compressed. `file` is its name, for messages.
pub fn kernel_from_bytes(file: &str, bytes: Vec<u8>, room: &Room) -> Result<Program, ImageError> {
    let bytes = unwrap(file, bytes, room.size())?;
    if elf::is_elf(&bytes) {
        return elf::load(file, bytes, room);
    }
    if linux::is_image(&bytes) {
        return linux::load(file, bytes, room);
    }
    Err(ImageError::Unknown { file: file.into(), found: identify::describe(&bytes) })
}

/// Reads the machine-mode firmware at `path`. See [`firmware_from_bytes`].
pub fn load_firmware(path: &Path, room: &Room) -> Result<Program, ImageError> {
    firmware_from_bytes(&path.display().to_string(), read_file(path)?, room)
}

/// Makes firmware out of the content of a file: an ELF program, or else bytes without a header that run from
/// [`Room::lowest`]. `file` is its name, for messages.
pub fn firmware_from_bytes(file: &str, bytes: Vec<u8>, room: &Room) -> Result<Program, ImageError> {
    let bytes = unwrap(file, bytes, room.size())?;
    if elf::is_elf(&bytes) {
        return elf::load(file, bytes, room);
    }
    if bytes.is_empty() {
        return Err(ImageError::Unknown { file: file.into(), found: identify::describe(&bytes) });
    }
    let size = bytes.len() as u64;
    Program::flat(file, bytes, size, room)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ImageError> {
    let file = || path.display().to_string();
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes: Vec<u8> = read().map_err(|source| ImageError::Read { file: file(), source })?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(ImageError::FileSize { file: file() });
    }
    Ok(bytes)
}

/// Takes off compression and zboot wrappings. No layer may be larger than `limit`, the guest's RAM.
fn unwrap(file: &str, mut bytes: Vec<u8>, limit: u64) -> Result<Vec<u8>, ImageError> {
    for _ in 0..MAX_NESTING {
        bytes = if let Some(compression) = Compression::of(&bytes) {
            compression.decompress(file, &bytes, limit)?
        } else if let Some(payload) = linux::zboot_payload(file, &bytes)? {
            bytes.drain(payload.end..);
            bytes.drain(..payload.start);
            bytes
        } else {
            return Ok(bytes);
        };
    }
    if Compression::of(&bytes).is_some() || linux::is_zboot(&bytes) {
        return Err(ImageError::Nesting { file: file.into() });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
