//! One hart with 1 MiB of RAM and two devices, in any state that software can bring it to, and a program of arbitrary
//! instructions.

use std::sync::{Arc, LazyLock};

use bus::{AddressSpace, Clock, Ram};
use cpu::extension::ExtensionSet;
use cpu::isa::ROWS;
use cpu::{Configuration, Engine, HartBox, HartShared, Privilege, Stop, csr, event, interrupt};
use firmware::sbi::{Console, Outcome, Sbi};
use libfuzzer_sys::arbitrary::{self, Arbitrary};

use crate::probes::Scratch;

/// Where RAM begins, guest-physical.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Bytes of RAM.
pub const RAM_SIZE: u64 = 1 << 20;
/// A device.
const DEVICE: u64 = 0x1000_0000;
/// A device behind which RAM follows at once, to be fetched from.
const DEVICE_BELOW_RAM: u64 = RAM_BASE - Scratch::SIZE;
/// Offset in RAM of the program.
const CODE: u64 = 0x1000;
/// Offset in RAM of four pages of page tables, the first is the root.
const TABLES: u64 = 0x8000;
/// Most instructions of a program.
const MOST_INSTRUCTIONS: usize = 64;

/// The harts that programs run on.
pub static EXTENSIONS: LazyLock<Vec<ExtensionSet>> = LazyLock::new(|| {
    ["max", "max,c=off", "rva22", "rv64gc", "rv64gc,f=off", "rv64gc,a=off,m=off,svadu=on", "rva22,sv48=off"]
        .into_iter()
        .map(|argument| ExtensionSet::from_cpu_argument(argument).expect("a valid argument"))
        .collect()
});

/// An instruction.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Encoding {
    /// Any word.
    Word(u32),
    /// Any half.
    Half(u16),
    /// Of a row of the instruction table, with arbitrary operands.
    Row(u16, u32),
    /// As before; most are.
    Common(u16, u32),
    /// A CSR's instruction: an index into all CSRs, `funct3`, and registers.
    Csr(u16, u8, u8, u8),
}

impl Encoding {
    /// The bits, and how many bytes they take.
    pub fn bits(self) -> (u32, usize) {
        let word = match self {
            Encoding::Word(word) => word,
            Encoding::Half(half) => half.into(),
            Encoding::Row(row, bits) | Encoding::Common(row, bits) => {
                let pattern = &ROWS[usize::from(row) % ROWS.len()].pattern;
                pattern.value | bits & !pattern.mask
            }
            Encoding::Csr(index, function, rd, rs1) => {
                let number = csr::all()[usize::from(index) % csr::all().len()].number;
                let field = |value: u8, bit: u32| u32::from(value & 31) << bit;
                u32::from(number) << 20 | field(rs1, 15) | u32::from(function & 7) << 12 | field(rd, 7) | 0x73
            }
        };
        (word, if word & 3 == 3 { 4 } else { 2 })
    }
}

/// A value of a register.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Value {
    /// Any.
    Any(u64),
    /// A small number.
    Small(i8),
    /// An address in RAM or just outside.
    Ram(u32),
    /// An address around the end of RAM.
    End(i8),
    /// An address at the code.
    Code(u8),
    /// An address in the page tables.
    Tables(u16),
    /// An address at a device.
    Device(i16),
    /// An address at the other device.
    BelowRam(i16),
}

impl Value {
    /// The value.
    pub fn get(self) -> u64 {
        match self {
            Value::Any(value) => value,
            Value::Small(value) => i64::from(value) as u64,
            Value::Ram(offset) => RAM_BASE + u64::from(offset) % (RAM_SIZE + 0x1000),
            Value::End(offset) => (RAM_BASE + RAM_SIZE).wrapping_add_signed(offset.into()),
            Value::Code(offset) => RAM_BASE + CODE + u64::from(offset),
            Value::Tables(offset) => RAM_BASE + TABLES + u64::from(offset & 0x3fff),
            Value::Device(offset) => DEVICE.wrapping_add_signed(offset.into()),
            Value::BelowRam(offset) => DEVICE_BELOW_RAM.wrapping_add_signed(offset.into()),
        }
    }
}

/// An entry of a page table.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Entry {
    /// Any bits.
    Any(u64),
    /// A pointer to one of the tables.
    Table(u8),
    /// A page of RAM with these low bits.
    Page(u8, u8),
    /// The huge page that holds all of RAM, with these low bits.
    Huge(u8),
    /// A page of a device with these low bits.
    Device(u8),
}

