//! The initramfs: a cpio archive in the "newc" format that Linux unpacks into its first root file system
//! (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).
//!
//! The same tree gives the same bytes: members stand in order of their paths, inode numbers are counted up, and every
//! time is the one given.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use crate::archive::Package;
use crate::cache;
use crate::error::{Error, Result};
use crate::kernel::Module;
use crate::tree::{Content, FileTree, Kind, Node};

/// File types in a mode word (POSIX `sys/stat.h`, as Linux numbers them).
const S_IFIFO: u32 = 0o010_000;
const S_IFCHR: u32 = 0o020_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFBLK: u32 = 0o060_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Where [`Initramfs::modules`] writes the order in which modules are to be loaded, one path per line.
const LOAD_LIST: &str = "etc/modules.load";

/// Builds an initramfs from packages, folders and single files. What is added later replaces what was there.
#[derive(Debug, Clone)]
pub struct Initramfs {
    tree: FileTree,
    mtime: u32,
}

impl Default for Initramfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Initramfs {
    /// An initramfs with nothing but the directories and links of a merged `/usr`.
    pub fn new() -> Self {
        Initramfs { tree: FileTree::with_merged_usr(), mtime: 0 }
    }

    /// The tree, to be looked at or changed.
    pub fn tree(&mut self) -> &mut FileTree {
        &mut self.tree
    }

    /// Sets the time that every file bears, in seconds since 1970. Default 0.
    pub fn mtime(mut self, seconds: u32) -> Self {
        self.mtime = seconds;
        self
    }

    /// Adds the files of packages.
    pub fn packages<'a>(mut self, packages: impl IntoIterator<Item = &'a Package>) -> Result<Self> {
        for package in packages {
            package.unpack(&mut self.tree)?;
        }
        Ok(self)
    }

    /// Adds a folder of the host at a path of the guest ("" is the root).
    pub fn folder(mut self, path: &str, folder: &Path) -> Result<Self> {
        self.tree.folder(path, folder)?;
        Ok(self)
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<Self> {
        self.tree.file(path, bytes, mode)?;
        Ok(self)
    }

    /// Adds a directory.
    pub fn directory(mut self, path: &str, mode: u32) -> Result<Self> {
        self.tree.directory(path, mode)?;
        Ok(self)
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, path: &str, target: &str) -> Result<Self> {
        self.tree.symlink(path, target)?;
        Ok(self)
    }

    /// Adds the program that the kernel starts first.
    pub fn init(self, program: impl Into<Vec<u8>>) -> Result<Self> {
        self.file("init", program, 0o755)
    }

    /// Adds kernel modules where `modprobe` finds them, with the `modules.dep` and `modules.alias` that `depmod` would
    /// make, and writes their paths to `/etc/modules.load` in the order in which `insmod` can load them.
    pub fn modules(mut self, release: &str, modules: &[Module]) -> Result<Self> {
        let folder = format!("usr/lib/modules/{release}");
        let mut load = String::new();
        let mut dependencies = String::new();
        let mut aliases = String::new();
        for module in modules {
            let path = format!("{folder}/{}", module.path);
            self.tree.file(&path, module.bytes.clone(), 0o644)?;
            load.push_str(&format!("/{path}\n"));
            dependencies.push_str(&format!("{}: {}\n", module.path, module.depends.join(" ")));
            for alias in &module.aliases {
                aliases.push_str(&format!("alias {} {}\n", underscored(alias), module.name));
            }
        }
        self.tree.file(LOAD_LIST, load, 0o644)?;
        self.tree.file(&format!("{folder}/modules.dep"), dependencies, 0o644)?;
        self.tree.file(&format!("{folder}/modules.alias"), aliases, 0o644)?;
        Ok(self)
    }

    /// Writes the archive.
    pub fn write_to(&self, writer: impl Write) -> Result<()> {
        write_cpio(&self.tree, self.mtime, writer)
    }

    /// The archive in memory.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Writes the archive to a file, which appears only when it is whole.
    pub fn write_file(&self, path: &Path) -> Result<()> {
        let file = cache::Cache::temporary(path)?;
        self.write_to(BufWriter::with_capacity(1 << 17, file.as_file()))?;
        cache::keep(file, path)
    }

    /// Writes the archive to a file, compressed by gzip. Linux unpacks it as well, but the guest's processor pays for it.
    pub fn write_gzip_file(&self, path: &Path) -> Result<()> {
        let file = cache::Cache::temporary(path)?;
        let mut encoder = flate2::write::GzEncoder::new(BufWriter::new(file.as_file()), flate2::Compression::default());
        self.write_to(&mut encoder)?;
        encoder.finish().and_then(|mut writer| writer.flush()).map_err(Error::io(path, "write"))?;
        cache::keep(file, path)
    }
}

/// An alias as `modprobe` looks for it: with `_` for `-`, but not in a pattern's brackets, where `-` is a range.
fn underscored(alias: &str) -> String {
    let mut in_brackets = false;
    let replace = |c| {
        in_brackets = match c {
            '[' => true,
            ']' => false,
            _ => in_brackets,
        };
        if c == '-' && !in_brackets { '_' } else { c }
    };
    alias.chars().map(replace).collect()
}

