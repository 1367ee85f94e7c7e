//! The quick start: Debian's kernel and a small initramfs of BusyBox that boots to a shell.
//!
//! Both lie ready-made in the cache; a later start checks their hashes and reads neither index nor packages.

use std::path::PathBuf;

use crate::archive::{Archive, Settings};
use crate::cache::{self, Cache};
use crate::error::Result;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;

/// The metapackage of Debian's current kernel.
const KERNEL: &str = "linux-image-riscv64";
/// The package of the one program in the initramfs.
const BUSYBOX: &str = "busybox-static";
/// The modules that a machine of ours can use. The guest loads those that its devices and mounts ask for;
/// `crc32c_generic` is what ext4 asks for by the name of the algorithm.
pub const MODULES: [&str; 6] = ["virtio_mmio", "virtio_blk", "virtio_rng", "virtio_net", "crc32c_generic", "ext4"];
/// The first program of the guest.
const INIT: &str = include_str!("init.sh");
/// What its DHCP client calls.
const UDHCPC_SCRIPT: &str = include_str!("udhcpc.sh");
/// Changes when the initramfs does in a way that its parts do not show.
const FORMAT: &str = "vervet-quick-start-2";

/// What boots to a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuickStart {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's release, as `uname -r` says it.
    pub release: String,
}

/// Debian's kernel and an initramfs of BusyBox, from the cache where it holds them, else fetched and made.
///
/// # Errors
/// If something is missing in the cache and cannot be fetched or verified, or the cache cannot be written.
pub fn quick_start(settings: &Settings) -> Result<QuickStart> {
    let cache = Cache::open(settings.cache.as_deref())?;
    let parts =
        [FORMAT, &settings.suite, &settings.architecture, KERNEL, BUSYBOX, &MODULES.join(" "), INIT, UDHCPC_SCRIPT];
    let state = cache.path("quick-start").join(cache::sha256(parts.join("\n").as_bytes()));
    if !settings.refresh
        && let Some(ready) = load(&cache, &state)
    {
        return Ok(ready);
    }
    let archive = Archive::open(settings)?;
    let kernel = archive.kernel(KERNEL)?;
    let initrd = state.with_extension("cpio");
    let bytes = initramfs(&archive, &kernel)?.to_bytes()?;
    cache::write(&initrd, &bytes)?;
    // Relative to the cache, which may be moved. A cache elsewhere could not be read back: then all is made again.
    let relative = |path: &std::path::Path| {
        let path = path.strip_prefix(cache.path("")).unwrap_or(path);
        path.to_string_lossy().into_owned()
    };
    let lines = [
        kernel.release().to_owned(),
        relative(kernel.image()),
        kernel.image_sha256().to_owned(),
        relative(&initrd),
        cache::sha256(&bytes),
    ];
    cache::write_sealed(&state, lines.join("\n").as_bytes())?;
    Ok(QuickStart { kernel: kernel.image().to_path_buf(), initrd, release: kernel.release().to_owned() })
}

/// What an earlier start has left; `None` if it is absent or damaged.
fn load(cache: &Cache, state: &std::path::Path) -> Option<QuickStart> {
    let text = String::from_utf8(cache::read_sealed(state)?).ok()?;
    let lines: Vec<&str> = text.lines().collect();
    let [release, kernel, kernel_hash, initrd, initrd_hash] = lines[..] else {
        return None;
    };
    let ready = QuickStart { kernel: cache.path(kernel), initrd: cache.path(initrd), release: release.to_owned() };
    let intact = cache::is_intact(&ready.kernel, kernel_hash) && cache::is_intact(&ready.initrd, initrd_hash);
    intact.then_some(ready)
}

fn initramfs(archive: &Archive, kernel: &Kernel) -> Result<Initramfs> {
    let mut initramfs = Initramfs::new()
        .packages([&archive.fetch_one(BUSYBOX)?])?
        .modules(kernel.release(), &kernel.modules(&MODULES)?)?
        .symlink("bin/sh", "busybox")?
        // Where the kernel looks for it when a mount or an algorithm needs a module.
        .symlink("sbin/modprobe", "../bin/busybox")?
        .directory("dev", 0o755)?
        .directory("proc", 0o755)?
        .directory("sys", 0o755)?
        .directory("run", 0o755)?
        .directory("mnt", 0o755)?
        .directory("root", 0o700)?
        .directory("tmp", 0o1777)?
        .file("etc/passwd", "root::0:0:root:/root:/bin/sh\n", 0o644)?
        .file("etc/group", "root:x:0:\n", 0o644)?
        // What mount tries when it is not told: a file system whose module is not loaded yet does not list itself.
        .file("etc/filesystems", "ext4\n", 0o644)?
        .file("etc/hostname", "vervet\n", 0o644)?
        .file("etc/udhcpc.script", UDHCPC_SCRIPT, 0o755)?
        .init(INIT)?;
    // Documentation and hooks for other initramfs makers would only cost time to unpack.
    initramfs.tree().remove("usr/share");
    Ok(initramfs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Compression, Server, module_object};

    #[test]
    fn made_once_and_then_without_a_mirror() {
        let server = Server::start();
        let modules: Vec<(String, Vec<u8>)> = MODULES
            .iter()
            .map(|name| (format!("./usr/lib/modules/6.12/kernel/{name}.ko"), module_object("")))
            .chain([("./boot/vmlinux-6.12".to_owned(), b"the kernel".to_vec())])
            .collect();
        let files: Vec<(&str, &[u8])> = modules.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
        server.add(KERNEL, "1", "", &files, Compression::Gzip);
        server.add(
            BUSYBOX,
            "1",
            "",
            &[("./usr/bin/busybox", b"box"), ("./usr/share/doc/x", b"doc")],
            Compression::Gzip,
        );
        server.publish();
        let first = quick_start(&server.settings()).unwrap();
        assert_eq!(std::fs::read(&first.kernel).unwrap(), b"the kernel");
        let initrd = std::fs::read(&first.initrd).unwrap();
        let holds = |text: &str| initrd.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(holds("usr/bin/busybox\0") && holds("kernel/ext4.ko\0") && holds("/kernel/virtio_mmio.ko\n"));
        assert!(!holds("usr/share"));
        assert_eq!(first.release, "6.12");
        let requests = server.requests();
        server.stop();
        assert_eq!(quick_start(&server.settings()).unwrap(), first);
        assert_eq!(server.requests(), requests);
        // What is damaged is made again from the packages in the cache.
        std::fs::write(&first.initrd, b"x").unwrap();
        assert_eq!(quick_start(&server.settings()).unwrap(), first);
        assert_eq!(std::fs::read(&first.initrd).unwrap(), initrd);
    }
}
