use bus::Ram;
use proptest::prelude::*;

use super::test_files::{TestSegment, elf, gzip, linux_image, xz, zboot, zstd};
use super::*;

const BASE: u64 = 0x8000_0000;
const MIB: u64 = 1 << 20;

/// Eight MiB of RAM, programs from 2 MiB on.
fn room() -> Room {
    Room { ram: BASE..BASE + 8 * MIB, lowest: BASE + 2 * MIB }
}

fn kernel(bytes: &[u8]) -> Result<Program, ImageError> {
    kernel_from_bytes("vmlinux", bytes.to_vec(), &room())
}

/// The message that refuses `bytes`.
fn refusal(bytes: &[u8]) -> String {
    let message = kernel(bytes).expect_err("a refusal").to_string();
    assert!(message.starts_with("vmlinux: ") && !message.contains('\n'), "{message}");
    message
}

#[track_caller]
fn assert_refused(bytes: &[u8], part: &str) {
    let message = refusal(bytes);
    assert!(message.contains(part), "{message:?} does not say {part:?}");
}

fn memory(program: &Program, range: Range<u64>) -> Vec<u8> {
    let ram = Ram::new(BASE, 8 * MIB).unwrap();
    // What a program needs as zero was not zero before: a guest restarts in used memory.
    ram.write(BASE, &vec![0xaa; 8 << 20]).unwrap();
    program.place(&ram);
    let mut bytes = vec![0; (range.end - range.start) as usize];
    ram.read(range.start, &mut bytes).unwrap();
    bytes
}

/// Patches `value` into a copy of `bytes`.
fn patched(bytes: &[u8], at: usize, value: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + value.len()].copy_from_slice(value);
    bytes
}

fn simple_elf() -> Vec<u8> {
    elf(BASE, &[TestSegment::new(BASE, &[1, 2, 3, 4]), TestSegment::new(BASE + 0x1000, &[5, 6])], &[])
}

/// Offset of field `offset` of program header `index`.
const fn program_header(index: usize, offset: usize) -> usize {
    64 + 56 * index + offset
}

#[test]
fn an_elf_program_goes_to_its_physical_addresses_with_zeros_behind() {
    let mut data = TestSegment::new(BASE + 0x1000, &[5, 6, 7]);
    data.size = 0x2000;
    let file = elf(BASE + 2, &[data, TestSegment::new(BASE, &[1, 2, 3, 4])], &[("tohost", BASE + 0x1000)]);
    let program = kernel(&file).unwrap();
    assert_eq!((program.entry(), program.range(), program.format()), (BASE + 2, BASE..BASE + 0x3000, Format::Elf));
    assert_eq!(memory(&program, BASE..BASE + 5), [1, 2, 3, 4, 0xaa]);
    let data = memory(&program, BASE + 0x1000..BASE + 0x3001);
    assert_eq!(data[..3], [5, 6, 7]);
    assert!(data[3..0x2000].iter().all(|byte| *byte == 0));
    assert_eq!(data[0x2000], 0xaa);
}

#[test]
fn symbols_are_found_by_their_whole_name() {
    let symbols = [("tohost_old", 1), ("tohost", BASE + 0x40), ("begin_signature", BASE + 0x80)];
    let program = kernel(&elf(BASE, &[TestSegment::new(BASE, &[0; 4])], &symbols)).unwrap();
    assert_eq!(program.symbol("tohost"), Some(BASE + 0x40));
    assert_eq!(program.symbol("begin_signature"), Some(BASE + 0x80));
    assert_eq!(program.symbol("begin"), None);
    assert_eq!(program.symbol("fromhost"), None);
}

#[test]
fn the_entry_point_and_symbols_are_virtual() {
    let mut segment = TestSegment::new(BASE, &[1, 2, 3, 4]);
    segment.virtual_address = 0x1_0000;
    let program = kernel(&elf(0x1_0002, &[segment], &[("tohost", 0x1_0004), ("elsewhere", 5)])).unwrap();
    assert_eq!(program.entry(), BASE + 2);
    assert_eq!(program.symbol("tohost"), Some(BASE + 4), "symbols are virtual, too; this one is at the end");
    assert_eq!(program.symbol("elsewhere"), Some(5));
}