/// Writes a tree as a cpio archive.
fn write_cpio(tree: &FileTree, mtime: u32, writer: impl Write) -> Result<()> {
    let mut cpio = Cpio { writer, position: 0, mtime };
    // Names of one file, so that the last of them can carry the content (as cpio's readers expect) under the first's
    // inode number.
    let mut links: HashMap<*const Content, Links> = HashMap::new();
    for (_, node) in tree.iter() {
        if let Kind::File(content) = &node.kind {
            links.entry(Arc::as_ptr(content)).or_default().count += 1;
        }
    }
    for (inode, (path, node)) in (1u32..).zip(tree.iter().filter(|(path, _)| !path.is_empty())) {
        let mut member = Member { path, node, inode, links: 1, major: 0, minor: 0, type_bits: 0, body: Body::None };
        match &node.kind {
            Kind::Directory => {
                member.type_bits = S_IFDIR;
                member.links = 2;
            }
            Kind::Symlink(target) => {
                member.type_bits = S_IFLNK;
                member.body = Body::Bytes(target.as_bytes());
            }
            Kind::CharacterDevice { major, minor } => {
                (member.type_bits, member.major, member.minor) = (S_IFCHR, *major, *minor);
            }
            Kind::BlockDevice { major, minor } => {
                (member.type_bits, member.major, member.minor) = (S_IFBLK, *major, *minor);
            }
            Kind::Fifo => member.type_bits = S_IFIFO,
            Kind::File(content) => {
                member.type_bits = S_IFREG;
                let group = links.entry(Arc::as_ptr(content)).or_default();
                member.inode = *group.inode.get_or_insert(inode);
                member.links = group.count;
                group.seen += 1;
                if group.seen == group.count {
                    member.body = match &**content {
                        Content::Bytes(bytes) => Body::Bytes(bytes),
                        Content::HostFile(path, length) => Body::HostFile(path, *length),
                    };
                }
            }
        }
        cpio.member(&member)?;
    }
    cpio.trailer()
}

#[derive(Default)]
struct Links {
    count: u32,
    seen: u32,
    inode: Option<u32>,
}

struct Member<'a> {
    path: &'a str,
    node: &'a Node,
    inode: u32,
    links: u32,
    major: u32,
    minor: u32,
    type_bits: u32,
    body: Body<'a>,
}

