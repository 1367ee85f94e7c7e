//! The RISC-V Linux `Image` (Documentation/arch/riscv/boot-image-header.rst) and the EFI zboot file that may hold one
//! (drivers/firmware/efi/libstub/zboot-header.S). Numbers are little-endian.

use std::ops::Range;

use super::identify::{self, read_u32, read_u64};
use super::{Format, ImageError, Program, Room, Segment};

/// Size of the `Image` header.
const HEADER_SIZE: usize = 64;
/// `magic2` at 56: "RSC\x05".
const MAGIC: &[u8] = b"RSC\x05";
/// Kernels map their own memory by 2 MiB pages.
const ALIGNMENT: u64 = 2 << 20;

const FORMAT: &str = "a RISC-V Linux Image";
const ZBOOT: &str = "an EFI zboot file";

/// Whether `bytes` start with the header of a RISC-V `Image`.
pub(super) fn is_image(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_SIZE && bytes[56..].starts_with(MAGIC)
}

/// Places an `Image`: `text_offset` bytes into RAM, but not below the room's lowest address.
pub(super) fn load(file: &str, bytes: Vec<u8>, room: &Room) -> Result<Program, ImageError> {
    let wrong = |reason: String| ImageError::Malformed { file: file.into(), format: FORMAT, reason };
    let field = |at| read_u64(&bytes, at).ok_or_else(|| wrong("the header is truncated".into()));
    let (text_offset, image_size, flags) = (field(8)?, field(16)?, field(24)?);
    if flags & 1 != 0 {
        return Err(wrong("the kernel is big-endian; build it for little-endian".into()));
    }
    if let Some(end) = identify::portable_executable_end(&bytes).filter(|end| *end > bytes.len() as u64) {
        return Err(wrong(format!("truncated: {} bytes, but its sections reach to {end}", bytes.len())));
    }
    // Headers older than the field's definition leave image_size zero.
    let size = image_size.max(bytes.len() as u64);
    let outside = |start: u64| ImageError::OutsideRam {
        file: file.into(),
        start,
        end: start.saturating_add(size),
        ram: room.ram.clone(),
    };
    let wanted = room.ram.start.checked_add(text_offset).ok_or_else(|| outside(u64::MAX))?;
    let address = if wanted >= room.lowest {
        wanted
    } else {
        room.lowest.checked_next_multiple_of(ALIGNMENT).ok_or_else(|| outside(u64::MAX))?
    };
    let segment = Segment { address, virtual_address: address, file: 0..bytes.len(), size };
    Program::new(file, Format::LinuxImage, bytes, vec![segment], address, room)
}

/// Whether `bytes` start with the header of an EFI zboot file.
pub(super) fn is_zboot(bytes: &[u8]) -> bool {
    bytes.starts_with(b"MZ") && bytes.get(4..8) == Some(b"zimg")
}

/// Where the compressed kernel lies in `bytes`; `None` if they are no EFI zboot file.
pub(super) fn zboot_payload(file: &str, bytes: &[u8]) -> Result<Option<Range<usize>>, ImageError> {
    if !is_zboot(bytes) {
        return Ok(None);
    }
    let wrong = |reason: String| ImageError::Malformed { file: file.into(), format: ZBOOT, reason };
    let field = |at| read_u32(bytes, at).ok_or_else(|| wrong("the header is truncated".into()));
    let (offset, size) = (field(8)?, field(12)?);
    let method = bytes.get(24..56).ok_or_else(|| wrong("the header is truncated".into()))?;
    let method = method.split(|byte| *byte == 0).next().unwrap_or_default();
    let method = String::from_utf8_lossy(method).escape_default().to_string();
    // Kernels name the make rule: "gzip", "zstd" or "zstd22", "xz" or "xzkern".
    if !["gzip", "zstd", "xz"].iter().any(|known| method.starts_with(known)) {
        let method = if method.is_empty() { "an unnamed method".into() } else { method };
        return Err(ImageError::Compression { file: file.into(), method });
    }
    let end = u64::from(offset) + u64::from(size);
    if end > bytes.len() as u64 {
        return Err(wrong(format!("truncated: {} bytes, but its payload reaches to {end}", bytes.len())));
    }
    let payload = offset as usize..end as usize;
    if super::Compression::of(&bytes[payload.clone()]).is_none() {
        return Err(wrong(format!("the payload is not compressed by {method}, as its header says")));
    }
    Ok(Some(payload))
}
