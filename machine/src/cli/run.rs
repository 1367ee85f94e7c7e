//! `vervet run`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use devices::backend::disk::{self, Format, Options};
use devices::backend::memory::MemoryBackend;
use devices::virtio::input::PowerKey;
use firmware::image::{self, Program};

use super::disk_option::{DiskOption, DiskParser};
use super::image::System;
use super::net::{Cards, NetOption};
use super::packages::Source;
use super::semihosting::SemihostingOption;
use super::session::Session;
use super::statistics::Statistics;
use super::{Processor, size};
use crate::board::virt::{self, Boot, Slot, Virt};
use crate::gdb::{self, Address, Server};
use crate::image::{Instance, MachineName, Store};
use crate::{End, Shutdown};

/// What the quick start's kernel is told.
const QUICK_START_COMMAND_LINE: &str = "console=ttyS0 quiet";

/// Seconds that a guest may take to shut down.
const DEFAULT_GRACE: u64 = 30;

/// Largest device tree file, in bytes.
const DEVICE_TREE_LIMIT: u64 = 1 << 20;
const LARGER_THAN_RAM: &str = "larger than the guest's RAM; give it more with -m";

/// The network of a machine whose user says nothing of it.
const NETWORK: &str = "user";
/// The network of a system known by name: NAT, and a port of this host that leads to its SSH server.
const SYSTEM_NETWORK: &str = "user,hostfwd=tcp:127.0.0.1:0-:22";
/// The port of an SSH server.
const SSH: u16 = 22;

#[derive(Debug, Args)]
pub struct Run {
    /// A system known by name, on a disk that is kept from run to run; made by `vervet image build` if it has not been
    #[arg(value_enum, conflicts_with_all = ["kernel", "bios"])]
    system: Option<System>,

    /// Have the system begin anew, as its image is; what it has written so far is lost
    #[arg(long, requires = "system")]
    fresh: bool,

    /// The system's name among those that are kept, so that several can be, and run at once
    #[arg(long, value_name = "NAME", requires = "system", default_value_t)]
    name: MachineName,

    /// The kernel: an ELF program, a RISC-V Linux Image, an EFI zboot file, or one of these compressed
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,

    /// The initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,

    /// The program that starts what is installed on the disks when there is no kernel, instead of U-Boot: a file as
    /// --kernel takes it
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    loader: Option<PathBuf>,

    /// The kernel's command line
    #[arg(long, value_name = "STRING", allow_hyphen_values = true)]
    append: Option<String>,

    /// Guest RAM; without a unit, MiB
    #[arg(long, short, value_name = "SIZE", default_value = "1G", value_parser = size::parse)]
    memory: u64,

    /// Number of harts
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    smp: u64,

    #[command(flatten)]
    processor: Processor,

    /// A disk: the path of an image and options: format=raw|qcow2 (else the content tells), readonly, serial=S,
    /// cache=writeback|none (none: past the host's cache), snapshot (what is written is discarded in the end); may be
    /// given several times
    #[arg(long, value_name = "PATH[,OPTION]...", value_parser = DiskParser)]
    disk: Vec<DiskOption>,

    /// How long the guest may take to shut down when it is asked to: by SIGTERM, by closing the terminal, by Ctrl-A p. A
    /// second time, and Ctrl-A x, end it at once
    #[arg(long, value_name = "SECONDS", default_value_t = DEFAULT_GRACE)]
    grace: u64,

    /// A network card: `user` (a network with NAT inside of the process), `switch=NAME` (the same, shared by all guests
    /// that name it, and by those of QEMU's that join it by `stream` or `dgram`), `tap=IFACE` (a TAP interface of the
    /// host's; Linux) or `none`, and options: mac=, queues=, link=down, pcap=FILE; but for tap= also mtu=, hostname=,
    /// hostfwd=tcp:127.0.0.1:2222-:22 (also udp; may be given several times), hostaccess=on, restrict=on, dns=ADDRESS;
    /// may be given several times
    /// [default: user; for a system known by name with a forward to its port 22]
    #[arg(long, value_name = "KIND[,OPTION=VALUE]...")]
    net: Vec<NetOption>,

    /// Firmware to run in M-mode instead of the built-in SBI (OpenSBI's fw_dynamic or fw_jump, for example), or `none`
    /// to start the kernel in M-mode
    #[arg(long, value_name = "FILE|none")]
    bios: Option<PathBuf>,

    /// A device tree to use instead of the board's own
    #[arg(long, value_name = "FILE")]
    dtb: Option<PathBuf>,