enum Body<'a> {
    None,
    Bytes(&'a [u8]),
    HostFile(&'a Path, u64),
}

struct Cpio<W> {
    writer: W,
    position: u64,
    mtime: u32,
}

impl<W: Write> Cpio<W> {
    fn member(&mut self, member: &Member<'_>) -> Result<()> {
        let length = match &member.body {
            Body::None => 0,
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::HostFile(_, length) => *length,
        };
        let length = u32::try_from(length).map_err(|_| Error::Tree {
            path: member.path.to_owned(),
            reason: "a file of 4 GiB or more does not fit into an initramfs: put it on a disk".into(),
        })?;
        let metadata = &member.node.metadata;
        let fields = [
            member.inode,
            member.type_bits | (metadata.mode & 0o7777),
            metadata.uid,
            metadata.gid,
            member.links,
            self.mtime,
            length,
            0,
            0,
            member.major,
            member.minor,
            member.path.len() as u32 + 1,
            0,
        ];
        self.header(&fields, member.path)?;
        match &member.body {
            Body::None => {}
            Body::Bytes(bytes) => self.write(bytes)?,
            Body::HostFile(path, expected) => self.copy(path, *expected)?,
        }
        self.pad()
    }

    fn trailer(&mut self) -> Result<()> {
        const NAME: &str = "TRAILER!!!";
        self.header(&[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, NAME.len() as u32 + 1, 0], NAME)?;
        self.writer.flush().map_err(Error::io(Path::new("initramfs"), "write"))
    }

    fn header(&mut self, fields: &[u32; 13], name: &str) -> Result<()> {
        let mut header = String::from("070701");
        for field in fields {
            header.push_str(&format!("{field:08X}"));
        }
        header.push_str(name);
        header.push('\0');
        self.write(header.as_bytes())?;
        self.pad()
    }

    fn copy(&mut self, path: &Path, expected: u64) -> Result<()> {
        let file = File::open(path).map_err(Error::io(path, "read"))?;
        let copied = io::copy(&mut file.take(expected), &mut self.writer).map_err(Error::io(path, "copy"))?;
        self.position += copied;
        if copied != expected {
            let reason = "the file became shorter while it was in use".into();
            return Err(Error::Tree { path: path.display().to_string(), reason });
        }
        Ok(())
    }

    /// Headers and bodies are padded to four bytes.
    fn pad(&mut self) -> Result<()> {
        let padding = (4 - self.position % 4) % 4;
        self.write(&[0; 3][..padding as usize])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.writer.write_all(bytes).map_err(Error::io(Path::new("initramfs"), "write"))?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A member as a reader that knows only the format's description sees it.
    #[derive(Debug, PartialEq, Eq)]
    struct Seen {
        name: String,
        fields: Vec<u32>,
        body: Vec<u8>,
    }

    fn read(mut bytes: &[u8]) -> Vec<Seen> {
        let mut members = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let fields: Vec<u32> = (0..13)
                .map(|i| u32::from_str_radix(std::str::from_utf8(&bytes[6 + 8 * i..14 + 8 * i]).unwrap(), 16).unwrap())
                .collect();
            let (body_length, name_length) = (fields[6] as usize, fields[11] as usize);
            assert_eq!(bytes[110 + name_length - 1], 0);
            let name = String::from_utf8(bytes[110..110 + name_length - 1].to_vec()).unwrap();
            let body_start = (110 + name_length).next_multiple_of(4);
            let body = bytes[body_start..body_start + body_length].to_vec();
            bytes = &bytes[(body_start + body_length).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return members;
            }
            members.push(Seen { name, fields, body });
        }
    }

    #[test]
    fn members_of_every_kind() {
        let mut initramfs = Initramfs::new().mtime(7);
        initramfs = initramfs.file("bin/sh", "shell", 0o4755).unwrap().init("#!/bin/sh\n").unwrap();
        initramfs.tree().hard_link("bin/ash", "bin/sh").unwrap();
        initramfs.tree().character_device("dev/console", 0o600, 5, 1).unwrap();
        let bytes = initramfs.to_bytes().unwrap();
        assert_eq!(bytes, initramfs.clone().to_bytes().unwrap());
        let members = read(&bytes);
        let names: Vec<&str> = members.iter().map(|m| m.name.as_str()).collect();
        let expected = [
            "bin",
            "dev",
            "dev/console",
            "init",
            "lib",
            "sbin",
            "usr",
            "usr/bin",
            "usr/bin/ash",
            "usr/bin/sh",
            "usr/lib",
            "usr/sbin",
        ];
        assert_eq!(names, expected);
        let get = |name: &str| members.iter().find(|m| m.name == name).unwrap();
        assert_eq!((get("bin").fields[1], get("bin").body.as_slice()), (0o120777, &b"usr/bin"[..]));
        assert_eq!(get("usr").fields[1], 0o040755);
        let console = get("dev/console");
        assert_eq!((console.fields[1], console.fields[9], console.fields[10]), (0o020600, 5, 1));
        let (first, last) = (get("usr/bin/ash"), get("usr/bin/sh"));
        assert_eq!((first.fields[1], first.fields[4], first.fields[5]), (0o104755, 2, 7));
        assert_eq!(first.fields[0], last.fields[0]);
        assert_eq!((first.body.as_slice(), last.body.as_slice()), (&b""[..], &b"shell"[..]));
        let mut inodes: Vec<u32> = members.iter().map(|m| m.fields[0]).collect();
        inodes.sort();
        inodes.dedup();
        assert_eq!(inodes.len(), members.len() - 1);
    }

    #[test]
    fn host_files_and_modules() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("data"), b"from the host").unwrap();
        let module = |name: &str, depends: &[&str]| Module {
            name: name.into(),
            path: format!("kernel/{name}.ko"),
            bytes: name.into(),
            depends: depends.iter().map(|d| format!("kernel/{d}.ko")).collect(),
            aliases: vec![format!("fs-{name}"), "of:[a-z]-x".into()],
        };
        let initramfs = Initramfs::new().folder("", folder.path()).unwrap();
        let initramfs = initramfs.modules("6.12", &[module("crc16", &[]), module("ext4", &["crc16"])]).unwrap();
        let path = folder.path().join("out/initrd");
        initramfs.write_file(&path).unwrap();
        let members = read(&std::fs::read(&path).unwrap());
        let body =
            |name: &str| String::from_utf8(members.iter().find(|m| m.name == name).unwrap().body.clone()).unwrap();
        assert_eq!(body("data"), "from the host");
        assert_eq!(body("usr/lib/modules/6.12/modules.dep"), "kernel/crc16.ko: \nkernel/ext4.ko: kernel/crc16.ko\n");
        let aliases = "alias fs_crc16 crc16\nalias of:[a-z]_x crc16\nalias fs_ext4 ext4\nalias of:[a-z]_x ext4\n";
        assert_eq!(body("usr/lib/modules/6.12/modules.alias"), aliases);
        let order = "/usr/lib/modules/6.12/kernel/crc16.ko\n/usr/lib/modules/6.12/kernel/ext4.ko\n";
        assert_eq!(body("etc/modules.load"), order);
        let packed = folder.path().join("out/initrd.gz");
        initramfs.write_gzip_file(&packed).unwrap();
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(File::open(&packed).unwrap()).read_to_end(&mut unpacked).unwrap();
        assert_eq!(unpacked, std::fs::read(&path).unwrap());
    }
}