#[test]
fn relocatable_programs_are_moved_into_ram() {
    let file = elf(0, &[TestSegment::new(0, &[1, 2, 3, 4]), TestSegment::new(0x4_0000, &[5])], &[("tohost", 0x4_0000)]);
    assert_refused(&file, "loads at 0x0..0x4, which is not in RAM (0x80000000..0x80800000, 8 MiB); link the program");
    let dynamic = patched(&file, 16, &[3]);
    let program = kernel(&dynamic).unwrap();
    assert_eq!((program.entry(), program.range()), (BASE + 2 * MIB, BASE + 2 * MIB..BASE + 2 * MIB + 0x4_0001));
    assert_eq!(program.symbol("tohost"), Some(BASE + 2 * MIB + 0x4_0000));
    let room = Room { lowest: BASE, ..room() };
    assert_eq!(firmware_from_bytes("fw_dynamic.elf", dynamic, &room).unwrap().entry(), BASE);

    let placed = elf(BASE + 8, &[TestSegment::new(BASE, &[0; 12])], &[]);
    assert_eq!(kernel(&patched(&placed, 16, &[3])).unwrap().entry(), BASE + 8, "an address in RAM is kept");
}

#[test]
fn a_linux_kernel_in_elf_form_is_moved_into_ram() {
    let mut segment = TestSegment::new(0, &[1, 2, 3, 4]);
    segment.virtual_address = 0xffff_ffff_8000_0000;
    let program = kernel(&elf(0xffff_ffff_8000_0000, &[segment], &[])).unwrap();
    assert_eq!(program.entry(), BASE + 2 * MIB);
}

#[test]
fn damaged_elf_files_are_refused() {
    let good = simple_elf();
    kernel(&good).unwrap();
    for length in 4..good.len() {
        // Past the content only the symbols are missing.
        if let Err(error) = kernel(&good[..length]) {
            assert!(error.to_string().contains("truncated"), "{length}: {error}");
            assert!(length < 0x1006, "{length}: {error}");
        } else {
            assert!(length >= 0x1006, "{length}");
        }
    }
    assert_refused(&patched(&good, 4, &[1]), "an ELF file for 32-bit RISC-V");
    assert_refused(&patched(&good, 18, &[62]), "an ELF file for x86-64; accepted are a RISC-V 64-bit");
    assert_refused(&patched(&good, 18, &[183]), "an ELF file for AArch64");
    assert_refused(&patched(&good, 16, &[1]), "not linked");
    assert_refused(&patched(&good, 16, &[4]), "a RISC-V core dump");
    assert_refused(&patched(&good, 54, &[32]), "a program header has 32 bytes");
    assert_refused(&patched(&good, 56, &[0, 0]), "no PT_LOAD");
    assert_refused(&patched(&good, 56, &[0xff, 0xff]), "truncated: the program headers");
    assert_refused(&patched(&good, 32, &[0xff; 8]), "truncated: the program headers");
    assert_refused(&patched(&good, program_header(0, 0), &[3]), "names a dynamic loader");
    assert_refused(&patched(&good, program_header(0, 8), &[0xff; 8]), "truncated: the segment at 0x80000000");
    assert_refused(&patched(&good, program_header(0, 32), &[0xff; 8]), "more bytes in the file than in memory");
    assert_refused(&patched(&good, program_header(1, 40), &[0xff; 8]), "leaves the address space");
    assert_refused(
        &patched(&good, program_header(1, 45), &[1]),
        "which is not in RAM (0x80000000..0x80800000, 8 MiB); give the guest more RAM with -m",
    );
    assert_refused(
        &patched(&good, program_header(1, 24), &[2, 0, 0, 0x80]),
        "the segments at 0x80000000 and 0x80000002 overlap",
    );
    assert_refused(&patched(&good, 24, &[0, 0, 0, 0x90]), "the entry point 0x90000000 is outside of what is loaded");
    assert_refused(&patched(&good, 24, &[1, 0, 0, 0x80]), "the entry point 0x80000001 is odd");
    assert_refused(&patched(&good, 24, &[3, 0, 0, 0x80]), "outside of what is loaded");
}

#[test]
fn big_endian_elf_files_are_refused() {
    let mut big = vec![0; 64];
    big[..7].copy_from_slice(b"\x7fELF\x02\x02\x01");
    big[16..20].copy_from_slice(&[0, 2, 0, 243]);
    assert_refused(&big, "an ELF file for big-endian RISC-V");
}

