//! Debian's kernel packages: the image, and modules with what they depend on.
//!
//! The package has 100 MB and no `modules.dep` (its script would make one), so it is taken apart once, into a folder of
//! the cache with a list of hashes; dependencies are read from the modules themselves (`depends=` in `.modinfo`, as
//! `depmod` does).

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::archive::{Archive, Package};
use crate::cache;
use crate::deb::{self, EntryKind, Limits};
use crate::error::{Error, Result};
use crate::index::{Index, Record};
use crate::resolve;

/// The largest module accepted once unpacked, in bytes (Debian's largest has 10 MB).
const MODULE_LIMIT: u64 = 256 << 20;
/// Changes when the layout of the folder does.
const FORMAT: &str = "vervet-kernel-1";
/// What the image is called in the folder.
const IMAGE: &str = "vmlinux";

/// A kernel's image and modules, in the cache.
#[derive(Debug, Clone)]
pub struct Kernel {
    package: String,
    release: String,
    image: KernelFile,
    /// By name with underscores.
    modules: HashMap<String, KernelFile>,
    /// Names of what is compiled in.
    builtin: HashSet<String>,
}

/// A file of the package, as it lies in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KernelFile {
    host: PathBuf,
    sha256: String,
    /// [`IMAGE`], or a module's path below `/usr/lib/modules/RELEASE`, compressed as it is.
    guest: String,
}

/// A kernel module, ready for `insmod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name, with underscores.
    pub name: String,
    /// Its path below `/usr/lib/modules/RELEASE`, uncompressed: `kernel/fs/ext4/ext4.ko`.
    pub path: String,
    /// The ELF object, uncompressed.
    pub bytes: Vec<u8>,
    /// The paths of the modules that it needs, directly or through others; what is to be loaded first stands last, as
    /// in `modules.dep`.
    pub depends: Vec<String>,
    /// Other names under which it is asked for, patterns among them: `fs-ext4`, `virtio:d00000002v*`.
    pub aliases: Vec<String>,
}

impl Archive {
    /// Fetches a kernel, by the name of its package or metapackage (`linux-image-riscv64`), without what it depends on
    /// otherwise.
    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        let packages = self.fetch_all(|index| kernel_packages(index, &resolve::one(index, name, &self.scope())?))?;
        let hashes: Vec<&str> = packages.iter().map(|package| package.sha256.as_str()).collect();
        let key = cache::sha256(format!("{FORMAT}\n{}", hashes.join("\n")).as_bytes());
        let folder = self.cache().path("kernels").join(key);
        let whole =
            || Kernel::load(name, &folder).filter(|found| cache::is_intact(&found.image.host, &found.image.sha256));
        if let Some(kernel) = whole() {
            return Ok(kernel);
        }
        // Who comes second takes what the first has made, and never replaces what another is already reading.
        let _turn = cache::turn(&folder)?;
        if let Some(kernel) = whole() {
            return Ok(kernel);
        }
        let progress = &*self.settings().progress;
        progress.begin(&format!("unpacking {name}"), None);
        let result = extract(name, &packages, &folder, |bytes| progress.advance(bytes));
        progress.end();
        result?;
        Kernel::load(name, &folder)
            .ok_or_else(|| Error::Kernel { package: name.to_owned(), reason: "the cache has lost it".into() })
    }
}

/// The packages that hold a kernel's files: itself, or those that a metapackage names.
fn kernel_packages(index: &Index, record: &Record) -> Result<Vec<Record>> {
    let mut packages: Vec<Record> = Vec::new();
    let mut open = vec![record.clone()];
    while let Some(record) = open.pop() {
        if packages.iter().any(|other| other.name == record.name) {
            continue;
        }
        for relation in record.depends.iter().filter_map(|group| group.first()) {
            let part = ["linux-image-", "linux-modules-", "linux-binary-"].iter().any(|p| relation.name.starts_with(p));
            if part && !relation.name.ends_with("-dbg") {
                open.extend(index.named(&relation.name).find(|record| relation.accepts(&record.version)));
            }
        }
        packages.push(record);
    }
    Ok(packages)
}

