//! Files made for tests.

use std::io::Write;

/// A part of an ELF file: a program header and its content.
#[derive(Clone, Debug)]
pub(crate) struct TestSegment {
    pub virtual_address: u64,
    pub address: u64,
    pub bytes: Vec<u8>,
    pub size: u64,
}

impl TestSegment {
    pub(crate) fn new(address: u64, bytes: &[u8]) -> Self {
        Self { virtual_address: address, address, bytes: bytes.into(), size: bytes.len() as u64 }
    }
}

/// A RISC-V ELF executable with `segments` at file offsets from 0x1000 on, and a symbol table of `symbols`.
pub(crate) fn elf(entry: u64, segments: &[TestSegment], symbols: &[(&str, u64)]) -> Vec<u8> {
    let mut offset = 0x1000;
    let mut headers = Vec::new();
    let mut content: Vec<u8> = Vec::new();
    for segment in segments {
        let fields = [
            offset,
            segment.virtual_address,
            segment.address,
            segment.bytes.len() as u64,
            segment.size,
            0x1000, // alignment
        ];
        headers.extend([1_u32.to_le_bytes(), 7_u32.to_le_bytes()].concat()); // PT_LOAD, RWX
        headers.extend(fields.iter().flat_map(|field| field.to_le_bytes()));
        content.extend(&segment.bytes);
        offset += segment.bytes.len() as u64;
    }
    let mut names = vec![0];
    let mut table = vec![0; 24];
    for (name, value) in symbols {
        table.extend((names.len() as u32).to_le_bytes());
        table.extend([0x10, 0, 1, 0]); // global; in section 1
        table.extend(value.to_le_bytes());
        table.extend([0; 8]);
        names.extend(name.bytes().chain([0]));
    }
    let table_offset = offset;
    let names_offset = table_offset + table.len() as u64;
    let sections_offset = names_offset + names.len() as u64;
    let section = |kind: u32, offset: u64, size: usize, link: u32| {
        let mut header = vec![0; 64];
        header[4..8].copy_from_slice(&kind.to_le_bytes());
        header[24..32].copy_from_slice(&offset.to_le_bytes());
        header[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        header[40..44].copy_from_slice(&link.to_le_bytes());
        header
    };
    let sections = [
        section(0, 0, 0, 0),
        section(2, table_offset, table.len(), 2), // SHT_SYMTAB
        section(3, names_offset, names.len(), 0), // SHT_STRTAB
    ];

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2, 0, 243, 0, 1, 0, 0, 0]); // ET_EXEC, EM_RISCV, version 1
    file.extend(entry.to_le_bytes());
    file.extend(64_u64.to_le_bytes()); // program headers
    file.extend(sections_offset.to_le_bytes());
    file.extend(5_u32.to_le_bytes()); // flags: RVC, double-float ABI
    for field in [64, 56, segments.len() as u16, 64, sections.len() as u16, 0] {
        file.extend(field.to_le_bytes());
    }
    file.extend(headers);
    file.resize(0x1000, 0);
    file.extend(content);
    file.extend(table);
    file.extend(names);
    file.extend(sections.concat());
    file
}

/// A RISC-V Linux `Image` of `length` bytes.
pub(crate) fn linux_image(text_offset: u64, image_size: u64, length: usize) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[8..16].copy_from_slice(&text_offset.to_le_bytes());
    file[16..24].copy_from_slice(&image_size.to_le_bytes());
    file[32..36].copy_from_slice(&2_u32.to_le_bytes());
    file[48..56].copy_from_slice(b"RISCV\0\0\0");
    file[56..60].copy_from_slice(b"RSC\x05");
    // No end of a PE header: the file is a kernel without an EFI stub.
    file.extend((64..length).map(|at| at as u8 | 1));
    file
}

/// An EFI zboot file around `payload`, followed by the length that compressors other than gzip append.
pub(crate) fn zboot(method: &str, payload: &[u8]) -> Vec<u8> {
    let mut file = vec![0; 512];
    file[..2].copy_from_slice(b"MZ");
    file[4..8].copy_from_slice(b"zimg");
    file[8..12].copy_from_slice(&512_u32.to_le_bytes());
    file[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    file[24..24 + method.len()].copy_from_slice(method.as_bytes());
    file[0x3c..0x40].copy_from_slice(&64_u32.to_le_bytes());
    file[64..70].copy_from_slice(b"PE\0\0\x64\x50");
    file.extend(payload);
    file.extend([0xee; 4]);
    file
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}
