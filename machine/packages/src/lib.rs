//! Debian packages for guests: fetched, verified, unpacked, packed into an initramfs.
//!
//! ```text
//! mirror ──InRelease──▶ release (OpenPGP) ──SHA-256──▶ index (Packages) ──SHA-256──▶ .deb
//!    └──────── cache: every file is checked again when it is read back ────────┘
//! .deb ──▶ deb (ar, tar) ──▶ tree (FileTree) ──▶ initramfs (cpio newc), a folder, a disk image
//! ```
//!
//! [`Archive`] is the way in: it resolves names to packages, fetches what the cache does not hold and never asks the
//! network when the cache suffices. A [`Package`] is a verified `.deb` file; it unpacks into a [`FileTree`] without
//! running any of its scripts. [`Kernel`] holds a kernel package's image and modules, [`Initramfs`] packs trees, host
//! folders and single files, and [`quick_start`] puts all of it together into a kernel and an initramfs that boot to a
//! shell.
//!
//! Invariant: no byte of a package is used unless its SHA-256 was reached through a signature by a key of the keyring.
#![forbid(unsafe_code)]

mod apt;
mod archive;
mod boot_loader;
mod cache;
mod deb;
mod error;
mod index;
mod initramfs;
mod kernel;
mod mirror;
mod progress;
mod quick_start;
mod release;
mod resolve;
mod tree;
mod version;

#[cfg(test)]
mod testing;

pub use archive::{Archive, Package, Settings};
pub use boot_loader::boot_loader;
pub use cache::{WorkFolder, clear_leftovers, folder as cache_folder};
pub use deb::{Limits, unpack, unpack_to_folder, write_unpacked};
pub use error::{Error, Result};
pub use index::{Record, Relation};
pub use initramfs::Initramfs;
pub use kernel::{Kernel, Module};
pub use progress::{Progress, Silent, Terminal};
pub use quick_start::{MODULES, QuickStart, quick_start};
pub use tree::{Content, FileTree, Kind, Metadata, Node};
