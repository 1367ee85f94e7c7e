//! The building of a disk: what the machine is given, and how it is watched.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cpu::{EngineKind, JitOptions};
use crossbeam::channel::Receiver;
use devices::backend::disk::RawDisk;
use fatfs::FormatVolumeOptions;
use packages::{Archive, FileTree, Initramfs, Kernel, Package, WorkFolder};
use uuid::Uuid;

use super::files::{self, Plan};
use super::transcript::Transcript;
use super::volume::Volume;
use super::{BootLoader, Debian, Error, PACKAGES, Result, SMALLEST, package_disk, partition};
use crate::Event;
use crate::board::virt::{self, Board, BoardError, Boot, Slot, Virt};

/// The kernel that builds.
const KERNEL: &str = "linux-image-riscv64";
/// Its modules: disks, the disk's file system, and that of the packages.
const MODULES: [&str; 7] = ["virtio_mmio", "virtio_blk", "crc32c_generic", "ext4", "vfat", "nls_cp437", "nls_utf8"];
/// What is in the initramfs beside the required packages.
const TOOLS: [&str; 2] = ["busybox-static", "e2fsprogs"];
const COMMAND_LINE: &str = "console=ttyS0 quiet";
/// RAM of the machine that builds, in bytes.
const MEMORY: u64 = 1 << 30;
/// Most harts that it can make use of.
const MOST_HARTS: usize = 4;
/// How often the user's wish to stop is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Hears how far a build is.
pub trait Progress {
    /// Work begins that takes about `steps` steps in all.
    fn begin(&self, steps: u64);
    /// What is being done now.
    fn stage(&self, what: &str);
    /// A step has been done.
    fn step(&self);
    /// The work has ended, well or not.
    fn end(&self);
}

/// What a disk is made of, fetched and verified.
pub struct Parts<'a> {
    debian: &'a Debian,
    /// All packages: those that every system has, then the others.
    packages: Vec<Package>,
    /// How many of them every system has.
    required: usize,
    /// What the machine that builds has in its initramfs.
    tools: Vec<Package>,
    kernel: Kernel,
    /// The mirror that they came from.
    mirror: Option<String>,
}

/// The identities of a disk's file systems.
struct Identities {
    root: Uuid,
    /// Of the EFI system partition's, if there is one.
    system: Option<u32>,
}

impl<'a> Parts<'a> {
    /// Fetches what the cache does not hold.
    ///
    /// # Errors
    /// If the disk would be too small, or packages cannot be had.
    pub fn fetch(debian: &'a Debian) -> Result<Self> {
        if debian.size < SMALLEST {
            return Err(Error::Size { given: debian.size >> 20 });
        }
        let archive = Archive::open(&debian.packages)?;
        let required = archive.required()?;
        let required: Vec<&str> = required.iter().map(String::as_str).collect();
        let mut packages = archive.fetch_closure(&required)?;
        let wanted = PACKAGES.iter().chain(debian.boot_loader.packages()).copied();
        let wanted = wanted.chain(debian.add.iter().map(String::as_str));
        // With the required ones first, so that alternatives are decided in the same way.
        let names: Vec<&str> = required.iter().copied().chain(wanted).collect();
        let mut others = archive.fetch_closure(&names)?;
        others.retain(|package| !packages.contains(package));
        // It makes /bin, /lib and /sbin the links that other packages take for granted.
        packages.sort_by_key(|package| package.name != "base-files");
        let required_count = packages.len();
        packages.append(&mut others);
        Ok(Self {
            debian,
            packages,
            required: required_count,
            tools: archive.fetch_closure(&[&required[..], &TOOLS].concat())?,
            kernel: archive.kernel(KERNEL)?,
            mirror: archive.mirror_address().map(Into::into),
        })
    }

    /// Makes the disk and gives it the name `output`. Whatever was there is replaced, in one step and only by a whole
    /// image. `stop` is raised by a user who does not want to wait any longer.
    ///
    /// # Errors
    /// If the host refuses to write, or a step in the machine fails; no file is left behind then but `output` with
    /// `.log` at its end, if the machine had something to say.
    pub fn build(&self, output: &Path, progress: &dyn Progress, stop: &AtomicBool) -> Result<()> {
        let work = WorkFolder::beside(output)?;
        let image = work.path().join("disk");
        let package_image = work.path().join("packages");

        let _bar = Bar::begin(progress, self.packages.len(), self.required);
        progress.stage("unpacking packages");
        package_disk::write(&package_image, &create(&package_image)?, &self.packages, |_| {
            progress.step();
            if stop.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
        })?;
        let identities = self.write_empty(&image)?;

        let (sender, lines) = crossbeam::channel::unbounded();
        let console = Arc::new(Transcript::new(sender));
        let board = board(&self.boot(&identities)?, &console, &image, &package_image)?;
        let watch = Watch { lines, progress, stage: "start".into(), last: String::new() };
        if let Err((stage, reason)) = watch.run(board, stop) {
            if stop.load(Ordering::Relaxed) {
                return Err(Error::Interrupted);
            }
            let mut log = output.as_os_str().to_owned();
            log.push(".log");
            let log = PathBuf::from(log);
            std::fs::write(&log, console.text()).map_err(Error::io(&log, "write"))?;
            return Err(Error::Guest { stage, reason, log });
        }
        // Its name must not come to the disk before its contents do.
        File::open(&image).and_then(|file| file.sync_all()).map_err(Error::io(&image, "write"))?;
        std::fs::rename(&image, output).map_err(Error::io(output, "write"))
    }