#[test]
fn an_image_goes_to_its_offset_and_is_larger_than_its_file() {
    let program = kernel(&linux_image(2 * MIB, 3 * MIB, 100_000)).unwrap();
    assert_eq!((program.entry(), program.range()), (BASE + 2 * MIB, BASE + 2 * MIB..BASE + 5 * MIB));
    assert_eq!(program.format(), Format::LinuxImage);
    assert_eq!(program.symbol("tohost"), None);
    let placed = memory(&program, BASE + 2 * MIB..BASE + 5 * MIB + 1);
    assert_eq!(placed[..2], *b"MZ");
    assert_eq!(placed[99_999], (99_999_u64 as u8) | 1);
    assert!(placed[100_000..3 << 20].iter().all(|byte| *byte == 0));
    assert_eq!(placed[3 << 20], 0xaa);
}

#[test]
fn an_image_keeps_off_the_start_of_ram() {
    assert_eq!(kernel(&linux_image(0, 4096, 4096)).unwrap().entry(), BASE + 2 * MIB);
    let room = Room { lowest: BASE + 5000, ..room() };
    let program = kernel_from_bytes("Image", linux_image(0x1000, 4096, 4096), &room).unwrap();
    assert_eq!(program.entry(), BASE + 2 * MIB);
}

#[test]
fn impossible_images_are_refused() {
    assert_refused(&linux_image(2 * MIB, 7 * MIB, 4096), "loads at 0x80200000..0x80900000, which is not in RAM");
    assert_refused(&linux_image(2 * MIB, u64::MAX, 4096), "give the guest more RAM with -m");
    assert_refused(&linux_image(u64::MAX, 4096, 4096), "not in RAM");
    assert_refused(&linux_image(16 * MIB, 4096, 4096), "not in RAM");
    assert_refused(&patched(&linux_image(0, 0, 4096), 24, &[1]), "big-endian");
    let mut file = linux_image(2 * MIB, MIB, 8192);
    file[0x3c..0x40].copy_from_slice(&64_u32.to_le_bytes());
    file[64..72].copy_from_slice(b"PE\0\0\x64\x50\x01\0");
    file[84..86].copy_from_slice(&[0, 0]); // no optional header: the section table is at 88
    file[88 + 16..88 + 24].copy_from_slice(&[0, 0x10, 0, 0, 0, 0x10, 0, 0]); // 4096 bytes at 4096
    kernel(&file).unwrap();
    assert_refused(&file[..8191], "truncated: 8191 bytes, but its sections reach to 8192");
    assert_refused(&linux_image(0, 0, 64)[..63], "a DOS program");
}

#[test]
fn compressed_kernels_are_told_apart_by_content() {
    let image = linux_image(2 * MIB, 3 * MIB, 300_000);
    let expected = kernel(&image).unwrap().range();
    for wrapped in [
        gzip(&image),
        xz(&image),
        zstd(&image),
        zboot("gzip", &gzip(&image)),
        zboot("zstd22", &zstd(&image)),
        zboot("xzkern", &xz(&image)),
        gzip(&zboot("zstd", &zstd(&image))),
        [zstd(&image[..1000]), zstd(&image[1000..])].concat(),
        [gzip(&image[..1000]), gzip(&image[1000..]), vec![0; 512]].concat(),
        [xz(&image[..1000]), xz(&image[1000..])].concat(),
    ] {
        let program = kernel(&wrapped).unwrap();
        assert_eq!(program.range(), expected);
        assert!(program.data.bytes().unwrap() == image);
    }
    assert_eq!(kernel(&gzip(&simple_elf())).unwrap().entry(), BASE);
}

#[test]
fn bombs_and_nests_are_refused() {
    let bomb = vec![0; 9 << 20];
    for wrapped in [gzip(&bomb), xz(&bomb), zstd(&bomb), zboot("gzip", &gzip(&bomb))] {
        assert_refused(&wrapped, "decompresses to more than the 8 MiB of RAM that the guest has");
    }
    let deep = gzip(&gzip(&gzip(&gzip(&simple_elf()))));
    assert_refused(&deep, "more than 3 layers deep");
}

