//! ELF executables (System V ABI, chapter 5 "Program Header"; RISC-V ELF psABI).
//!
//! Segments go to their physical addresses. Two kinds of program are loaded elsewhere when those are not in RAM:
//! position-independent ones (`ET_DYN`, which relocate themselves, such as OpenSBI) and Linux's `vmlinux`, which is
//! linked for the upper half of the virtual address space and runs from any 2 MiB boundary of the physical one.

use goblin::container::{Container, Ctx, Endian};
use goblin::elf::Elf;
use goblin::elf::header::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_RISCV, ET_CORE, ET_DYN, ET_EXEC, ET_REL, Header,
};
use goblin::elf::program_header::{PT_INTERP, PT_LOAD, ProgramHeader};
use goblin::elf::section_header::{SHT_SYMTAB, SectionHeader};
use goblin::elf::sym::Symtab;
use goblin::elf64;

use super::{Format, ImageError, Program, Room, Segment, identify};

const FORMAT: &str = "a RISC-V ELF program";

/// Numbers of the only class that is loaded.
const CONTEXT: Ctx = Ctx { container: Container::Big, le: Endian::Little };

/// Whether `bytes` claim to be ELF.
pub(super) fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(ELFMAG)
}

/// Places an ELF executable.
pub(super) fn load(file: &str, bytes: Vec<u8>, room: &Room) -> Result<Program, ImageError> {
    let wrong = |reason: String| ImageError::Malformed { file: file.into(), format: FORMAT, reason };
    let header = checked_header(file, &bytes)?;
    if usize::from(header.e_phentsize) != elf64::program_header::SIZEOF_PHDR {
        return Err(wrong(format!("a program header has {} bytes, not 56", header.e_phentsize)));
    }
    let table = usize::try_from(header.e_phoff).ok().filter(|offset| *offset <= bytes.len());
    let headers = table
        .and_then(|offset| ProgramHeader::parse(&bytes, offset, header.e_phnum.into(), CONTEXT).ok())
        .ok_or_else(|| wrong("truncated: the program headers are not in the file".into()))?;
    if headers.iter().any(|header| header.p_type == PT_INTERP) {
        let found = "a RISC-V ELF program that needs an operating system (it names a dynamic loader)".into();
        return Err(ImageError::Unknown { file: file.into(), found });
    }
    let loaded: Vec<&ProgramHeader> = headers.iter().filter(|h| h.p_type == PT_LOAD && h.p_memsz != 0).collect();
    let lowest = loaded.iter().map(|header| header.p_paddr).min();
    let lowest = lowest.ok_or_else(|| wrong("nothing in it is to be loaded (no PT_LOAD segment)".into()))?;
    let relocatable = header.e_type == ET_DYN || loaded.iter().all(|header| header.p_vaddr >> 63 != 0);
    let displacement = if relocatable && !room.ram.contains(&lowest) {
        // Alignment inside of the program is kept: the lowest page of it goes to the lowest place.
        room.lowest.wrapping_sub(lowest & !0xfff)
    } else {
        0
    };
    let mut segments = Vec::with_capacity(loaded.len());
    let mut entry = None;
    for segment in &loaded {
        let at = segment.p_paddr;
        if segment.p_filesz > segment.p_memsz {
            return Err(wrong(format!("the segment at {at:#x} has more bytes in the file than in memory")));
        }
        let end = segment.p_offset.checked_add(segment.p_filesz).filter(|end| *end <= bytes.len() as u64);
        let end = end.ok_or_else(|| {
            wrong(format!("truncated: the segment at {at:#x} is not in the file of {} bytes", bytes.len()))
        })?;
        let address = at.wrapping_add(displacement);
        if address.checked_add(segment.p_memsz).is_none() {
            return Err(wrong(format!("the segment at {at:#x} leaves the address space")));
        }
        segments.push(Segment {
            address,
            virtual_address: segment.p_vaddr,
            file: segment.p_offset as usize..end as usize,
            size: segment.p_memsz,
        });
        // The entry point is a virtual address, and the program starts without translation.
        let offset = header.e_entry.wrapping_sub(segment.p_vaddr);
        if entry.is_none() && offset < segment.p_memsz {
            entry = Some(address + offset);
        }
    }
    // Where no segment has the virtual address it may still be a physical one; the program's own check decides.
    let entry = entry.unwrap_or_else(|| header.e_entry.wrapping_add(displacement));
    Program::new(file, Format::Elf, bytes, segments, entry, room)
}

/// The header of an executable that this machine can run.
fn checked_header(file: &str, bytes: &[u8]) -> Result<Header, ImageError> {
    let damaged = |_| ImageError::Malformed {
        file: file.into(),
        format: "an ELF file",
        reason: "the header is truncated or damaged".into(),
    };
    let header = Elf::parse_header(bytes).map_err(damaged)?;
    let bits = if header.e_ident[EI_CLASS] == ELFCLASS64 { 64 } else { 32 };
    let found = if header.e_machine != EM_RISCV || bits != 64 {
        format!("an ELF file for {}", identify::elf_machine(header.e_machine, bits))
    } else if header.e_ident[EI_DATA] != ELFDATA2LSB {
        "an ELF file for big-endian RISC-V".into()
    } else {
        match header.e_type {
            ET_EXEC | ET_DYN => return Ok(header),
            ET_REL => "a RISC-V object file that is not linked".into(),
            ET_CORE => "a RISC-V core dump".into(),
            other => format!("a RISC-V ELF file of type {other}"),
        }
    };
    Err(ImageError::Unknown { file: file.into(), found })
}

/// The value of the symbol `name` in a file that [`load`] accepted. Damaged symbol tables have no symbols.
pub(super) fn symbol(bytes: &[u8], name: &str) -> Option<u64> {
    let header = Elf::parse_header(bytes).ok()?;
    let table = usize::try_from(header.e_shoff).ok().filter(|offset| *offset <= bytes.len())?;
    if usize::from(header.e_shentsize) != elf64::section_header::SIZEOF_SHDR {
        return None;
    }
    let sections = SectionHeader::parse(bytes, table, header.e_shnum.into(), CONTEXT).ok()?;
    let content = |section: &SectionHeader| {
        let start = usize::try_from(section.sh_offset).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(section.sh_size).ok()?)?)
    };
    sections.iter().filter(|section| section.sh_type == SHT_SYMTAB).find_map(|section| {
        let names = content(sections.get(section.sh_link as usize)?)?;
        let symbols = content(section)?;
        let count = symbols.len() / elf64::sym::SIZEOF_SYM;
        let symbols = Symtab::parse(symbols, 0, count, CONTEXT).ok()?;
        let is_named = |at: usize| {
            let rest = names.get(at..).unwrap_or_default();
            rest.starts_with(name.as_bytes()) && rest.get(name.len()) == Some(&0)
        };
        let found = symbols.iter().find(|symbol| symbol.st_shndx != 0 && is_named(symbol.st_name))?;
        Some(found.st_value)
    })
}
