//! A board compatible with QEMU's `virt`: the same memory map and interrupt numbers, so that images built for it run.

use std::ops::Range;
use std::sync::Arc;

use bus::device_tree::Node;
use bus::{AddressSpace, Clock, Device, InterruptSink, IrqLine, MapError, Placement, Ram, RamError};
use cpu::extension::{Extension, ExtensionSet};
use cpu::{CACHE_BLOCK_SIZE, Configuration, EngineError, EngineKind, Engines, HartBox, Privilege, interrupt};
use devices::aclint::{self, Clint, Sswi};
use devices::backend::disk::Disk;
use devices::backend::memory::MemoryBackend;
use devices::backend::{CharacterBackend, Console, Port};
use devices::finisher::Finisher;
use devices::plic::{self, Plic};
use devices::rom::{Rom, TooLarge};
use devices::rtc::{self, GoldfishRtc};
use devices::uart::Uart;
use devices::virtio::blk::Blk;
use devices::virtio::input::PowerKey;
use devices::virtio::net::{LinkControl, Net};
use devices::virtio::rng::Rng;
use devices::virtio::worker::Service;
use devices::virtio::{self, VirtioDevice, VirtioMmio, Worker};
use firmware::device_tree::{self, Chosen, Cpu};
use firmware::image::{Kept, Program, Room};
use firmware::layout::{self, Layout, LayoutError};
use firmware::reset_vector::{ROM_BASE, ResetVector};
use firmware::sbi::Sbi;

use crate::machine::{Core, Machine, Wiring};
use crate::semihosting::{self, Semihosting};

/// Where RAM begins, guest-physical.
pub const RAM_BASE: u64 = 0x8000_0000;
/// Most harts: what the interrupt controllers' register windows hold.
pub const MOST_HARTS: u64 = 512;

const ROM_SIZE: usize = 0xf000;
const FINISHER: u64 = 0x10_0000;
const RTC: u64 = 0x10_1000;
const CLINT: u64 = 0x200_0000;
const SSWI: u64 = 0x2f0_0000;
const PLIC: u64 = 0xc00_0000;
const UART: u64 = 0x1000_0000;
const VIRTIO: u64 = 0x1000_1000;
const VIRTIO_STRIDE: u64 = 0x1000;

/// Sources of the PLIC, from 1.
const SOURCES: u32 = 95;
const VIRTIO_INTERRUPT: u32 = 1;
const UART_INTERRUPT: u32 = 10;
const RTC_INTERRUPT: u32 = 11;
/// Where the sources of virtio slots beyond the eighth begin.
const MORE_VIRTIO_INTERRUPTS: u32 = 12;
/// Virtio slots that the board always has.
const SLOTS: usize = 8;
/// Virtio slots that there are sources for.
const MOST_SLOTS: usize = 64;

/// How far a kernel under the built-in SBI lies behind the start of RAM, as it does behind a firmware that is loaded.
const KERNEL_OFFSET: u64 = 0x20_0000;