/// Takes packages apart into a folder that appears only when it is whole.
fn extract(name: &str, packages: &[Package], folder: &Path, mut advance: impl FnMut(u64)) -> Result<()> {
    let temporary = cache::temporary_folder(folder)?;
    let mut manifest = String::new();
    let mut builtin = String::new();
    let mut release = None;
    let mut has_image = false;
    let mut count = 0;
    for package in packages {
        visit_kernel_files(package, |file, release_found, reader| {
            let broken = |e: std::io::Error| Error::Deb { path: package.path.clone(), reason: e.to_string() };
            release.get_or_insert_with(|| release_found.to_owned());
            if file == "modules.builtin" {
                return reader.read_to_string(&mut builtin).map(drop).map_err(broken);
            }
            // Names of our own: what the package calls its files never becomes a path of the host.
            let path = if file == IMAGE { file.to_owned() } else { format!("{count}.module") };
            count += 1;
            has_image |= file == IMAGE;
            let host = temporary.path().join(&path);
            let mut output = File::create_new(&host).map_err(Error::io(&host, "write"))?;
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 1 << 16];
            loop {
                let length = reader.read(&mut buffer).map_err(broken)?;
                if length == 0 {
                    break;
                }
                hash.update(&buffer[..length]);
                std::io::Write::write_all(&mut output, &buffer[..length]).map_err(Error::io(&host, "write"))?;
                advance(length as u64);
            }
            manifest.push_str(&format!("{} {path} {file}\n", cache::hex(&hash.finalize())));
            Ok(())
        })?;
    }
    if !has_image {
        let reason = "it holds no kernel image (/boot/vmlinux-*)".into();
        return Err(Error::Kernel { package: name.to_owned(), reason });
    }
    let builtin: Vec<String> = builtin.lines().map(module_name).collect();
    let release = release.unwrap_or_default();
    let manifest = format!("{release}\n{}\n{manifest}", builtin.join(" "));
    cache::write_sealed(&temporary.path().join("manifest"), manifest.as_bytes())?;
    if folder.exists() {
        // Damaged.
        fs::remove_dir_all(folder).map_err(Error::io(folder, "replace"))?;
    }
    let path = temporary.keep();
    match fs::rename(&path, folder) {
        Ok(()) => Ok(()),
        Err(_) if folder.join("manifest").exists() => fs::remove_dir_all(&path).map_err(Error::io(&path, "remove")),
        Err(e) => Err(Error::io(folder, "write")(e)),
    }
}

/// Calls `see` with "vmlinux", "modules.builtin" or a module's path, the kernel's release and the content.
fn visit_kernel_files(package: &Package, mut see: impl FnMut(&str, &str, &mut dyn Read) -> Result<()>) -> Result<()> {
    deb::visit(&package.path, &Limits::default(), |entry| {
        if !matches!(entry.kind, EntryKind::File) {
            return Ok(());
        }
        let path = entry.path.trim_start_matches("./").trim_start_matches('/');
        if let Some(release) = ["boot/vmlinux-", "boot/vmlinuz-"].iter().find_map(|prefix| path.strip_prefix(prefix)) {
            return see(IMAGE, release, entry.reader);
        }
        let modules = path.strip_prefix("usr/").unwrap_or(path).strip_prefix("lib/modules/");
        match modules.and_then(|rest| rest.split_once('/')) {
            Some((release, "modules.builtin")) => see("modules.builtin", release, entry.reader),
            Some((release, file))
                if file.starts_with("kernel/") && is_module(file) && !file.contains(char::is_whitespace) =>
            {
                see(file, release, entry.reader)
            }
            _ => Ok(()),
        }
    })
}

fn is_module(path: &str) -> bool {
    [".ko", ".ko.xz", ".ko.gz", ".ko.zst"].iter().any(|suffix| path.ends_with(suffix))
}

