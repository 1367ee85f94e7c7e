//! `vervet packages`, and where packages come from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use packages::{Archive, Initramfs, QuickStart, Settings};

use super::print_line;

/// Where Debian packages come from.
#[derive(Clone, Debug, Default, Args)]
pub struct Source {
    /// Mirror of the Debian archive (http, https, file or a folder) [default: the host's own Debian configuration]
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,

    /// OpenPGP keys that sign the archive [default: the host's keyring of the Debian archive]
    #[arg(long, value_name = "FILE")]
    keyring: Option<PathBuf>,

    /// Ask the mirror for newer packages even if the cached ones are young
    #[arg(long)]
    refresh: bool,
}

impl Source {
    /// Settings for the packages crate.
    pub fn settings(&self) -> Settings {
        Settings {
            mirror: self.mirror.clone(),
            keyring: self.keyring.clone(),
            refresh: self.refresh,
            ..Settings::default()
        }
    }

    /// Debian's kernel and a BusyBox initramfs.
    pub fn quick_start(&self) -> anyhow::Result<QuickStart> {
        Ok(packages::quick_start(&self.settings())?)
    }

    /// The program that starts what is installed on a disk.
    pub fn boot_loader(&self) -> anyhow::Result<Vec<u8>> {
        Ok(packages::boot_loader(&self.settings())?)
    }
}

#[derive(Debug, Args)]
pub struct Packages {
    #[command(subcommand)]
    action: Action,

    #[command(flatten)]
    source: Source,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Fetch packages with everything they depend on, and print the paths of the files
    Fetch {
        /// Names of packages
        #[arg(required = true, value_name = "PACKAGE")]
        names: Vec<String>,
        /// Leave out what they depend on
        #[arg(long)]
        no_dependencies: bool,
    },
    /// Copy the quick start's kernel and initramfs into a folder, as `Image` and `initrd.cpio`
    QuickStart {
        /// The folder
        folder: PathBuf,
    },
    /// Make an initramfs of packages, with everything they depend on, and of files
    Initramfs {
        /// Names of packages
        #[arg(value_name = "PACKAGE")]
        names: Vec<String>,
        /// The file to write
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
        /// The first program, which becomes /init
        #[arg(long, value_name = "FILE")]
        init: Option<PathBuf>,
        /// A host file or folder and where it goes in the guest; may be given several times
        #[arg(long, value_name = "HOST:GUEST")]
        add: Vec<String>,
        /// Modules of Debian's kernel to include, with those they depend on; /lib/modules.load lists them in order
        #[arg(long, value_name = "MODULE")]
        module: Vec<String>,
    },
}

/// The metapackage of Debian's current kernel.
const KERNEL: &str = "linux-image-riscv64";

impl Packages {
    pub fn execute(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Fetch { names, no_dependencies } => {
                let archive = Archive::open(&self.source.settings())?;
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let fetched = if no_dependencies {
                    names.iter().map(|name| archive.fetch_one(name)).collect::<Result<_, _>>()?
                } else {
                    archive.fetch_closure(&names)?
                };
                for package in fetched {
                    print_line(package.path.display())?;
                }
            }
            Action::QuickStart { folder } => {
                let files = self.source.quick_start()?;
                std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be created", folder.display()))?;
                for (from, name) in [(&files.kernel, "Image"), (&files.initrd, "initrd.cpio")] {
                    let to = folder.join(name);
                    std::fs::copy(from, &to).with_context(|| format!("{}: cannot be written", to.display()))?;
                    print_line(to.display())?;
                }
            }
            Action::Initramfs { names, output, init, add, module } => {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let module: Vec<&str> = module.iter().map(String::as_str).collect();
                make_initramfs(&self.source.settings(), &names, &output, init.as_deref(), &add, &module)?;
            }
        }
        Ok(0)
    }
}

fn make_initramfs(
    settings: &Settings,
    names: &[&str],
    output: &Path,
    init: Option<&Path>,
    add: &[String],
    modules: &[&str],
) -> anyhow::Result<()> {
    let mut initramfs = Initramfs::new();
    if !names.is_empty() || !modules.is_empty() {
        let archive = Archive::open(settings)?;
        if !names.is_empty() {
            initramfs = initramfs.packages(&archive.fetch_closure(names)?)?;
        }
        if !modules.is_empty() {
            let kernel = archive.kernel(KERNEL)?;
            initramfs = initramfs.modules(kernel.release(), &kernel.modules(modules)?)?;
        }
    }
    for pair in add {
        let Some((host, guest)) = pair.split_once(':') else {
            bail!("--add {pair}: expected HOST:GUEST, such as ./tool:/bin/tool");
        };
        let host = Path::new(host);
        let metadata = std::fs::metadata(host).with_context(|| format!("{}: cannot be read", host.display()))?;
        initramfs = if metadata.is_dir() {
            initramfs.folder(guest, host)?
        } else {
            let bytes = std::fs::read(host).with_context(|| format!("{}: cannot be read", host.display()))?;
            initramfs.file(guest, bytes, mode(&metadata))?
        };
    }
    if let Some(init) = init {
        let bytes = std::fs::read(init).with_context(|| format!("{}: cannot be read", init.display()))?;
        initramfs = initramfs.init(bytes)?;
    }
    initramfs.write_file(output)?;
    Ok(())
}

/// The permissions that a file of the host gets in the guest.
#[cfg(unix)]
fn mode(metadata: &std::fs::Metadata) -> u32 {
    std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777
}

/// The permissions that a file of the host gets in the guest: where the host knows no executables, all are.
#[cfg(not(unix))]
fn mode(_: &std::fs::Metadata) -> u32 {
    0o755
}
