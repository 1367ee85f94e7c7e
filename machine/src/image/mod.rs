//! Disk images of whole systems, made without root and without any other emulator.
//!
//! ```text
//! packages ──▶ a disk of packages ─┐
//!          ──▶ an initramfs of tools, build.sh and configuration files ──▶ a machine ──▶ the disk image
//! an empty disk with its partition table ─┘
//! ```
//!
//! The host fetches and verifies the packages, and writes what is data: a partition table (`partition`), a FAT volume
//! of packages (`package_disk`), the configuration files that are ours (`files`). Everything that must run as
//! riscv64 (mkfs, dpkg, the packages' scripts) runs in a machine of this very emulator (`build`); no script of a
//! package ever runs on the host. `store` is where images and the machines that run from them are kept. `extent` looks
//! how far what is on a disk reaches, for whoever wants to make one smaller.
//!
//! Invariant: an image that has its final name is whole.

mod build;
pub mod extent;
mod files;
mod package_disk;
mod partition;
mod store;
mod transcript;
mod volume;

pub use build::{Parts, Progress};
pub use files::{AuthorizedKeys, MachineName, UserName};
pub use store::{Access, Image, Instance, Store};

use std::path::{Path, PathBuf};

/// What starts the kernel of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BootLoader {
    /// An extlinux configuration, which U-Boot reads.
    #[default]
    Extlinux,
    /// GRUB, an EFI program on a partition of its own.
    Grub,
}

impl BootLoader {
    /// The packages that install it.
    fn packages(self) -> &'static [&'static str] {
        match self {
            BootLoader::Extlinux => &["u-boot-menu"],
            BootLoader::Grub => &["grub-efi-riscv64"],
        }
    }
}

/// What a Debian disk is to be.
#[derive(Clone, Debug)]
pub struct Debian {
    /// Where packages come from.
    pub packages: packages::Settings,
    /// Packages beyond those that every disk has.
    pub add: Vec<String>,
    /// Bytes of the disk.
    pub size: u64,
    /// What starts its kernel.
    pub boot_loader: BootLoader,
    /// Who logs in.
    pub user: UserName,
    /// The keys with which.
    pub keys: AuthorizedKeys,
}

/// The smallest disk, in bytes: the system takes 800 MB of it.
pub const SMALLEST: u64 = 2 << 30;

/// Packages that every disk has, with what they depend on, beside the archive's own list of required ones.
const PACKAGES: [&str; 24] = [
    // What boots.
    "linux-image-riscv64",
    "initramfs-tools",
    "zstd",
    "systemd-sysv",
    "udev",
    "kmod",
    "e2fsprogs",
    "fdisk",
    // Who logs in, and how.
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "sudo",
    "adduser",
    // The network.
    "systemd-resolved",
    "systemd-timesyncd",
    "iproute2",
    "iputils-ping",
    "netbase",
    "ca-certificates",
    "debian-archive-keyring",
    // What a user expects to be there.
    "procps",
    "less",
    "nano",
    "bash-completion",
];

/// Why a disk image could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The packages cannot be had.
    #[error(transparent)]
    Packages(#[from] packages::Error),
    /// A disk that nothing fits on.
    #[error("a disk of {given} MiB: Debian needs {} MiB or more; pass --size 8G", SMALLEST >> 20)]
    Size {
        /// The size asked for, in MiB.
        given: u64,
    },
    /// A name that no user can have.
    #[error(
        "user {0:?}: a name begins with a lower-case letter or \"_\" and goes on with these, digits and \"-\", 32 characters at most"
    )]
    User(String),
    /// A name that no machine can have.
    #[error(
        "machine {0:?}: a name is made of lower-case letters, digits and \"-\" between them, 32 characters at most"
    )]
    MachineName(String),
    /// A file that should hold public keys does not.
    #[error("{origin}: {reason}: pass a public key of OpenSSH's, such as ~/.ssh/id_ed25519.pub")]
    Key {
        /// The file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The host's file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// The host's answer.
        source: std::io::Error,
    },
    /// The partition table could not be written.
    #[error("{}: the partition table cannot be written: {reason}", path.display())]
    Partition {
        /// The image.
        path: PathBuf,
        /// What the library says.
        reason: String,
    },
    /// The kernel cannot be loaded.
    #[error(transparent)]
    Kernel(#[from] firmware::image::ImageError),
    /// An image cannot be opened as a disk.
    #[error(transparent)]
    Disk(#[from] devices::backend::disk::DiskError),
    /// The machine cannot be put together.
    #[error(transparent)]
    Board(#[from] crate::board::virt::BoardError),
    /// The machine failed.
    #[error(transparent)]
    Machine(#[from] crate::MachineError),
    /// The system was not finished.
    #[error("the system could not be built (at \"{stage}\"): {reason}; {} has all that the machine said", log.display())]
    Guest {
        /// The step at which it ended.
        stage: String,
        /// The last words, or what happened.
        reason: String,
        /// Where the whole output is.
        log: PathBuf,
    },
    /// The user did not want to wait.
    #[error("interrupted; nothing has been changed")]
    Interrupted,
    /// There is no folder for what is to be kept.
    #[error("no folder for images: set VERVET_DATA to a folder that can be written ({reason})")]
    NoFolder {
        /// Why not.
        reason: String,
    },
    /// Two runs of one machine would destroy its disk.
    #[error("the machine {0} runs already; `vervet ssh` reaches it, and --name runs another one beside it")]
    Running(MachineName),
    /// A machine without its disk, or without the image that the disk is the difference from.
    #[error("the machine {0} has lost its disk; --fresh makes it anew")]
    Incomplete(MachineName),
    /// A machine is asked for that there is no image of.
    #[error("there is no image of {0} yet: `vervet image build {0}` makes one")]
    NoImage(&'static str),
}

/// The result of this module's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an I/O error with the path and what was tried.
    fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }
}