impl Entry {
    fn bits(self) -> u64 {
        let entry = |address: u64, flags: u8| address >> 12 << 10 | u64::from(flags);
        match self {
            Entry::Any(bits) => bits,
            Entry::Table(table) => entry(RAM_BASE + TABLES + u64::from(table & 3) * 0x1000, 1),
            Entry::Page(page, flags) => entry(RAM_BASE + u64::from(page) * 0x1000, flags | 1),
            Entry::Huge(flags) => entry(RAM_BASE, flags | 1),
            Entry::Device(flags) => entry(DEVICE, flags | 1),
        }
    }
}

/// What happens between two runs.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub enum Incident {
    /// Time goes on.
    Time(u16),
    /// Lines of interrupts change: set, clear.
    Lines(u16, u16),
    /// Somebody asks for a pause, or withdraws the request.
    Pause(bool),
    /// The state is saved and restored.
    Restore,
    /// A request as for a remote fence: start and size, address space.
    Fence(Value, u16, Option<u16>),
    /// The hart goes to the program.
    Again,
}

/// A hart's start and the program that it runs.
#[derive(Arbitrary, Clone, Debug)]
pub struct Program {
    extensions: u8,
    levels: u8,
    built_in_sbi: bool,
    open_pmp: bool,
    privilege: u8,
    registers: Vec<Value>,
    csrs: Vec<(u16, Value)>,
    tables: Vec<Entry>,
    /// Flags of the page that maps RAM to its own addresses, if it is to be mapped.
    identity: Option<u8>,
    satp_mode: u8,
    start: Option<Value>,
    code: Vec<Encoding>,
    incidents: Vec<(u8, Incident)>,
}

struct Silent;

impl Console for Silent {
    fn write(&self, bytes: &[u8]) -> usize {
        bytes.len() / 2
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        bytes.fill(b'x');
        bytes.len() / 2
    }
}

/// The machine.
pub struct Machine {
    /// Its RAM.
    pub ram: Ram,
    /// Its hart.
    pub hart: HartBox,
    clock: Clock,
    sbi: Sbi,
}

impl Program {
    /// The machine before the program's first instruction.
    pub fn machine(&self) -> Machine {
        let ram = Ram::new(RAM_BASE, RAM_SIZE).expect("memory");
        let mut bus = AddressSpace::new(ram.clone());
        bus.map(DEVICE, Scratch::new(false)).expect("room");
        bus.map(DEVICE_BELOW_RAM, Scratch::new(true)).expect("room");
        let configuration = Configuration {
            extensions: EXTENSIONS[usize::from(self.extensions) % EXTENSIONS.len()],
            page_table_levels: 3 + u32::from(self.levels % 3),
            built_in_sbi: self.built_in_sbi,
            semihosting: None,
            reset_vector: RAM_BASE + CODE,
        };
        let (clock, shared) = (Clock::manual(), Arc::new(HartShared::new(0)));
        let sbi = Sbi::new(std::slice::from_ref(&shared), &clock, Arc::new(Silent));
        let mut hart = HartBox::new(configuration, shared, Arc::new(bus), clock.clone());
        let mut offset = CODE;
        for encoding in self.code.iter().take(MOST_INSTRUCTIONS) {
            let (bits, length) = encoding.bits();
            ram.write(RAM_BASE + offset, &bits.to_le_bytes()[..length]).expect("it is in RAM");
            offset += length as u64;
        }
        // Then back to the start: `j`.
        let back = (CODE as u32).wrapping_sub(offset as u32);
        let jump = (back >> 12 & 0xff) << 12 | (back >> 11 & 1) << 20 | (back >> 1 & 0x3ff) << 21 | (back >> 20 & 1) << 31;
        ram.write(RAM_BASE + offset, &(jump | 0x6f).to_le_bytes()).expect("it is in RAM");
        self.write_tables(&ram, hart.configuration().page_table_levels);
        if self.built_in_sbi {
            sbi.boot(&mut hart, RAM_BASE + CODE, RAM_BASE);
        }
        hart.set_privilege(Privilege::Machine);
        if self.open_pmp {
            hart.open_pmp();
        }
        for (index, value) in self.csrs.iter().take(32) {
            let number = csr::all()[usize::from(*index) % csr::all().len()].number;
            hart.write_csr(number, value.get());
        }
        if self.satp_mode & 3 != 0 {
            let mode = 7 + u64::from(self.satp_mode & 3);
            hart.write_csr(0x180, mode << 60 | u64::from(self.satp_mode >> 2) << 44 | (RAM_BASE + TABLES) >> 12);
        }
        for (index, value) in self.registers.iter().take(63).enumerate() {
            if index < 31 { hart.set_x(index + 1, value.get()) } else { hart.set_f(index - 31, value.get()) }
        }
        hart.set_pc(self.start.map_or(RAM_BASE + CODE, Value::get));
        hart.set_privilege(Privilege::from_bits(self.privilege.into()).unwrap_or(Privilege::Supervisor));
        Machine { ram, hart, clock, sbi }
    }