/// `kernel/fs/ext4/ext4.ko.xz` → `ext4`; the kernel itself takes `-` and `_` for the same.
fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

impl Kernel {
    /// Reads the list of what a folder of the cache holds; `None` if it is absent or damaged.
    fn load(package: &str, folder: &Path) -> Option<Self> {
        let manifest = String::from_utf8(cache::read_sealed(&folder.join("manifest"))?).ok()?;
        let mut lines = manifest.lines();
        let release = lines.next()?.to_owned();
        let builtin = lines.next()?.split_whitespace().map(str::to_owned).collect();
        let mut image = None;
        let mut modules = HashMap::new();
        for line in lines {
            let mut words = line.split(' ');
            let (sha256, host, guest) = (words.next()?, words.next()?, words.next()?);
            let file = KernelFile { host: folder.join(host), sha256: sha256.to_owned(), guest: guest.to_owned() };
            if guest == IMAGE {
                image = Some(file);
            } else {
                modules.insert(module_name(guest), file);
            }
        }
        Some(Kernel { package: package.to_owned(), release, image: image?, modules, builtin })
    }

    /// The kernel's release, as `uname -r` says it.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel image.
    pub fn image(&self) -> &Path {
        &self.image.host
    }

    /// SHA-256 of the kernel image, lower-case hexadecimal.
    pub fn image_sha256(&self) -> &str {
        &self.image.sha256
    }

    /// Modules with everything that they depend on, in an order in which they can be loaded. `-` and `_` are the same in
    /// names; what is compiled into the kernel needs no module and is left out.
    ///
    /// Only hard dependencies are followed: an algorithm that a module asks for by name (ext4's `crc32c`) must be named.
    ///
    /// # Errors
    /// If there is no such module, or what the cache holds of it is damaged.
    pub fn modules(&self, names: &[&str]) -> Result<Vec<Module>> {
        struct Open {
            module: Module,
            needs: Vec<String>,
            next: usize,
        }
        let mut loaded: Vec<Module> = Vec::new();
        let mut begun: HashSet<String> = HashSet::new();
        for name in names {
            let mut stack: Vec<Open> = Vec::new();
            let mut wanted = Some((module_name(name), "the caller".to_owned()));
            loop {
                if let Some((name, wanted_by)) = wanted.take()
                    && !self.builtin.contains(&name)
                    && begun.insert(name.clone())
                {
                    let (module, needs) = self.read(&name, &wanted_by)?;
                    stack.push(Open { module, needs, next: 0 });
                }
                let Some(open) = stack.last_mut() else { break };
                if let Some(name) = open.needs.get(open.next) {
                    open.next += 1;
                    wanted = Some((name.clone(), open.module.name.clone()));
                } else if let Some(Open { mut module, needs, .. }) = stack.pop() {
                    module.depends = dependencies(&needs, &loaded);
                    loaded.push(module);
                }
            }
        }
        Ok(loaded)
    }

    /// A module and the names of those that it needs.
    fn read(&self, name: &str, wanted_by: &str) -> Result<(Module, Vec<String>)> {
        let refused = |reason: String| Error::Kernel { package: self.package.clone(), reason };
        let file = self
            .modules
            .get(name)
            .ok_or_else(|| refused(format!("there is no module {name} (wanted by {wanted_by}) in {}", self.release)))?;
        let packed = fs::read(&file.host).map_err(Error::io(&file.host, "read"))?;
        if cache::sha256(&packed) != file.sha256 {
            return Err(Error::Hash {
                origin: file.host.display().to_string(),
                found: cache::sha256(&packed),
                expected: file.sha256.clone(),
            });
        }
        let bytes = unpack_module(packed, &file.guest).map_err(|e| refused(format!("{}: {e}", file.guest)))?;
        let info = Info::read(&bytes).ok_or_else(|| refused(format!("{} is no kernel module", file.guest)))?;
        let end = file.guest.find(".ko").map_or(file.guest.len(), |start| start + ".ko".len());
        let module = Module {
            name: name.to_owned(),
            path: file.guest[..end].to_owned(),
            bytes,
            depends: Vec::new(),
            aliases: info.aliases,
        };
        Ok((module, info.depends))
    }
}