    /// Write the device tree to a file and exit
    #[arg(long, value_name = "FILE")]
    dump_dtb: Option<PathBuf>,

    /// Print what the engine did to standard error at the end: instructions, TLB misses, the share run compiled, exits
    /// by kind
    #[arg(long)]
    stats: bool,

    /// Let a bare-metal program, or a kernel, use the host by semihosting: console, clock, command line (--kernel's name
    /// and --append) and exit code. Options: folder=PATH (files of this folder and below), readonly (they can only be
    /// read), userspace=on (U-mode, too)
    #[arg(long, value_name = "OPTION,...", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    semihosting: Option<SemihostingOption>,

    /// Wait for gdb at HOST:PORT (by default 127.0.0.1:1234) or unix:PATH; whoever can connect there controls the guest
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = Address::DEFAULT)]
    gdb: Option<Address>,

    /// Start the guest only when gdb says so
    #[arg(long, requires = "gdb")]
    wait: bool,

    #[command(flatten)]
    source: Source,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            system: None,
            fresh: false,
            name: MachineName::default(),
            kernel: None,
            loader: None,
            initrd: None,
            append: None,
            memory: 1 << 30,
            smp: 1,
            processor: Processor::default(),
            disk: Vec::new(),
            grace: DEFAULT_GRACE,
            net: Vec::new(),
            bios: None,
            dtb: None,
            dump_dtb: None,
            stats: false,
            semihosting: None,
            gdb: None,
            wait: false,
            source: Source::default(),
        }
    }
}

impl Run {
    pub fn execute(mut self) -> anyhow::Result<u8> {
        let engine = self.processor.engine()?;
        let instance = self.instance()?;
        if self.net.is_empty() {
            let network = if instance.is_some() { SYSTEM_NETWORK } else { NETWORK };
            self.net.push(network.parse().map_err(anyhow::Error::msg)?);
        }
        let mut slots = Vec::new();
        if let Some(instance) = &instance {
            let options = Options { format: Some(Format::Qcow2), ..Options::default() };
            slots.push(Slot::Disk(disk::open(&instance.disk(), &options)?, String::new()));
        }
        for disk in &self.disk {
            let (disk, serial) = disk.open()?;
            slots.push(Slot::Disk(disk, serial));
        }
        let semihosting =
            self.semihosting.as_ref().map(|option| option.settings(self.program_and_arguments())).transpose()?;
        let boots_disk = self.boots_disk();
        let boot = self.boot()?;
        let power_key = PowerKey::default();
        slots.extend([Slot::Rng, Slot::PowerKey(power_key.clone())]);
        // An installed system offers a login at each console it finds; two would mix on the one terminal.
        slots.extend((!boots_disk).then_some(Slot::Console));
        // Nothing is started for a machine of which only the description is wanted.
        let Cards { cards, forwards } = match self.dump_dtb {
            Some(_) => Cards { cards: super::net::unconnected_cards(&self.net), forwards: Vec::new() },
            None => super::net::cards(&self.net)?,
        };
        slots.extend(cards.into_iter().map(Slot::Net));
        if let Some(instance) = &instance
            && let Some(forward) = forwards.iter().find(|forward| forward.guest_port == SSH)
        {
            instance.set_ssh_port(forward.host.port())?;
        }
        let device_tree = match &self.dtb {
            None => None,
            Some(path) => {
                Some((path.display().to_string(), read(path, DEVICE_TREE_LIMIT, "larger than any device tree")?))
            }
        };
        let mut seed = [0; 64];
        let seeded = getrandom::fill(&mut seed).is_ok();
        let board = |console| {
            let board = Virt {
                memory: self.memory,
                harts: self.smp,
                extensions: self.processor.cpu,
                engine,
                console,
                slots,
                device_tree,
                rng_seed: seeded.then_some(seed),
                // A key that has been pressed by then still stops it.
                boot_delay: boots_disk.then_some(0),
                semihosting,
                ..Virt::new(boot)
            };
            board.build()
        };
        if let Some(path) = &self.dump_dtb {
            let board = board(MemoryBackend::new())?;
            std::fs::write(path, board.device_tree())
                .with_context(|| format!("{}: cannot be written", path.display()))?;
            return Ok(0);
        }
        let server = self.gdb.as_ref().map(Server::bind).transpose()?;
        if let Some(server) = &server {
            server.announce();
        }
        let session = Session::open()?;
        let mut board = board(session.console())?;
        session.connect(board.machine.events());
        board.put_away();
        let shutdown = Shutdown::new(power_key, Duration::from_secs(self.grace));
        let end = gdb::supervise(&mut board, server.as_ref(), self.wait, shutdown)?;
        let statistics = self.stats.then(|| Statistics::of(board.machine.cores()));
        // The devices' last output goes to the terminal before it is restored.
        drop(board);
        if let Some(statistics) = statistics {
            session.restore();
            eprint!("{statistics}");
        }
        session.close(matches!(end, End::Guest(_)))?;
        match end {
            End::Guest(code) => Ok(code),
            End::User => Ok(0),
        }
    }