    /// All entries of the tables, from the few given; and the way to RAM at its own addresses.
    fn write_tables(&self, ram: &Ram, levels: u32) {
        let put = |table: u64, index: u64, bits: u64| {
            ram.store_u64(TABLES + table * 0x1000 + index * 8, bits).expect("it is in RAM");
        };
        if self.satp_mode & 3 == 0 {
            return;
        }
        if !self.tables.is_empty() {
            for index in 0..4 * 512 {
                let entry = self.tables[(index % 521) as usize % self.tables.len()];
                put(index / 512, index % 512, entry.bits());
            }
        }
        if let Some(flags) = self.identity {
            // One table for each level above the one whose entries are of 1 GiB.
            let levels = u64::from((2 + u32::from(self.satp_mode & 3)).min(levels));
            for table in 0..levels - 3 {
                put(table, 0, Entry::Table(table as u8 + 1).bits());
            }
            put(levels - 3, RAM_BASE >> 30, Entry::Huge(flags).bits());
        }
    }

    /// Runs the program, in pieces with incidents between them.
    pub fn run(&self, machine: &mut Machine, engine: &mut Engine) {
        let none = [(64, Incident::Time(100))];
        let incidents = if self.incidents.is_empty() { &none[..] } else { &self.incidents };
        for (budget, incident) in incidents.iter().take(8) {
            machine.run(engine, u64::from(*budget));
            machine.suffer(*incident);
        }
        machine.run(engine, 64);
    }
}

impl Machine {
    /// Runs at most `budget` instructions, calls of the SBI included.
    fn run(&mut self, engine: &mut Engine, budget: u64) {
        let end = self.hart.counts().retired + budget;
        for _ in 0..=budget {
            let left = end.saturating_sub(self.hart.counts().retired);
            let stop = engine.run(&mut self.hart, left);
            assert!(self.hart.counts().retired <= end, "a run goes beyond its budget");
            assert_eq!(self.hart.x(0), 0);
            assert_eq!(self.hart.pc() & 1, 0);
            match stop {
                Stop::Budget | Stop::Pause | Stop::Watch => return,
                Stop::Semihosting | Stop::Breakpoint | Stop::Watchpoint { .. } | Stop::Difference => return,
                Stop::WaitForInterrupt => {
                    self.clock.advance(1000);
                    if !self.hart.has_pending_interrupt() {
                        return;
                    }
                }
                Stop::EnvironmentCall => {
                    assert!(self.hart.configuration().built_in_sbi);
                    match self.sbi.call(&mut self.hart) {
                        Outcome::Continue => {}
                        Outcome::Rest if !self.sbi.wake(&mut self.hart) => return,
                        Outcome::Rest => {}
                        Outcome::Fence(fence) => assert!(fence.wait(&mut self.hart), "there is nobody to wait for"),
                        Outcome::Power(_) => return,
                    }
                }
            }
        }
    }

    fn suffer(&mut self, incident: Incident) {
        let shared = self.hart.shared().clone();
        let lines = 1 << interrupt::MSI | 1 << interrupt::MTI | 1 << interrupt::MEI | 1 << interrupt::SEI;
        match incident {
            Incident::Time(ticks) => self.clock.advance(ticks.into()),
            Incident::Lines(set, clear) => shared.change_pending(u64::from(set) & lines, u64::from(clear) & lines),
            Incident::Pause(true) => shared.raise(event::PAUSE),
            Incident::Pause(false) => shared.withdraw(event::PAUSE),
            Incident::Restore => {
                let saved = self.hart.save();
                self.hart.restore(saved.clone()).expect("a state of this hart");
                assert!(self.hart.save() == saved, "a restored hart is another one");
            }
            Incident::Fence(start, size, asid) => {
                shared.post(cpu::Request::SfenceVma { start: start.get(), size: size.into(), asid });
            }
            Incident::Again => self.hart.set_pc(RAM_BASE + CODE),
        }
    }
}