/// A frame that claims a window of 1 GiB, which its decoder would keep for itself, and decodes to more than fits.
#[test]
fn a_window_larger_than_memory_is_no_way_around_the_limit() {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 20 << 3];
    for _ in 0..100 {
        // A run-length block of 128 KiB.
        frame.extend([0x02, 0x00, 0x10, 0x77]);
    }
    assert_refused(&frame, "decompresses to more than");
}

#[test]
fn damaged_compression_is_refused() {
    let image = linux_image(2 * MIB, 3 * MIB, 300_000);
    for (method, packed) in [("gzip", gzip(&image)), ("xz", xz(&image)), ("zstd", zstd(&image))] {
        assert_refused(&packed[..packed.len() / 2], &format!("the {method} data are damaged or truncated"));
        assert_refused(&packed[..8], &format!("the {method} data are damaged or truncated"));
        let middle = packed.len() / 2;
        let flipped = patched(&packed, middle, &[packed[middle] ^ 0x55]);
        assert_refused(&flipped, &format!("the {method} data are damaged or truncated"));
    }
    // The dictionary of this block is 4 GiB.
    let mut greedy = xz(&image);
    let filter = greedy.windows(2).position(|pair| pair == [0x21, 0x01]).unwrap();
    greedy[filter + 2] = 40;
    let end = 12 + 4 * (usize::from(greedy[12]) + 1) - 4;
    let mut crc = flate2::Crc::new();
    crc.update(&greedy[12..end]);
    greedy[end..end + 4].copy_from_slice(&crc.sum().to_le_bytes());
    assert_refused(&greedy, "memory");
}

#[test]
fn other_compressions_are_refused_by_name() {
    assert_refused(&[0x04, 0x22, 0x4d, 0x18, 0, 0], "compressed by lz4, which is not supported");
    assert_refused(&[0x5d, 0, 0, 0x80, 0, 0xff], "compressed by lzma");
    assert_refused(b"BZh91AY", "compressed by bzip2");
    assert_refused(b"\x89LZO\0\r\n\x1a\n", "compressed by lzo");
    assert_refused(&zboot("lz4", &[4, 0x22, 0x4d, 0x18]), "compressed by lz4, which is not supported");
    assert_refused(&zboot("lzma", &[0x5d, 0, 0]), "compressed by lzma");
    assert_refused(&zboot("", &[0; 8]), "compressed by an unnamed method");
    assert_refused(&zboot("\n\u{1b}[2J", &[0; 8]), "compressed by \\n\\u{1b}[2J");
    assert_refused(&zboot("gzip\n\u{1b}[2J", &[0; 8]), "not compressed by gzip\\n\\u{1b}[2J");
}

#[test]
fn damaged_zboot_files_are_refused() {
    let good = zboot("gzip", &gzip(&linux_image(2 * MIB, MIB, 4096)));
    kernel(&good).unwrap();
    assert_refused(&good[..600], "an EFI zboot file: truncated: 600 bytes, but its payload reaches to");
    assert_refused(&good[..20], "the header is truncated");
    assert_refused(&patched(&good, 8, &[0xff; 8]), "truncated");
    assert_refused(&patched(&good, 8, &[100, 0]), "the payload is not compressed by gzip");
}

#[test]
fn other_files_are_named() {
    assert_refused(b"", "found an empty file; accepted are");
    assert_refused(b"#!/bin/sh\n", "found a script");
    assert_refused("text with ümlauts\n".repeat(100).as_bytes(), "found text");
    assert_refused(&[0; 5000], "found nothing but zeros");
    assert_refused(&[0xfe; 5000], "found unknown data (5000 bytes that start with fe fe");
    assert_refused(b"070701 and more", "found a cpio archive (use --initrd)");
    assert_refused(b"\xd0\x0d\xfe\xed", "found a device tree");
    assert_refused(&patched(&[0; 1024], 0x202, b"HdrS"), "found an x86 Linux bzImage");
    assert_refused(&patched(&linux_image(0, 0, 64), 56, b"ARM\x64"), "found an AArch64 Linux Image");
    let mut program = vec![0; 512];
    program[..2].copy_from_slice(b"MZ");
    program[0x3c] = 64;
    program[64..70].copy_from_slice(b"PE\0\0\x64\xaa");
    assert_refused(&program, "found a PE program (EFI or Windows) for AArch64");
    program[68..70].copy_from_slice(b"\x64\x50");
    assert_refused(&program, "for 64-bit RISC-V");
    assert_refused(&gzip(b"text"), "found text");
}