    /// The command line as a program has it that was started on a host.
    fn program_and_arguments(&self) -> String {
        let program = self.kernel.as_ref().map(|path| path.display().to_string());
        program.into_iter().chain(self.append.clone()).collect::<Vec<_>>().join(" ")
    }

    /// The machine of a system known by name.
    fn instance(&self) -> anyhow::Result<Option<Instance>> {
        let Some(System::Debian) = self.system else { return Ok(None) };
        let store = Store::open()?;
        super::image::default_debian(&store, &self.source)?;
        Ok(Some(store.take(&self.name, self.fresh)?))
    }

    /// Whether what is installed on a disk is to start.
    fn boots_disk(&self) -> bool {
        let disks = self.system.is_some() || !self.disk.is_empty();
        self.kernel.is_none() && (self.loader.is_some() || disks && self.bios.is_none())
    }

    /// The boot loader.
    fn loader(&self) -> anyhow::Result<Program> {
        let room = virt::kernel_room(self.memory);
        match &self.loader {
            Some(path) => Ok(image::load_kernel(path, &room)?),
            None => {
                let program = self.source.boot_loader().context(
                    "no boot loader for the disk (--loader FILE takes one of yours, --kernel FILE starts without)",
                )?;
                Ok(image::kernel_from_bytes("U-Boot", program, &room)?)
            }
        }
    }

    /// What the machine is to start.
    fn boot(&self) -> anyhow::Result<Boot> {
        let initrd = match &self.initrd {
            None => None,
            Some(path) => Some(Arc::new(read(path, self.memory, LARGER_THAN_RAM)?.into())),
        };
        let command_line = self.append.clone().unwrap_or_default();
        let kernel = |room| -> anyhow::Result<Option<Arc<Program>>> {
            if self.boots_disk() {
                return Ok(Some(Arc::new(self.loader()?)));
            }
            let program = self.kernel.as_deref().map(|path| image::load_kernel(path, &room)).transpose()?;
            Ok(program.map(Arc::new))
        };
        match &self.bios {
            Some(bios) if bios == Path::new("none") => match kernel(virt::bare_room(self.memory))? {
                Some(program) => Ok(Boot::Bare(program)),
                None => bail!("--bios none starts the program given by --kernel, and there is none"),
            },
            Some(bios) => {
                let firmware = Arc::new(image::load_firmware(bios, &virt::bare_room(self.memory))?);
                Ok(Boot::Firmware { firmware, kernel: kernel(virt::kernel_room(self.memory))?, initrd, command_line })
            }
            None => match kernel(virt::kernel_room(self.memory))? {
                Some(kernel) => Ok(Boot::Kernel { kernel, initrd, command_line }),
                None => self.quick_start(),
            },
        }
    }

    /// Debian's kernel with a BusyBox system; where it cannot be had, the monitor.
    fn quick_start(&self) -> anyhow::Result<Boot> {
        let room = virt::kernel_room(self.memory);
        match self.source.quick_start() {
            Ok(files) => Ok(Boot::Kernel {
                kernel: Arc::new(image::load_kernel(&files.kernel, &room)?),
                initrd: Some(Arc::new(read(&files.initrd, self.memory, LARGER_THAN_RAM)?.into())),
                command_line: self.append.clone().unwrap_or_else(|| QUICK_START_COMMAND_LINE.into()),
            }),
            Err(error) => {
                eprintln!("vervet: no Debian to boot: {error:#}");
                eprintln!("vervet: starting the built-in monitor instead; --kernel FILE boots a kernel of your own");
                Ok(Boot::Kernel {
                    kernel: Arc::new(firmware::monitor::program(&room)?),
                    initrd: None,
                    command_line: self.append.clone().unwrap_or_default(),
                })
            }
        }
    }
}

/// Reads a file of at most `limit` bytes, for a device that never ends must not fill the host's memory; `excess` says
/// what is wrong with more.
fn read(path: &Path, limit: u64, excess: &str) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{}: cannot be read", path.display());
    let file = File::open(path).with_context(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).with_context(unreadable)?;
    if bytes.len() as u64 > limit {
        bail!("{}: {excess}", path.display());
    }
    Ok(bytes)
}