    /// Makes the empty disk: its partitions, and the file system that firmware reads.
    fn write_empty(&self, image: &Path) -> Result<Identities> {
        let mut disk = create(image)?;
        disk.set_len(self.debian.size >> 20 << 20).map_err(Error::io(image, "set the size of"))?;
        let system = partition::write(image, &mut disk, self.debian.boot_loader == BootLoader::Grub)?;
        let root = Uuid::new_v4();
        let Some(range) = system else { return Ok(Identities { root, system: None }) };
        // Any number will do; a random one is at hand.
        let id = root.as_fields().0;
        let options = FormatVolumeOptions::new().volume_id(id).volume_label(*b"EFI        ");
        fatfs::format_volume(Volume::new(&disk, range), options).map_err(Error::io(image, "write"))?;
        Ok(Identities { root, system: Some(id) })
    }

    /// What the machine starts.
    fn boot(&self, identities: &Identities) -> Result<Boot> {
        let plan = Plan {
            debian: self.debian,
            root: identities.root,
            system: identities.system,
            mirror: self.mirror.as_deref(),
            required: self.required,
            packages: self.packages.len(),
        };
        let initramfs = initramfs(&self.tools, &files::tree(&plan)?)?
            .modules(self.kernel.release(), &self.kernel.modules(&MODULES)?)?
            .init(include_str!("build.sh"))?;
        Ok(Boot::Kernel {
            kernel: Arc::new(firmware::image::load_kernel(self.kernel.image(), &virt::kernel_room(MEMORY))?),
            initrd: Some(Arc::new(initramfs.to_bytes()?.into())),
            command_line: COMMAND_LINE.into(),
        })
    }
}

fn create(path: &Path) -> Result<File> {
    File::options().read(true).write(true).create_new(true).open(path).map_err(Error::io(path, "write"))
}

/// The system that builds: packages side by side, none of them configured.
fn initramfs(tools: &[Package], files: &FileTree) -> Result<Initramfs> {
    let mut initramfs = Initramfs::new().packages(tools)?;
    for folder in ["doc", "man", "locale", "info", "lintian", "bug"] {
        initramfs.tree().remove(&format!("usr/share/{folder}"));
    }
    for folder in ["dev", "proc", "sys", "run"] {
        initramfs = initramfs.directory(folder, 0o755)?;
    }
    for (path, node) in files.iter().filter(|(path, _)| !path.is_empty()) {
        initramfs.tree().insert(&format!("etc/vervet/{path}"), node.clone())?;
    }
    Ok(initramfs)
}

/// The machine that builds, with the best engine that this host has.
fn board(boot: &Boot, console: &Arc<Transcript>, image: &Path, packages: &Path) -> Result<Board> {
    let with_engine = |engine| -> Result<Board> {
        let slots = vec![
            Slot::Disk(Arc::new(RawDisk::open(image, false)?), "disk".into()),
            Slot::Disk(Arc::new(RawDisk::open(packages, true)?), "packages".into()),
            Slot::Rng,
        ];
        let mut seed = [0; 64];
        let seeded = getrandom::fill(&mut seed).is_ok();
        let board = Virt {
            memory: MEMORY,
            harts: std::thread::available_parallelism().map_or(1, usize::from).min(MOST_HARTS) as u64,
            engine,
            console: console.clone(),
            slots,
            rng_seed: seeded.then_some(seed),
            ..Virt::new(boot.clone())
        };
        Ok(board.build()?)
    };
    match with_engine(EngineKind::Jit(JitOptions::default())) {
        Err(Error::Board(BoardError::Engine(error))) => {
            tracing::info!("{error}: the interpreter builds instead");
            with_engine(EngineKind::Interpreter)
        }
        result => result,
    }
}

/// Tells the progress of its end, however that comes.
struct Bar<'a>(&'a dyn Progress);

