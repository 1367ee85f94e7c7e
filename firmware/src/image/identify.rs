//! Names for what is not a kernel, so that a message can say what was found.

use goblin::elf::header as elf;

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Offset of the PE header ("PE\0\0") of a file that starts with a DOS header.
fn portable_executable(bytes: &[u8]) -> Option<usize> {
    let at = bytes.starts_with(b"MZ").then(|| read_u32(bytes, 0x3c)).flatten()? as usize;
    bytes.get(at..)?.starts_with(b"PE\0\0").then_some(at)
}

/// The end of the last section of a PE file in the file (PE format, "Section Table"): a shorter file is truncated.
/// `None` if it is no PE file or its section table does not fit.
pub(super) fn portable_executable_end(bytes: &[u8]) -> Option<u64> {
    const SECTION: usize = 40;
    let header = portable_executable(bytes)?;
    let sections = read_u16(bytes, header + 6)?;
    let table = header + 24 + usize::from(read_u16(bytes, header + 20)?);
    let mut end = 0;
    for index in 0..usize::from(sections) {
        let section = table + index * SECTION;
        let (size, offset) = (read_u32(bytes, section + 16)?, read_u32(bytes, section + 20)?);
        if size != 0 {
            end = end.max(u64::from(offset) + u64::from(size));
        }
    }
    Some(end)
}

/// The name of a PE machine type.
fn portable_executable_machine(machine: u16) -> String {
    match machine {
        0x014c => "32-bit x86".into(),
        0x01c0 | 0x01c2 | 0x01c4 => "32-bit Arm".into(),
        0x0200 => "Itanium".into(),
        0x5032 => "32-bit RISC-V".into(),
        0x5064 => "64-bit RISC-V".into(),
        0x5128 => "128-bit RISC-V".into(),
        0x6232 | 0x6264 => "LoongArch".into(),
        0x8664 => "x86-64".into(),
        0xaa64 => "AArch64".into(),
        other => format!("machine {other:#06x}"),
    }
}

/// The name of an ELF machine, of `bits` bits.
pub(super) fn elf_machine(machine: u16, bits: u32) -> String {
    match machine {
        elf::EM_386 => "x86".into(),
        elf::EM_X86_64 => "x86-64".into(),
        elf::EM_ARM => "Arm".into(),
        elf::EM_AARCH64 => "AArch64".into(),
        elf::EM_PPC64 => "PowerPC64".into(),
        elf::EM_S390 => "s390x".into(),
        elf::EM_MIPS => "MIPS".into(),
        elf::EM_BPF => "BPF".into(),
        elf::EM_RISCV => format!("{bits}-bit RISC-V"),
        258 => "LoongArch".into(),
        other => format!("machine {other}"),
    }
}

/// First bytes of files that people take for a kernel.
const KNOWN: [(usize, &[u8], &str); 17] = [
    (56, b"ARM\x64", "an AArch64 Linux Image"),
    (0x202, b"HdrS", "an x86 Linux bzImage"),
    (0, b"\x27\x05\x19\x56", "a U-Boot uImage"),
    (0, b"\xd0\x0d\xfe\xed", "a device tree (use --dtb) or a U-Boot FIT image"),
    (0, b"070701", "a cpio archive (use --initrd)"),
    (0, b"070702", "a cpio archive (use --initrd)"),
    (0, b"\xc7\x71", "a cpio archive (use --initrd)"),
    (0, b"!<arch>\ndebian", "a Debian package"),
    (0, b"!<arch>\n", "an archive of object files"),
    (0, b"QFI\xfb", "a qcow2 disk image (use --disk)"),
    (0, b"hsqs", "a squashfs file system (use --disk)"),
    (257, b"ustar", "a tar archive"),
    (0x438, b"\x53\xef", "an ext4 file system (use --disk)"),
    (510, b"\x55\xaa", "a disk image (use --disk)"),
    (0x8001, b"CD001", "a CD image (use --disk)"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (0, b"\xca\xfe\xba\xbe", "a Java class or a universal Mach-O program"),
];

/// What `bytes` are, with an article.
pub(super) fn describe(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "an empty file".into();
    }
    if let Some((_, _, name)) =
        KNOWN.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|b| b.starts_with(magic)))
    {
        return (*name).into();
    }
    if let Some(header) = portable_executable(bytes) {
        let machine = read_u16(bytes, header + 4).unwrap_or_default();
        return format!("a PE program (EFI or Windows) for {}", portable_executable_machine(machine));
    }
    if bytes.starts_with(b"MZ") {
        return "a DOS program".into();
    }
    let start = &bytes[..bytes.len().min(1024)];
    if let Ok(text) = std::str::from_utf8(&start[..valid_utf8(start)])
        && text.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
        && !text.is_empty()
    {
        return if text.starts_with("#!") { "a script".into() } else { "text".into() };
    }
    if start.iter().all(|byte| *byte == 0) {
        return "nothing but zeros at the start".into();
    }
    let first: Vec<String> = bytes.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("unknown data ({} bytes that start with {})", bytes.len(), first.join(" "))
}

/// The length of `bytes` without a character that the end cuts in two.
fn valid_utf8(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}