/// The paths of all that must be loaded before a module, the first to be loaded last.
fn dependencies(needs: &[String], loaded: &[Module]) -> Vec<String> {
    let mut wanted: HashSet<&str> = HashSet::new();
    for module in loaded.iter().filter(|module| needs.contains(&module.name)) {
        wanted.insert(&module.path);
        wanted.extend(module.depends.iter().map(String::as_str));
    }
    loaded.iter().rev().map(|module| &module.path).filter(|path| wanted.contains(path.as_str())).cloned().collect()
}

fn unpack_module(packed: Vec<u8>, path: &str) -> std::io::Result<Vec<u8>> {
    let reader: Box<dyn Read> = match path.rsplit_once('.') {
        Some((_, "xz")) => deb::xz(Cursor::new(packed))?,
        Some((_, "gz")) => Box::new(flate2::read::MultiGzDecoder::new(Cursor::new(packed))),
        Some((_, "zst")) => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(Cursor::new(packed)).map_err(std::io::Error::other)?)
        }
        _ => return Ok(packed),
    };
    let mut bytes = Vec::new();
    if reader.take(MODULE_LIMIT + 1).read_to_end(&mut bytes)? as u64 > MODULE_LIMIT {
        return Err(std::io::Error::other("the module is too large"));
    }
    Ok(bytes)
}

/// What a module says of itself in its `.modinfo` section: strings of the form `key=value`, each ended by a NUL.
struct Info {
    /// Names of the modules that it needs.
    depends: Vec<String>,
    aliases: Vec<String>,
}

impl Info {
    /// `None` if it is no module.
    fn read(module: &[u8]) -> Option<Self> {
        let elf = goblin::elf::Elf::parse(module).ok()?;
        let section = elf.section_headers.iter().find(|s| elf.shdr_strtab.get_at(s.sh_name) == Some(".modinfo"))?;
        let entries: Vec<&str> = module
            .get(section.file_range()?)?
            .split(|&byte| byte == 0)
            .filter_map(|entry| std::str::from_utf8(entry).ok())
            .collect();
        let depends = entries.iter().find_map(|entry| entry.strip_prefix("depends="))?;
        let depends = depends.split(',').filter(|name| !name.is_empty()).map(module_name).collect();
        let aliases = entries.iter().filter_map(|entry| entry.strip_prefix("alias=")).map(str::to_owned).collect();
        Some(Info { depends, aliases })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Compression, Server, module_object};

