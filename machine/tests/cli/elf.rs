//! Makes ELF files of assembled programs, right ones and wrong ones. Offsets are those of the ELF-64 object file format.

use cpu::extension::ExtensionSet;
use cpu::isa::assembler;

/// Where RAM begins.
pub const RAM: u64 = 0x8000_0000;

const HEADER_SIZE: u64 = 64;
const PROGRAM_HEADER_SIZE: u64 = 56;
const SECTION_HEADER_SIZE: u64 = 64;
const EXECUTABLE: u16 = 2;
const RISCV: u16 = 243;

/// One loadable segment.
#[derive(Clone)]
pub struct Segment {
    pub address: u64,
    pub bytes: Vec<u8>,
    /// Bytes in memory.
    pub memory_size: u64,
}

/// An ELF file.
#[derive(Clone)]
pub struct Elf {
    pub entry: u64,
    /// `EI_CLASS`: 2 is ELF-64.
    pub class: u8,
    /// `EI_DATA`: 1 is little-endian.
    pub data: u8,
    pub machine: u16,
    pub segments: Vec<Segment>,
    pub symbols: Vec<(String, u64)>,
}

impl Elf {
    /// A program at the start of RAM; its labels become symbols.
    pub fn assemble(source: &str) -> Self {
        let program = assembler::assemble(source, RAM, &ExtensionSet::implemented()).unwrap();
        let memory_size = program.bytes.len() as u64;
        Self {
            entry: RAM,
            class: 2,
            data: 1,
            machine: RISCV,
            segments: vec![Segment { address: RAM, bytes: program.bytes, memory_size }],
            symbols: program.symbols.into_iter().collect(),
        }
    }

    /// The file.
    pub fn bytes(&self) -> Vec<u8> {
        let contents = HEADER_SIZE + PROGRAM_HEADER_SIZE * self.segments.len() as u64;
        let mut headers: Vec<u8> = Vec::new();
        let mut data: Vec<u8> = Vec::new();
        for segment in &self.segments {
            headers.extend([1u32, 7].map(u32::to_le_bytes).concat());
            let (offset, size) = (contents + data.len() as u64, segment.bytes.len() as u64);
            let fields = [offset, segment.address, segment.address, size, segment.memory_size, 1];
            headers.extend(fields.map(u64::to_le_bytes).concat());
            data.extend(&segment.bytes);
        }
        // The null symbol and the empty name come first.
        let (mut symbols, mut names) = (vec![0; 24], vec![0]);
        for (name, value) in &self.symbols {
            symbols.extend((names.len() as u32).to_le_bytes());
            // Global, without type, absolute.
            symbols.extend([0x10, 0, 0xf1, 0xff]);
            symbols.extend([*value, 0].map(u64::to_le_bytes).concat());
            names.extend(name.bytes().chain([0]));
        }
        let symbols_at = contents + data.len() as u64;
        let names_at = symbols_at + symbols.len() as u64;
        let sections_at = names_at + names.len() as u64;
        let section = |kind: u32, offset: u64, size: u64, link: u32, info: u32, entry_size: u64| {
            let mut header = [0, kind].map(u32::to_le_bytes).concat();
            header.extend([0, 0, offset, size].map(u64::to_le_bytes).concat());
            header.extend([link, info].map(u32::to_le_bytes).concat());
            header.extend([8, entry_size].map(u64::to_le_bytes).concat());
            header
        };

        let mut file = vec![0x7f, b'E', b'L', b'F', self.class, self.data, 1, 0];
        file.resize(16, 0);
        file.extend([EXECUTABLE, self.machine].map(u16::to_le_bytes).concat());
        file.extend(1u32.to_le_bytes());
        file.extend([self.entry, HEADER_SIZE, sections_at].map(u64::to_le_bytes).concat());
        file.extend(0u32.to_le_bytes());
        let counts = [
            HEADER_SIZE as u16,
            PROGRAM_HEADER_SIZE as u16,
            self.segments.len() as u16,
            SECTION_HEADER_SIZE as u16,
            3,
            2,
        ];
        file.extend(counts.map(u16::to_le_bytes).concat());
        file.extend(headers);
        file.extend(data);
        file.extend(&symbols);
        file.extend(&names);
        file.extend(section(0, 0, 0, 0, 0, 0));
        file.extend(section(2, symbols_at, symbols.len() as u64, 2, 1, 24));
        file.extend(section(3, names_at, names.len() as u64, 0, 0, 0));
        file
    }
}

/// A program that says "ready" on the UART and sends back what it receives. It powers off with exit code 7 at a `q`,
/// restarts at an `r`, and talks for ever at an `f`.
pub fn echo() -> Elf {
    Elf::assemble(
        "       li      s0, 0x10000000
                li      s1, 0x100000
                la      s2, ready
        greet:  lbu     a0, 0(s2)
                beqz    a0, next
                call    put
                addi    s2, s2, 1
                j       greet
        next:   lbu     t0, 5(s0)
                andi    t0, t0, 1
                beqz    t0, next
                lbu     a0, 0(s0)
                li      t0, 'q'
                beq     a0, t0, off
                li      t0, 'r'
                beq     a0, t0, again
                li      t0, 'f'
                beq     a0, t0, flood
                call    put
                j       next
        off:    li      t0, 0x73333
                sw      t0, 0(s1)
        again:  li      t0, 0x7777
                sw      t0, 0(s1)
                j       next
        flood:  call    put
                j       flood
        put:    lbu     t0, 5(s0)
                andi    t0, t0, 0x20
                beqz    t0, put
                sb      a0, 0(s0)
                ret
        ready:  .asciz  \"<ready>\\n\"",
    )
}
