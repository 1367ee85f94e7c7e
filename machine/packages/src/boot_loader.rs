//! The boot loader that starts what is installed on a disk: Debian's U-Boot for QEMU's `virt` board in S-mode.
//!
//! It lies ready-made in the cache, with its hash; a later start reads neither index nor package.

use crate::archive::{Archive, Settings};
use crate::cache::{self, Cache};
use crate::error::{Error, Result};
use crate::tree::{FileTree, Kind};

/// The package.
const PACKAGE: &str = "u-boot-qemu";
/// The program in it: an ELF file that runs in S-mode at 0x8020_0000 with the device tree's address in `a1`.
const PROGRAM: &str = "usr/lib/u-boot/qemu-riscv64_smode/uboot.elf";

/// The boot loader's ELF file, from the cache where it holds it, else fetched.
///
/// # Errors
/// If it is missing in the cache and cannot be fetched or verified, or the cache cannot be written.
pub fn boot_loader(settings: &Settings) -> Result<Vec<u8>> {
    let cache = Cache::open(settings.cache.as_deref())?;
    let parts = [&settings.suite, PACKAGE, PROGRAM];
    let path = cache.path("boot-loader").join(cache::sha256(parts.join("\n").as_bytes()));
    if !settings.refresh
        && let Some(program) = cache::read_sealed(&path)
    {
        return Ok(program);
    }
    let package = Archive::open(settings)?.fetch_one(PACKAGE)?;
    let mut tree = FileTree::new();
    package.unpack(&mut tree)?;
    let missing = || Error::Deb { path: package.path.clone(), reason: format!("there is no {PROGRAM} in it") };
    let program = match tree.follow(PROGRAM).map(|node| &node.kind) {
        Some(Kind::File(content)) => content.bytes()?.into_owned(),
        _ => return Err(missing()),
    };
    cache::write_sealed(&path, &program)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Compression, Server};

    #[test]
    fn fetched_once() {
        let server = Server::start();
        let path = format!("./{PROGRAM}");
        server.add(PACKAGE, "1", "", &[(path.as_str(), b"the loader"), ("./usr/share/x", b"")], Compression::Xz);
        server.publish();
        assert_eq!(boot_loader(&server.settings()).unwrap(), b"the loader");
        server.stop();
        assert_eq!(boot_loader(&server.settings()).unwrap(), b"the loader");
    }

    #[test]
    fn a_package_without_it_is_refused() {
        let server = Server::start();
        server.add(PACKAGE, "1", "", &[("./usr/share/x", b"")], Compression::Xz);
        server.publish();
        let error = boot_loader(&server.settings()).unwrap_err().to_string();
        assert!(error.contains(PROGRAM), "{error}");
    }
}
