//! `vervet image`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::packages::Source;
use super::{interrupt, size};
use crate::image::{AuthorizedKeys, BootLoader, Debian, Image, Parts, Progress, Store, UserName};

/// A system known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Debian 13 with systemd, apt and an SSH server
    Debian,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Loader {
    /// An extlinux configuration on the root file system, which U-Boot reads
    Extlinux,
    /// GRUB on an EFI system partition
    Grub,
}

impl From<Loader> for BootLoader {
    fn from(loader: Loader) -> Self {
        match loader {
            Loader::Extlinux => BootLoader::Extlinux,
            Loader::Grub => BootLoader::Grub,
        }
    }
}

#[derive(Debug, Args)]
pub struct ImageCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a bootable disk from packages, without root; what must run as riscv64 runs in this emulator
    Build(Box<Build>),
}

#[derive(Debug, Args)]
pub struct Build {
    /// What is to be on the disk
    system: System,

    /// More packages to install, with everything they depend on
    #[arg(long, value_name = "PACKAGE", value_delimiter = ',')]
    packages: Vec<String>,

    /// Size of the disk; the file takes only what is used of it
    #[arg(long, value_name = "SIZE", default_value = "8G", value_parser = size::parse)]
    size: u64,

    /// What starts the disk's kernel
    #[arg(long, value_enum, default_value_t = Loader::Extlinux)]
    boot_loader: Loader,

    /// The user who logs in: at the console without a password, over the network with a key; sudo asks for nothing
    #[arg(long, value_name = "NAME", default_value = "debian")]
    user: String,

    /// The user's public key, or several in one file [default: one that is made for `vervet ssh`]
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,

    /// Write the image to a file instead of keeping it for `vervet run`
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    source: Source,
}

impl ImageCommand {
    pub fn execute(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Build(build) => build.execute(),
        }
    }
}

impl Build {
    fn execute(self) -> anyhow::Result<u8> {
        let System::Debian = self.system;
        let store = Store::open()?;
        let user = UserName::new(&self.user)?;
        let (identity, keys) = match &self.ssh_key {
            Some(path) => (private_key_of(path), AuthorizedKeys::read(path)?),
            None => {
                let (path, keys) = store.identity()?;
                (Some(path), keys)
            }
        };
        let packages = self.source.settings();
        let refresh = packages.refresh;
        let debian = Debian {
            packages,
            add: self.packages,
            size: self.size,
            boot_loader: self.boot_loader.into(),
            user: user.clone(),
            keys,
        };
        let (path, keep) = match self.output {
            Some(path) => (path, false),
            None => (store.image_path(&debian), true),
        };
        if !keep || refresh || !path.exists() {
            build(&debian, &path)?;
        }
        if keep {
            store.select(&Image { path: path.clone(), user, identity })?;
        }
        println!("{}", path.display());
        Ok(0)
    }
}

/// The private key that belongs to a file of a public one, if it lies beside it.
fn private_key_of(public: &std::path::Path) -> Option<PathBuf> {
    let private = public.to_str()?.strip_suffix(".pub")?;
    std::fs::canonicalize(private).ok()
}

/// An image of Debian for a new machine: the one that there is, else one is made with the settings of
/// `vervet image build debian`.
pub fn default_debian(store: &Store, source: &Source) -> anyhow::Result<()> {
    if store.selected().is_some() {
        return Ok(());
    }
    eprintln!("vervet: there is no image of Debian yet; making one takes some minutes, once");
    let user = UserName::new("debian")?;
    let (identity, keys) = store.identity()?;
    let debian = Debian {
        packages: source.settings(),
        add: Vec::new(),
        size: 8 << 30,
        boot_loader: BootLoader::default(),
        user: user.clone(),
        keys,
    };
    let path = store.image_path(&debian);
    if !path.exists() {
        build(&debian, &path)?;
    }
    store.select(&Image { path, user, identity: Some(identity) })?;
    Ok(())
}

fn build(debian: &Debian, path: &std::path::Path) -> anyhow::Result<()> {
    let parts = Parts::fetch(debian)?;
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::raise(&stop)?;
    parts.build(path, &Shown::default(), &stop)?;
    Ok(())
}

/// A progress bar where standard error is a terminal, otherwise a line for each stage.
#[derive(Default)]
struct Shown {
    bar: Mutex<Option<ProgressBar>>,
    begun: Mutex<Option<Instant>>,
}

impl Progress for Shown {
    fn begin(&self, steps: u64) {
        if let Ok(mut begun) = self.begun.lock() {
            *begun = Some(Instant::now());
        }
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg:20!} {wide_bar} {pos:>5}/{len:5} {elapsed:>4}");
        let bar = match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        };
        bar.enable_steady_tick(Duration::from_millis(500));
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }

    fn stage(&self, what: &str) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = &*slot
        {
            bar.set_message(what.to_owned());
            return;
        }
        let seconds = self.begun.lock().ok().and_then(|begun| *begun).map_or(0, |begun| begun.elapsed().as_secs());
        eprintln!("{what} ({seconds} s)");
    }

    fn step(&self) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = &*slot
        {
            bar.inc(1);
        }
    }

    fn end(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}