    fn kernel_archive(server: &Server) -> Archive {
        let release = "6.12.1-riscv64";
        let modules = format!("./usr/lib/modules/{release}");
        let xz = |bytes: Vec<u8>| crate::testing::xz(&bytes);
        let files: Vec<(String, Vec<u8>)> = vec![
            (format!("./boot/config-{release}"), b"no".to_vec()),
            (format!("./boot/vmlinux-{release}"), b"the kernel".to_vec()),
            (format!("{modules}/modules.builtin"), b"kernel/drivers/virtio/virtio.ko\n".to_vec()),
            (format!("{modules}/kernel/fs/ext4/ext4.ko.xz"), xz(module_object("mbcache,jbd2,crc16,virtio"))),
            (format!("{modules}/kernel/fs/mbcache.ko.xz"), xz(module_object(""))),
            (format!("{modules}/kernel/fs/jbd2/jbd2.ko"), module_object("crc16")),
            (format!("{modules}/kernel/lib/crc16.ko.xz"), xz(module_object(""))),
            (format!("{modules}/kernel/drivers/virtio-rng.ko.xz"), xz(module_object(""))),
            (format!("{modules}/kernel/broken.ko"), b"no ELF".to_vec()),
            (format!("{modules}/kernel/lonely.ko"), module_object("absent")),
        ];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(p, b)| (p.as_str(), b.as_slice())).collect();
        let image = format!("linux-image-{release}");
        server.add(&image, "1", "Depends: initramfs-tools\n", &files, Compression::Xz);
        server.add(
            "linux-image-riscv64",
            "1",
            &format!("Depends: {image} (= 1)\n"),
            &[("./usr/share/doc/x", b"x")],
            Compression::Xz,
        );
        server.publish();
        Archive::open(&server.settings()).unwrap()
    }

    #[test]
    fn image_and_modules_in_order() {
        let server = Server::start();
        let archive = kernel_archive(&server);
        let kernel = archive.kernel("linux-image-riscv64").unwrap();
        assert_eq!(kernel.release(), "6.12.1-riscv64");
        assert_eq!(fs::read(kernel.image()).unwrap(), b"the kernel");
        let modules = kernel.modules(&["virtio_rng", "ext4", "virtio", "mbcache"]).unwrap();
        let paths: Vec<&str> = modules.iter().map(|m| m.path.as_str()).collect();
        let expected = [
            "kernel/drivers/virtio-rng.ko",
            "kernel/fs/mbcache.ko",
            "kernel/lib/crc16.ko",
            "kernel/fs/jbd2/jbd2.ko",
            "kernel/fs/ext4/ext4.ko",
        ];
        assert_eq!(paths, expected);
        let ext4 = modules.last().unwrap();
        assert_eq!(ext4.depends, ["kernel/fs/jbd2/jbd2.ko", "kernel/lib/crc16.ko", "kernel/fs/mbcache.ko"]);
        assert_eq!(ext4.aliases, ["fs-x", "virtio:d[0-9]-x*"]);
        assert_eq!(ext4.bytes, module_object("mbcache,jbd2,crc16,virtio"));
        let message = |names: &[&str]| kernel.modules(names).unwrap_err().to_string();
        assert!(message(&["lonely"]).contains("no module absent (wanted by lonely)"));
        assert!(message(&["broken"]).contains("no kernel module"));
        assert!(message(&["nothing"]).contains("wanted by the caller"));
    }

    #[test]
    fn what_several_unpack_at_once_is_there_for_all_from_the_first_moment() {
        for _ in 0..8 {
            let server = Server::start();
            drop(kernel_archive(&server));
            let start = std::sync::Barrier::new(6);
            std::thread::scope(|scope| {
                for _ in 0..6 {
                    scope.spawn(|| {
                        let archive = Archive::open(&server.settings()).unwrap();
                        start.wait();
                        let kernel = archive.kernel("linux-image-riscv64").unwrap();
                        for _ in 0..1000 {
                            assert_eq!(fs::read(kernel.image()).unwrap(), b"the kernel");
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn damage_in_the_cache_is_repaired() {
        let server = Server::start();
        let archive = kernel_archive(&server);
        let kernel = archive.kernel("linux-image-riscv64").unwrap();
        server.stop();
        fs::write(kernel.image(), b"the kerneL").unwrap();
        let again = Archive::open(&server.settings()).unwrap().kernel("linux-image-riscv64").unwrap();
        assert_eq!(fs::read(again.image()).unwrap(), b"the kernel");
        fs::write(kernel.image().with_file_name("manifest"), b"x").unwrap();
        let again = Archive::open(&server.settings()).unwrap().kernel("linux-image-riscv64").unwrap();
        assert_eq!(fs::read(again.image()).unwrap(), b"the kernel");
        let module = &again.modules["ext4"].host;
        fs::write(module, b"damaged").unwrap();
        assert!(matches!(again.modules(&["ext4"]), Err(Error::Hash { .. })));
    }

    #[test]
    fn a_package_without_a_kernel() {
        let server = Server::start();
        server.add("linux-image-riscv64", "1", "", &[("./x", b"x")], Compression::Gzip);
        server.publish();
        let error = Archive::open(&server.settings()).unwrap().kernel("linux-image-riscv64").unwrap_err();
        assert!(error.to_string().contains("no kernel image"), "{error}");
    }
}