#[test]
fn firmware_may_be_flat() {
    let room = Room { lowest: BASE, ..room() };
    let program = firmware_from_bytes("fw_jump.bin", vec![0x13, 0, 0, 0], &room).unwrap();
    assert_eq!((program.format(), program.range(), program.entry()), (Format::Flat, BASE..BASE + 4, BASE));
    let message = |bytes| firmware_from_bytes("fw_jump.bin", bytes, &room).unwrap_err().to_string();
    assert!(message(vec![]).contains("an empty file"));
    assert!(message(vec![1; (8 << 20) + 1]).contains("give the guest more RAM"));
    assert!(message(patched(&simple_elf(), 18, &[62])).contains("an ELF file for x86-64"));
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let error = load_kernel(Path::new("/nonexistent/Image"), &room()).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/Image: cannot be read: "), "{error}");
    let folder = std::env::temp_dir();
    let error = load_kernel(&folder, &room()).unwrap_err().to_string();
    assert!(error.contains(": cannot be read: "), "{error}");
}

/// A file of any kind with some bytes overwritten and its end cut off.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let image = linux_image(2 * MIB, 3 * MIB, 20_000);
    let mut zeros = TestSegment::new(BASE + 0x1000, &[5, 6, 7]);
    zeros.size = 0x2000;
    let segments = [TestSegment::new(BASE, &[7; 64]), zeros];
    let program = elf(BASE, &segments, &[("tohost", BASE + 0x1000), ("end", BASE + 0x2000)]);
    let files = vec![
        program.clone(),
        program.clone(),
        patched(&program, 16, &[3]),
        image.clone(),
        zboot("gzip", &gzip(&image)),
        zboot("zstd", &zstd(&image)),
        gzip(&program),
        xz(&program),
        zstd(&image),
    ];
    // Headers are at the start and at the end of files.
    let place = prop_oneof![4 => 0..256_usize, 1 => 0..25_000_usize, 1 => 25_000..25_300_usize];
    let value = prop_oneof![
        any::<u8>().prop_map(|byte| vec![byte]),
        prop::sample::select(vec![
            0_u64,
            1,
            0xfff,
            0x7fff_ffff,
            BASE,
            BASE + 8 * MIB - 1,
            1 << 63,
            u64::MAX - 1,
            u64::MAX
        ])
        .prop_map(|value| value.to_le_bytes().to_vec()),
    ];
    let changes = prop::collection::vec((place, value), 0..6);
    (prop::sample::select(files), changes, prop_oneof![4 => Just(usize::MAX), 1 => 0..25_000_usize]).prop_map(
        |(mut file, changes, length)| {
            for (place, value) in changes {
                let size = file.len();
                let place = if place >= 25_000 { size.saturating_sub(place - 25_000) } else { place % size };
                let end = size.min(place + value.len());
                file[place..end].copy_from_slice(&value[..end - place]);
            }
            file.truncate(length);
            file
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in a file: no panic, and nothing is written outside of the room.
    #[test]
    fn any_file_is_loaded_inside_ram_or_refused(file in mutated(), name in "[a-z_]{0,12}") {
        let room = Room { ram: BASE + MIB..BASE + 7 * MIB, lowest: BASE + 2 * MIB };
        for program in [
            kernel_from_bytes("file", file.clone(), &room),
            kernel_from_bytes("file", file.clone(), &self::room()),
            firmware_from_bytes("file", file, &room),
        ] {
            match program {
                Ok(program) => {
                    let range = program.range();
                    prop_assert!(BASE <= range.start && range.end <= BASE + 8 * MIB);
                    prop_assert!(range.contains(&program.entry()));
                    program.symbol(&name);
                    program.symbol("tohost");
                    // RAM of exactly the room: a write outside of it is reported as an error by `place`, not made.
                    let ram = Ram::new(BASE, 8 * MIB).unwrap();
                    program.place(&ram);
                }
                Err(error) => prop_assert!(!error.to_string().contains('\n')),
            }
        }
    }
}
