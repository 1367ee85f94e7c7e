//! Compressed files: which are decompressed, which are only known by name, and how much they may grow.

use std::io::{self, Read};

use lzma_rust2::XzReader;
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use super::ImageError;

const GZIP: &[u8] = &[0x1f, 0x8b];
const XZ: &[u8] = b"\xfd7zXZ\0";
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// First bytes of compressed files that are refused, with the name of their format.
const REFUSED: [(&[u8], &str); 11] = [
    (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4 (legacy frames)"),
    (&[0x5d, 0, 0], "lzma"),
    (&[0x89, b'L', b'Z', b'O', 0, b'\r', b'\n', 0x1a, b'\n'], "lzo"),
    (b"BZh", "bzip2"),
    (b"LZIP", "lzip"),
    (&[0x1f, 0x9d], "compress (.Z)"),
    (&[0x1f, 0xa0], "compress (lzh)"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (&[0xce, 0xb2, 0xcf, 0x81], "brotli"),
];

/// How a file is compressed, told by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    /// RFC 1952.
    Gzip,
    /// The .xz file format.
    Xz,
    /// RFC 8878.
    Zstd,
    /// Recognised and refused.
    Refused(&'static str),
}

impl Compression {
    /// The compression of `bytes`, `None` if they are not compressed by anything known.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let supported = [(GZIP, Self::Gzip), (XZ, Self::Xz), (ZSTD, Self::Zstd)];
        let refused = REFUSED.map(|(magic, name)| (magic, Self::Refused(name)));
        supported.into_iter().chain(refused).find(|(magic, _)| bytes.starts_with(magic)).map(|(_, method)| method)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Refused(name) => name,
        }
    }

    /// Decompresses `bytes` to at most `limit` bytes; what follows the compressed data is ignored, as the zboot format
    /// appends a length.
    pub(super) fn decompress(self, file: &str, bytes: &[u8], limit: u64) -> Result<Vec<u8>, ImageError> {
        let result = match self {
            Self::Gzip => gzip(bytes, limit),
            Self::Xz => xz(bytes, limit),
            Self::Zstd => zstd(bytes, limit),
            Self::Refused(name) => {
                return Err(ImageError::Compression { file: file.into(), method: name.into() });
            }
        };
        result.map_err(|failure| match failure {
            Failure::Limit => ImageError::Expansion { file: file.into(), limit },
            Failure::Data(reason) => ImageError::Damaged { file: file.into(), method: self.name(), reason },
        })
    }
}

enum Failure {
    /// More output than the limit.
    Limit,
    /// Damaged data, in the decompressor's words.
    Data(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Data(error.to_string())
    }
}

/// Appends all that `reader` has to `output`, which may grow to `limit`.
fn read_all(reader: impl Read, output: &mut Vec<u8>, limit: u64) -> Result<(), Failure> {
    let room = limit.saturating_sub(output.len() as u64);
    if reader.take(room.saturating_add(1)).read_to_end(output)? as u64 > room {
        return Err(Failure::Limit);
    }
    Ok(())
}

fn gzip(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, Failure> {
    let mut output = Vec::new();
    while bytes.starts_with(GZIP) {
        let mut member = flate2::bufread::GzDecoder::new(bytes);
        read_all(&mut member, &mut output, limit)?;
        bytes = member.into_inner();
    }
    Ok(output)
}

fn xz(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, Failure> {
    /// The dictionary of `xz -9` and of the kernel's `xzkern` is 64 and 128 MiB at most.
    const MEMORY_KIB: u32 = 256 << 10;
    let mut output = Vec::new();
    while bytes.starts_with(XZ) {
        let mut stream = XzReader::new_mem_limit(bytes, false, MEMORY_KIB);
        read_all(&mut stream, &mut output, limit)?;
        bytes = stream.into_inner();
    }
    Ok(output)
}

fn zstd(mut bytes: &[u8], limit: u64) -> Result<Vec<u8>, Failure> {
    /// Decoded between two looks at the limit. The decoder keeps a window, whose size the file names, for itself: the
    /// count of these steps bounds it too.
    const STEP: usize = 1 << 20;
    let data = |error: &dyn std::fmt::Display| Failure::Data(error.to_string());
    let mut output = Vec::new();
    let mut decoder = FrameDecoder::new();
    while bytes.starts_with(ZSTD) {
        decoder.init(&mut bytes).map_err(|error| data(&error))?;
        let mut decoded = output.len() as u64;
        loop {
            let last = decoder
                .decode_blocks(&mut bytes, BlockDecodingStrategy::UptoBytes(STEP))
                .map_err(|error| data(&error))?;
            decoder.collect_to_writer(&mut output)?;
            if output.len() as u64 > limit {
                return Err(Failure::Limit);
            }
            if last {
                break;
            }
            decoded = decoded.saturating_add(STEP as u64);
            if decoded > limit {
                return Err(Failure::Limit);
            }
        }
        let stored = decoder.get_checksum_from_data();
        if stored.is_some() && stored != decoder.get_calculated_checksum() {
            return Err(Failure::Data("the checksum is wrong".into()));
        }
    }
    Ok(output)
}