impl<'a> Bar<'a> {
    fn begin(progress: &'a dyn Progress, packages: usize, required: usize) -> Self {
        // Each package is put onto the disk, unpacked and configured, and those that are required are there before.
        progress.begin((3 * packages + required) as u64);
        Self(progress)
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Watches the machine that builds.
struct Watch<'a> {
    lines: Receiver<String>,
    progress: &'a dyn Progress,
    stage: String,
    /// The last line that was meant for a reader.
    last: String,
}

impl Watch<'_> {
    /// Runs the machine to its end; what went wrong, and when.
    fn run(mut self, mut board: Board, stop: &AtomicBool) -> Result<(), (String, String)> {
        let mut done = false;
        let mut event = board.machine.start().map_err(|e| (self.stage.clone(), e.to_string())).map(|()| None)?;
        loop {
            // What was said before the end has to be heard first: it may be that all is well.
            while let Ok(line) = self.lines.try_recv() {
                done |= self.hear(&line);
            }
            match event {
                None if stop.load(Ordering::Relaxed) => return Err((self.stage, "interrupted".into())),
                None | Some(Event::Watch | Event::PowerKey | Event::Debugger | Event::Stopped(_)) => {}
                Some(Event::Power(_)) if done => break,
                Some(Event::Power(_)) => return Err((self.stage, self.last)),
                Some(Event::Crashed(hart)) => {
                    return Err((self.stage, format!("hart {hart} ended by an internal error")));
                }
                Some(Event::Quit) => return Err((self.stage, "interrupted".into())),
            }
            event = board.machine.wait(Some(TICK));
        }
        // The disk is closed with the machine: everything written is in the file then.
        let stage = self.stage.clone();
        board.machine.pause().map_err(|e| (stage, e.to_string()))
    }

    /// Takes a line of the machine's; whether it says that all is done.
    fn hear(&mut self, line: &str) -> bool {
        if let Some(stage) = line.strip_prefix("@stage ") {
            self.stage = stage.chars().filter(|c| !c.is_control()).take(40).collect();
            self.progress.stage(&self.stage);
        } else if line == "@one" || line.starts_with("status: ") && is_step(line) {
            self.progress.step();
        } else if line == "@done" {
            return true;
        } else if !line.is_empty() && !line.starts_with(['@']) && !is_dpkg_status(line) {
            self.last = line.chars().filter(|c| !c.is_control()).take(200).collect();
        }
        false
    }
}

/// Lines of dpkg's that programs read (dpkg(1), `--status-fd`).
fn is_dpkg_status(line: &str) -> bool {
    line.starts_with("status: ") || line.starts_with("processing: ")
}

/// Whether a line of dpkg's says that a package has come a step further.
fn is_step(line: &str) -> bool {
    line.ends_with(": unpacked") || line.ends_with(": installed")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[derive(Default)]
    struct Heard(RefCell<Vec<String>>);

    impl Progress for Heard {
        fn begin(&self, _steps: u64) {}

        fn stage(&self, what: &str) {
            self.0.borrow_mut().push(what.into());
        }

        fn step(&self) {
            self.0.borrow_mut().push("step".into());
        }

        fn end(&self) {}
    }

    #[test]
    fn what_the_machine_says_is_understood() {
        let progress = Heard::default();
        let (_, lines) = crossbeam::channel::unbounded();
        let mut watch = Watch { lines, progress: &progress, stage: String::new(), last: String::new() };
        let said = [
            "@stage format",
            "@one",
            "status: libc6:riscv64: unpacked",
            "status: libc6:riscv64: half-configured",
            "processing: configure: libc6:riscv64",
            "status: libc6:riscv64: installed",
            "dpkg: \u{1b}[1merror\u{1b}[0m: disk full",
            "",
            "@failed 2",
        ];
        for line in said {
            assert!(!watch.hear(line), "{line}");
        }
        assert_eq!(progress.0.borrow()[..], ["format", "step", "step", "step"]);
        assert_eq!(watch.last, "dpkg: [1merror[0m: disk full");
        assert!(watch.hear("@done"));
    }

    #[test]
    fn a_disk_too_small_is_refused_before_anything_is_fetched() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti";
        let debian = Debian {
            packages: packages::Settings { mirror: Some("/absent".into()), ..packages::Settings::default() },
            add: Vec::new(),
            size: SMALLEST - 1,
            boot_loader: BootLoader::default(),
            user: super::super::UserName::new("user").unwrap(),
            keys: super::super::AuthorizedKeys::parse("here", key).unwrap(),
        };
        let error = Parts::fetch(&debian).err().unwrap();
        assert!(matches!(error, Error::Size { given: 2047 }), "{error}");
    }
}