/// Why a board could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BoardError {
    /// The RAM cannot be had.
    #[error(transparent)]
    Ram(#[from] RamError),
    /// The engine cannot be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Two devices claim the same addresses.
    #[error(transparent)]
    Map(#[from] MapError),
    /// The programs do not fit.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A device tree of the user's is no use.
    #[error(transparent)]
    DeviceTree(#[from] device_tree::DeviceTreeError),
    /// Too many virtio devices.
    #[error("{0} virtio devices; the board has room for {MOST_SLOTS}")]
    Slots(usize),
    /// Too many harts.
    #[error("{0} harts; the board has room for {MOST_HARTS}")]
    Harts(u64),
    /// Lockstep compares what one hart does.
    #[error("{0} harts; --lockstep compares one (--smp 1)")]
    Lockstep(u64),
    /// A disk's serial number is no use.
    #[error(transparent)]
    Serial(#[from] virtio::blk::SerialError),
    /// The host gives no thread for a device.
    #[error("the host cannot start a thread for a device: {0}")]
    Thread(std::io::Error),
    /// The reset vector is larger than its ROM.
    #[error(transparent)]
    Rom(#[from] TooLarge),
}

/// What the machine starts.
#[derive(Clone, Debug)]
pub enum Boot {
    /// A program in M-mode, without firmware.
    Bare(Arc<Program>),
    /// A kernel in S-mode on the built-in SBI.
    Kernel {
        /// The kernel.
        kernel: Arc<Program>,
        /// Its initial RAM disk.
        initrd: Option<Arc<Kept>>,
        /// Its command line.
        command_line: String,
    },
    /// Firmware in M-mode, which starts the kernel.
    Firmware {
        /// The firmware.
        firmware: Arc<Program>,
        /// The kernel, if there is one.
        kernel: Option<Arc<Program>>,
        /// Its initial RAM disk.
        initrd: Option<Arc<Kept>>,
        /// Its command line.
        command_line: String,
    },
}

impl Boot {
    fn initrd(&self) -> Option<&Arc<Kept>> {
        match self {
            Boot::Bare(_) => None,
            Boot::Kernel { initrd, .. } | Boot::Firmware { initrd, .. } => initrd.as_ref(),
        }
    }

    fn command_line(&self) -> &str {
        match self {
            Boot::Bare(_) => "",
            Boot::Kernel { command_line, .. } | Boot::Firmware { command_line, .. } => command_line,
        }
    }

    /// The programs to be placed, with names for messages.
    fn programs(&self) -> Vec<(&'static str, &Arc<Program>)> {
        match self {
            Boot::Bare(program) => vec![("the program", program)],
            Boot::Kernel { kernel, .. } => vec![("the kernel", kernel)],
            Boot::Firmware { firmware, kernel, .. } => {
                std::iter::once(("the firmware", firmware)).chain(kernel.iter().map(|k| ("the kernel", k))).collect()
            }
        }
    }
}

/// A virtio device for one of the board's slots.
pub enum Slot {
    /// A disk with its serial number.
    Disk(Arc<dyn Disk>, String),
    /// Entropy from the host.
    Rng,
    /// A console that shares the board's terminal.
    Console,
    /// A network card.
    Net(Net),
    /// The power key.
    PowerKey(PowerKey),
}

/// The description of a board.
pub struct Virt {
    /// Bytes of RAM.
    pub memory: u64,
    /// Number of harts.
    pub harts: u64,
    /// The harts' extensions.
    pub extensions: ExtensionSet,
    /// The harts' engine.
    pub engine: EngineKind,
    /// What the machine starts.
    pub boot: Boot,
    /// The terminal.
    pub console: Arc<dyn CharacterBackend>,
    /// Virtio devices, slot by slot; the board has at least eight slots.
    pub slots: Vec<Slot>,
    /// A device tree of the user's, with the name of its file.
    pub device_tree: Option<(String, Vec<u8>)>,
    /// Entropy for the kernel.
    pub rng_seed: Option<[u8; 64]>,
    /// Seconds that U-Boot waits for a key before it boots; without a value, as many as it was built with.
    pub boot_delay: Option<u32>,
    /// What semihosting offers; without settings there is none.
    pub semihosting: Option<semihosting::Settings>,
    /// The clock; a virtual one makes a machine deterministic.
    pub clock: Clock,
}

impl Virt {
    /// A board of one hart and 128 MiB that starts `boot`, with a terminal that nobody reads.
    pub fn new(boot: Boot) -> Self {
        Self {
            memory: 128 << 20,
            harts: 1,
            extensions: ExtensionSet::implemented(),
            engine: EngineKind::default(),
            boot,
            console: MemoryBackend::new(),
            slots: Vec::new(),
            device_tree: None,
            rng_seed: None,
            boot_delay: None,
            semihosting: None,
            clock: Clock::host(),
        }
    }
}

/// Where a program without firmware may go on a board with `memory` bytes.
pub fn bare_room(memory: u64) -> Room {
    Room { ram: ram_range(memory), lowest: RAM_BASE }
}

/// Where a kernel under the built-in SBI or a firmware may go.
pub fn kernel_room(memory: u64) -> Room {
    Room { ram: ram_range(memory), lowest: RAM_BASE + KERNEL_OFFSET }
}

fn ram_range(memory: u64) -> Range<u64> {
    RAM_BASE..RAM_BASE.saturating_add(memory)
}

/// What to put into RAM and registers when the machine starts, at first and after each reset.
struct Start {
    boot: Boot,
    layout: Layout,
    device_tree: Vec<u8>,
}

/// A board that has been built.
pub struct Board {
    /// The machine.
    pub machine: Machine,
    /// The cables of its network cards by name: `net0`, `net1`…
    pub links: Vec<(String, LinkControl)>,
    start: Start,
}

impl Board {
    /// The device tree blob.
    pub fn device_tree(&self) -> &[u8] {
        &self.start.device_tree
    }

    /// Has a thread move what is not needed before a reset out of memory.
    pub fn put_away(&self) {
        let boot = self.start.boot.clone();
        let put_away = move || {
            boot.programs().into_iter().for_each(|(_, program)| program.put_away());
            if let Some(initrd) = boot.initrd() {
                initrd.put_away();
            }
        };
        // Without a thread it stays where it is.
        if let Err(error) = std::thread::Builder::new().name("put away".into()).spawn(put_away) {
            tracing::debug!(%error, "what the machine starts stays in memory");
        }
    }

    /// Resets the paused machine and loads what it starts again.
    pub fn reset(&mut self) {
        self.machine.reset();
        self.start.load(&mut self.machine);
    }
}

impl Start {
    fn load(&self, machine: &mut Machine) {
        let ram = machine.bus().ram().clone();
        for (_, program) in self.boot.programs() {
            program.place(&ram);
        }
        // The layout has found room for both.
        let place = |address, bytes: &[u8]| {
            if ram.write(address, bytes).is_none() {
                tracing::error!("{} bytes at {address:#x} are not in RAM", bytes.len());
            }
        };
        place(self.layout.device_tree, &self.device_tree);
        if let (Some(range), Some(initrd)) = (&self.layout.initrd, self.boot.initrd())
            && let Err(error) = initrd.place(&ram, 0..initrd.len(), range.start)
        {
            tracing::error!("the initrd cannot be placed: {error}");
        }
        if let Boot::Kernel { kernel, .. } = &self.boot {
            let (entry, device_tree) = (kernel.entry(), self.layout.device_tree);
            machine.enter_supervisor(entry, device_tree);
        }
    }
}

/// A device under construction: where it goes and which sources its lines lead to.
struct Place {
    device: Arc<dyn Device>,
    base: u64,
    interrupts: Vec<u32>,
    phandle: u32,
}

impl Virt {
    /// Builds the board, its machine paused and ready to start.
    ///
    /// # Errors
    /// RAM cannot be had, something does not fit, or a file of the user's is no use.
    pub fn build(mut self) -> Result<Board, BoardError> {
        let semihosting = self.semihosting.take();
        let cards = self.slots.iter().filter_map(|slot| match slot {
            Slot::Net(card) => Some(card.link()),
            _ => None,
        });
        let links = cards.enumerate().map(|(index, link)| (format!("net{index}"), link)).collect();
        if self.harts == 0 || self.harts > MOST_HARTS {
            return Err(BoardError::Harts(self.harts));
        }
        if self.harts > 1 && matches!(self.engine, EngineKind::Jit(options) if options.lockstep) {
            return Err(BoardError::Lockstep(self.harts));
        }
        let ram = Ram::new(RAM_BASE, self.memory)?;
        let wiring = Wiring::new(self.harts);
        let clock = self.clock.clone();
        let console = Console::new(self.console.clone());

        let harts = || wiring.harts.iter().map(|hart| move |number| IrqLine::new(hart.clone(), number));
        let plic_lines =
            harts().map(|line| plic::HartLines { machine: line(interrupt::MEI), supervisor: line(interrupt::SEI) });
        let plic = Arc::new(Plic::new(SOURCES, plic_lines.collect()));
        let clint_lines =
            harts().map(|line| aclint::HartLines { software: line(interrupt::MSI), timer: line(interrupt::MTI) });
        let sswi_lines = harts().map(|line| line(interrupt::SSI));
        let line = |source| IrqLine::new(plic.clone() as Arc<dyn InterruptSink>, source);

        let phandles = device_tree::first_device_phandle(self.harts as u32);
        let (plic_phandle, finisher_phandle) = (phandles, phandles + 1);
        let mut places = vec![
            Place {
                device: Arc::new(Finisher::new(wiring.events.power_switch())),
                base: FINISHER,
                interrupts: vec![],
                phandle: finisher_phandle,
            },
            Place {
                device: GoldfishRtc::new(line(RTC_INTERRUPT), clock.clone(), rtc::host_wall_clock),
                base: RTC,
                interrupts: vec![RTC_INTERRUPT],
                phandle: 0,
            },
            Place {
                device: Clint::new(clock.clone(), clint_lines.collect()),
                base: CLINT,
                interrupts: vec![],
                phandle: 0,
            },
            Place { device: Arc::new(Sswi::new(sswi_lines.collect())), base: SSWI, interrupts: vec![], phandle: 0 },
            Place { device: plic.clone(), base: PLIC, interrupts: vec![], phandle: plic_phandle },
            Place {
                device: Uart::new(line(UART_INTERRUPT), console.port(), clock.clone()),
                base: UART,
                interrupts: vec![UART_INTERRUPT],
                phandle: 0,
            },
        ];
        self.add_virtio(&mut places, &ram, &line, &console)?;

        // The built-in SBI's console output goes to the terminal too.
        let sbi = matches!(self.boot, Boot::Kernel { .. })
            .then(|| Sbi::new(&wiring.harts, &clock, Arc::new(DebugConsole(console.port()))));
        let device_tree = self.device_tree_without_places(&places, plic_phandle, finisher_phandle);
        let ranges: Vec<_> = self.boot.programs().iter().map(|(name, program)| (*name, program.range())).collect();
        // The tree grows by the initrd's place; 4 KiB are more than it takes.
        let tree_room = device_tree::with_room(device_tree(None)?).len() as u64 + 0x1000;
        let initrd_size = self.boot.initrd().map(|initrd| initrd.len());
        let layout = layout::plan(&ram_range(self.memory), &ranges, initrd_size, tree_room)?;
        let device_tree = device_tree::with_room(device_tree(layout.initrd.clone())?);

        let mut bus = AddressSpace::new(ram);
        for place in places {
            bus.map(place.base, place.device)?;
        }
        let (start, next) = match &self.boot {
            Boot::Bare(program) => (program.entry(), 0),
            Boot::Kernel { kernel, .. } => (kernel.entry(), 0),
            Boot::Firmware { firmware, kernel, .. } => (firmware.entry(), kernel.as_ref().map_or(0, |k| k.entry())),
        };
        let rom = ResetVector { start, device_tree: layout.device_tree, next, boot_hart: 0 }.rom();
        bus.map(ROM_BASE, Arc::new(Rom::new(rom, ROM_SIZE)?))?;

        let configuration = Configuration {
            extensions: self.extensions,
            page_table_levels: page_table_levels(self.extensions),
            built_in_sbi: sbi.is_some(),
            semihosting: semihosting.as_ref().map(|settings| match settings.user_mode {
                true => Privilege::User,
                false => Privilege::Supervisor,
            }),
            reset_vector: ROM_BASE,
        };
        let bus = Arc::new(bus);
        let engines = Engines::new(self.engine, bus.ram(), &configuration)?;
        let cores = wiring.harts.iter().map(|shared| {
            let mut hart = HartBox::new(configuration.clone(), shared.clone(), bus.clone(), clock.clone());
            hart.set_peers(wiring.harts.iter());
            Core::new(hart, engines.engine())
        });
        let cores = cores.collect();
        let heap = heap(&ram_range(self.memory), &ranges, &layout);
        let semihosting = semihosting.map(|settings| Semihosting::new(settings, console.port(), &clock, heap));
        let mut machine = Machine::new(wiring, bus, clock, cores, sbi, semihosting);
        let start = Start { boot: self.boot.clone(), layout, device_tree };
        start.load(&mut machine);
        Ok(Board { machine, links, start })
    }

    /// Adds the virtio slots, those without a device too.
    fn add_virtio(
        &self,
        places: &mut Vec<Place>,
        ram: &Ram,
        line: &dyn Fn(u32) -> IrqLine,
        console: &Arc<Console>,
    ) -> Result<(), BoardError> {
        if self.slots.len() > MOST_SLOTS {
            return Err(BoardError::Slots(self.slots.len()));
        }
        for slot in 0..self.slots.len().max(SLOTS) {
            let interrupt = match slot.checked_sub(SLOTS) {
                None => VIRTIO_INTERRUPT + slot as u32,
                Some(more) => MORE_VIRTIO_INTERRUPTS + more as u32,
            };
            let device: Arc<dyn Device> = match self.slots.get(slot) {
                None => Arc::new(VirtioMmio::empty(ram.clone(), line(interrupt))),
                Some(Slot::Disk(disk, serial)) => {
                    let blk = Blk::new(disk.clone(), serial)?.with_queues(self.harts);
                    Arc::new(VirtioMmio::new(worker(blk)?, ram.clone(), line(interrupt)))
                }
                Some(Slot::Rng) => Arc::new(VirtioMmio::new(worker(Rng)?, ram.clone(), line(interrupt))),
                Some(Slot::Net(card)) => Arc::new(VirtioMmio::new(worker(card.clone())?, ram.clone(), line(interrupt))),
                Some(Slot::PowerKey(key)) => {
                    Arc::new(VirtioMmio::new(worker(key.clone())?, ram.clone(), line(interrupt)))
                }
                Some(Slot::Console) => {
                    let console = virtio::console::Console::new(console.port());
                    Arc::new(VirtioMmio::new(worker(console)?, ram.clone(), line(interrupt)))
                }
            };
            let base = VIRTIO + slot as u64 * VIRTIO_STRIDE;
            places.push(Place { device, base, interrupts: vec![interrupt], phandle: 0 });
        }
        Ok(())
    }

    /// Makes the device tree, given where the initrd is.
    fn device_tree_without_places<'a>(
        &'a self,
        places: &[Place],
        plic_phandle: u32,
        finisher_phandle: u32,
    ) -> impl Fn(Option<Range<u64>>) -> Result<Vec<u8>, BoardError> + use<'a> {
        let controllers: Vec<u32> = (0..self.harts as u32).map(device_tree::hart_interrupt_controller).collect();
        let nodes: Vec<Node> = places
            .iter()
            .filter_map(|place| {
                place.device.describe(&Placement {
                    base: place.base,
                    size: place.device.size(),
                    interrupts: place.interrupts.clone(),
                    interrupt_parent: plic_phandle,
                    phandle: place.phandle,
                    hart_interrupt_controllers: controllers.clone(),
                })
            })
            .collect();
        let console = format!("/soc/serial@{UART:x}");
        move |initrd| {
            let chosen = Chosen {
                bootargs: self.boot.command_line().into(),
                initrd,
                stdout_path: Some(console.clone()),
                rng_seed: self.rng_seed,
            };
            if let Some((file, tree)) = &self.device_tree {
                return Ok(device_tree::amend(file, tree, &chosen)?);
            }
            let board = device_tree::Board {
                model: "riscv-virtio,vervet".into(),
                compatible: vec!["riscv-virtio".into()],
                memory: vec![(RAM_BASE, self.memory)],
                harts: self.harts as u32,
                cpu: describe_cpu(self.extensions),
                devices: nodes.clone(),
                root_nodes: Finisher::power_nodes(finisher_phandle)
                    .into_iter()
                    .chain(self.boot_delay.map(device_tree::boot_delay))
                    .collect(),
                aliases: vec![("serial0".into(), console.clone())],
                chosen,
            };
            Ok(board.to_dtb())
        }
    }
}

/// A virtio device that is served on a thread of its own.
fn worker<S: Service + 'static>(service: S) -> Result<Box<dyn VirtioDevice>, BoardError> {
    Ok(Box::new(Worker::new(service).map_err(BoardError::Thread)?))
}

/// The built-in SBI's debug console on the board's terminal.
struct DebugConsole(Arc<Port>);

impl firmware::sbi::Console for DebugConsole {
    fn write(&self, bytes: &[u8]) -> usize {
        self.0.write(bytes)
    }

    fn read(&self, bytes: &mut [u8]) -> usize {
        self.0.claim();
        self.0.read(bytes)
    }
}

/// The RAM behind the programs, up to what else is put there: what a program may use as it likes.
fn heap(ram: &Range<u64>, programs: &[(&str, Range<u64>)], layout: &Layout) -> Range<u64> {
    const ALIGNMENT: u64 = 16;
    let start = programs.iter().map(|(_, range)| range.end).max().unwrap_or(ram.start).next_multiple_of(ALIGNMENT);
    let others = [Some(layout.device_tree), layout.initrd.as_ref().map(|range| range.start)];
    let end = others.into_iter().flatten().filter(|other| *other >= start).min().unwrap_or(ram.end);
    start..end.max(start)
}

/// Levels of the widest page table that the extensions offer.
fn page_table_levels(extensions: ExtensionSet) -> u32 {
    let offered = [(Extension::Sv57, 5), (Extension::Sv48, 4), (Extension::Sv39, 3)];
    offered.into_iter().find(|(extension, _)| extensions.contains(*extension)).map_or(0, |(_, levels)| levels)
}

fn describe_cpu(extensions: ExtensionSet) -> Cpu {
    let block = |extension| extensions.contains(extension).then_some(CACHE_BLOCK_SIZE as u32);
    Cpu {
        isa_base: "rv64i".into(),
        extensions: extensions.device_tree_names().into_iter().map(Into::into).collect(),
        isa: extensions.isa_string(),
        mmu_type: match page_table_levels(extensions) {
            3 => Some("riscv,sv39".into()),
            4 => Some("riscv,sv48".into()),
            5 => Some("riscv,sv57".into()),
            _ => None,
        },
        cbom_block_size: block(Extension::Zicbom),
        cboz_block_size: block(Extension::Zicboz),
        cbop_block_size: block(Extension::Zicbop),
    }
}
