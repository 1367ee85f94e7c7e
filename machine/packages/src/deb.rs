//! `.deb` files (deb(5)): an `ar` archive whose member `data.tar.*` holds the package's files. Scripts and other control
//! members are never looked at, only passed on to a guest's dpkg.
//!
//! Everything is read as a stream. What a file claims about its sizes is never believed: memory and disk space are used
//! for bytes that are there, within [`Limits`].

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tar::EntryType;

use crate::error::{Error, Result};
use crate::tree::{Content, FileTree, Kind, Metadata, Node};

/// How much a package may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Files, directories and links.
    pub entries: u64,
    /// Bytes of the unpacked archive.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million files, 16 GiB: Debian's largest package, a kernel's debugging symbols, has 9 GB.
    fn default() -> Self {
        Limits { entries: 1 << 20, bytes: 16 << 30 }
    }
}

/// What is behind the signature of an `ar` archive.
const AR_MAGIC: &[u8; 8] = b"!<arch>\n";
/// Length of a member's header.
const AR_HEADER: usize = 60;

/// The reader of xz data. It checks the data's own check sums.
pub(crate) fn xz(reader: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    Ok(Box::new(lzma_rust2::XzReader::new(reader, true)))
}

/// A member of a package's `ar` archive.
struct Member {
    name: String,
    /// Where its bytes begin, and how many there are.
    offset: u64,
    size: u64,
}

/// More members than any package has.
const MOST_MEMBERS: usize = 64;

/// The members of a package, in order.
fn members(path: &Path) -> Result<(File, Vec<Member>)> {
    let refused = |reason: String| Error::Deb { path: path.to_path_buf(), reason };
    let truncated = |e: io::Error| refused(format!("it is no complete package: {e}"));
    let mut file = File::open(path).map_err(Error::io(path, "read"))?;
    let mut magic = [0; AR_MAGIC.len()];
    file.read_exact(&mut magic).map_err(truncated)?;
    if &magic != AR_MAGIC {
        return Err(refused("it is no Debian package: it does not begin with \"!<arch>\"".into()));
    }
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut members = Vec::new();
    let mut offset = AR_MAGIC.len() as u64;
    while offset < length {
        let mut header = [0; AR_HEADER];
        file.seek(SeekFrom::Start(offset)).map_err(truncated)?;
        file.read_exact(&mut header).map_err(truncated)?;
        let text = |range: std::ops::Range<usize>| String::from_utf8_lossy(&header[range]).trim_end().to_owned();
        if header[58..] != *b"`\n" {
            return Err(refused("an ar header does not end as it should".into()));
        }
        let name = text(0..16).trim_end_matches('/').to_owned();
        let size: u64 =
            text(48..58).parse().map_err(|_| refused(format!("the size of member {name:?} is no number")))?;
        if members.len() == MOST_MEMBERS {
            return Err(refused(format!("it has more than {MOST_MEMBERS} members")));
        }
        members.push(Member { name, offset: offset + AR_HEADER as u64, size });
        // Members are padded to an even length; ten digits cannot overflow.
        offset += AR_HEADER as u64 + size + size % 2;
    }
    Ok((file, members))
}

/// The unpacked stream of a member, and its name without what says how it is compressed.
fn unpacked(path: &Path, mut file: File, member: &Member) -> Result<(String, Box<dyn Read>)> {
    let refused = |reason: String| Error::Deb { path: path.to_path_buf(), reason };
    let truncated = |e: io::Error| refused(format!("it is no complete package: {e}"));
    file.seek(SeekFrom::Start(member.offset)).map_err(truncated)?;
    let reader = BufReader::with_capacity(1 << 17, file).take(member.size);
    let name = &member.name;
    let Some(end) = name.find(".tar").map(|dot| dot + ".tar".len()) else {
        return Ok((name.clone(), Box::new(reader)));
    };
    let reader: Box<dyn Read> = match &name[end..] {
        "" => Box::new(reader),
        ".xz" => xz(reader).map_err(truncated)?,
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        ".zst" => match ruzstd::decoding::StreamingDecoder::new(reader) {
            Ok(decoder) => Box::new(decoder),
            Err(e) => return Err(refused(format!("{name}: {e}"))),
        },
        _ => {
            return Err(refused(format!(
                "{name} is compressed in a way that is not supported (xz, zstd and gzip are)"
            )));
        }
    };
    Ok((name[..end].to_owned(), reader))
}

/// Finds `data.tar.*` and returns its unpacked stream.
fn data(path: &Path) -> Result<Box<dyn Read>> {
    let (file, members) = members(path)?;
    let member = members.iter().find(|member| member.name.starts_with("data.tar")).ok_or_else(|| {
        let reason = "it is no complete package: there is no data.tar in it".into();
        Error::Deb { path: path.to_path_buf(), reason }
    })?;
    Ok(unpacked(path, file, member)?.1)
}

/// Writes a package with its members unpacked: a package of the same content, with which dpkg is done sooner.
///
/// # Errors
/// If the file is no package, is damaged or exceeds the limit on bytes, or `output` fails.
pub fn write_unpacked(deb: &Path, output: &mut (impl Write + Seek), limits: &Limits) -> Result<()> {
    let refused = |e: io::Error| Error::Deb { path: deb.to_path_buf(), reason: format!("it cannot be unpacked: {e}") };
    let header = |output: &mut dyn Write, name: &str, size: u64| {
        let mode = "100644";
        writeln!(output, "{name:<16}{0:<12}{0:<6}{0:<6}{mode:<8}{size:<10}`", 0)
    };
    output.write_all(AR_MAGIC).map_err(refused)?;
    let mut left = limits.bytes;
    for member in &members(deb)?.1 {
        let file = File::open(deb).map_err(Error::io(deb, "read"))?;
        let (name, reader) = unpacked(deb, file, member)?;
        let mut reader = Limited { reader, left };
        let start = output.stream_position().map_err(refused)?;
        header(output, &name, 0).map_err(refused)?;
        let size = io::copy(&mut reader, output).map_err(refused)?;
        left = reader.left;
        // The header has the size, which is known only now.
        output.seek(SeekFrom::Start(start)).map_err(refused)?;
        header(output, &name, size).map_err(refused)?;
        output.seek(SeekFrom::Current(size as i64)).map_err(refused)?;
        output.write_all(if size % 2 == 0 { b"" } else { b"\n" }).map_err(refused)?;
    }
    Ok(())
}

/// An entry of a package's data.
pub(crate) struct Entry<'a> {
    /// Its path as the package has it.
    pub(crate) path: String,
    /// What it is; a file's content is read from `reader`.
    pub(crate) kind: EntryKind,
    pub(crate) metadata: Metadata,
    pub(crate) reader: &'a mut dyn Read,
}

pub(crate) enum EntryKind {
    File,
    HardLink(String),
    /// Anything that has no content.
    Other(Kind),
}

/// Calls `see` for each entry of a package's data, in the order of the archive.
pub(crate) fn visit(path: &Path, limits: &Limits, mut see: impl FnMut(Entry<'_>) -> Result<()>) -> Result<()> {
    let refused = |reason: String| Error::Deb { path: path.to_path_buf(), reason };
    let broken = |e: io::Error| refused(format!("it cannot be unpacked: {e}"));
    let mut archive = tar::Archive::new(Limited { reader: data(path)?, left: limits.bytes });
    for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
        let mut entry = entry.map_err(broken)?;
        if count as u64 >= limits.entries {
            return Err(refused(format!("it holds more than {} files", limits.entries)));
        }
        let text = |bytes: &[u8]| match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(refused(format!("the name {:?} is not UTF-8", String::from_utf8_lossy(bytes)))),
        };
        let name = text(&entry.path_bytes())?;
        let link = match entry.link_name_bytes() {
            Some(bytes) => text(&bytes)?,
            None => String::new(),
        };
        let header = entry.header();
        let number = |value: io::Result<u64>| {
            let value = value.map_err(broken)?;
            u32::try_from(value).map_err(|_| refused(format!("{name}: owner {value} is out of range")))
        };
        let device = || -> Result<(u32, u32)> {
            let field = |value: io::Result<Option<u32>>| Ok::<u32, Error>(value.map_err(broken)?.unwrap_or(0));
            Ok((field(header.device_major())?, field(header.device_minor())?))
        };
        let metadata = Metadata {
            mode: header.mode().map_err(broken)? & 0o7777,
            uid: number(header.uid())?,
            gid: number(header.gid())?,
            mtime: header.mtime().map_err(broken)?,
        };
        let kind = match header.entry_type() {
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Link => EntryKind::HardLink(link),
            EntryType::Directory => EntryKind::Other(Kind::Directory),
            EntryType::Symlink => EntryKind::Other(Kind::Symlink(link)),
            EntryType::Char => {
                let (major, minor) = device()?;
                EntryKind::Other(Kind::CharacterDevice { major, minor })
            }
            EntryType::Block => {
                let (major, minor) = device()?;
                EntryKind::Other(Kind::BlockDevice { major, minor })
            }
            EntryType::Fifo => EntryKind::Other(Kind::Fifo),
            EntryType::XGlobalHeader => continue,
            other => return Err(refused(format!("{name}: entries of type {other:?} are not supported"))),
        };
        see(Entry { path: name, kind, metadata, reader: &mut entry })?;
    }
    // The archive ends before its compressed stream does, whose check sums stand last.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// Ends in an error once more has been read than allowed.
struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| io::Error::other("it unpacks to too many bytes"))?;
        Ok(count)
    }
}

/// Puts an entry into a tree; `store` keeps the content of a file that will lie at the path given.
fn add(
    tree: &mut FileTree,
    entry: Entry<'_>,
    store: impl FnOnce(&str, &mut dyn Read) -> Result<Content>,
) -> Result<()> {
    let Entry { path, kind, metadata, reader } = entry;
    match kind {
        EntryKind::Other(Kind::Symlink(target)) => {
            // Checked as any link; then with the package's owner and time.
            tree.symlink(&path, &target)?;
            if let Some(Node { kind: kind @ Kind::Symlink(_), .. }) = tree.get(&path).cloned() {
                tree.insert(&path, Node { kind, metadata })?;
            }
        }
        EntryKind::Other(kind) => drop(tree.insert(&path, Node { kind, metadata })?),
        EntryKind::HardLink(target) => tree.hard_link(&path, &target)?,
        EntryKind::File => {
            // The path is made first, for it says where the content may be kept.
            let empty = Kind::File(Arc::new(Content::Bytes(Vec::new())));
            let place = tree.insert(&path, Node { kind: empty, metadata })?;
            let content = store(&place, reader)?;
            tree.insert(&place, Node { kind: Kind::File(Arc::new(content)), metadata })?;
        }
    }
    Ok(())
}

/// Unpacks a package's files into a tree in memory.
///
/// # Errors
/// If the file is no package, is damaged, exceeds the limits or holds paths that a tree cannot hold.
pub fn unpack(deb: &Path, tree: &mut FileTree, limits: &Limits) -> Result<()> {
    visit(deb, limits, |entry| {
        add(tree, entry, |_, reader| {
            let mut bytes = Vec::new();
            reader
                .read_to_end(&mut bytes)
                .map_err(|e| Error::Deb { path: deb.to_path_buf(), reason: e.to_string() })?;
            Ok(Content::Bytes(bytes))
        })
    })
}

/// Unpacks packages onto the host, into a folder that is empty or does not exist yet.
///
/// The tree returned has every owner, permission bit, link and device; the contents of files stay in the folder. The
/// folder itself shows what the host's file system lets this user make: no devices, no foreign owners, no set-id bits.
///
/// # Errors
/// As [`unpack`], and if the folder is not empty or the host refuses to write.
pub fn unpack_to_folder<'a>(
    debs: impl IntoIterator<Item = &'a Path>,
    folder: &Path,
    limits: &Limits,
) -> Result<FileTree> {
    fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
    if fs::read_dir(folder).map_err(Error::io(folder, "read"))?.next().is_some() {
        return Err(Error::Io {
            path: folder.to_path_buf(),
            action: "unpack into the folder",
            source: io::ErrorKind::DirectoryNotEmpty.into(),
        });
    }
    let mut tree = FileTree::with_merged_usr();
    // While files are written there are directories and files in the folder, no symbolic links: none can lead out. A
    // tree's paths hold no "..", and their directories have been made here.
    for deb in debs {
        visit(deb, limits, |entry| {
            add(&mut tree, entry, |place, reader| {
                let host = host_path(folder, place)?;
                let parent = host.parent().unwrap_or(folder);
                fs::create_dir_all(parent).map_err(Error::io(parent, "make"))?;
                // A file of an earlier package gives way; it may be a hard link.
                if let Err(e) = fs::remove_file(&host)
                    && e.kind() != io::ErrorKind::NotFound
                {
                    return Err(Error::io(&host, "replace")(e));
                }
                let mut file = File::create_new(&host).map_err(Error::io(&host, "write"))?;
                let mut length = 0;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    let broken = |e: io::Error| Error::Deb { path: deb.to_path_buf(), reason: e.to_string() };
                    let count = reader.read(&mut buffer).map_err(broken)?;
                    if count == 0 {
                        break;
                    }
                    file.write_all(&buffer[..count]).map_err(Error::io(&host, "write"))?;
                    length += count as u64;
                }
                Ok(Content::HostFile(host, length))
            })
        })?;
    }
    finish_folder(&tree, folder)?;
    Ok(tree)
}

/// Makes directories, links and permission bits once all files are there.
fn finish_folder(tree: &FileTree, folder: &Path) -> Result<()> {
    for (path, node) in tree.iter() {
        let host = host_path(folder, path)?;
        match &node.kind {
            Kind::Directory => fs::create_dir_all(&host).map_err(Error::io(&host, "make"))?,
            Kind::File(content) => {
                // A further name of a file that lies elsewhere in the folder.
                if let Content::HostFile(first, _) = &**content
                    && *first != host
                {
                    let linked = fs::hard_link(first, &host).or_else(|_| fs::copy(first, &host).map(drop));
                    linked.map_err(Error::io(&host, "link"))?;
                }
                set_mode(&host, node.metadata.mode & 0o777 | 0o600)?;
            }
            Kind::Symlink(_) | Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {}
        }
    }
    // Links last and from the deepest up, so that none is ever on the way to another.
    let links: Vec<(&str, &Node)> = tree.iter().collect();
    for (path, node) in links.into_iter().rev() {
        let host = host_path(folder, path)?;
        match &node.kind {
            Kind::Symlink(target) => make_symlink(target, &host)?,
            Kind::Directory => set_mode(&host, node.metadata.mode & 0o777 | 0o700)?,
            _ => {}
        }
    }
    Ok(())
}

/// A tree's path below a host's folder; names that mean something else to the host (drives, backslashes) are refused.
fn host_path(folder: &Path, path: &str) -> Result<PathBuf> {
    let mut host = folder.to_path_buf();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        let mut parts = Path::new(name).components();
        match (parts.next(), parts.next()) {
            (Some(std::path::Component::Normal(part)), None) => host.push(part),
            _ => {
                let reason = "this host cannot have a file of that name".into();
                return Err(Error::Tree { path: path.to_owned(), reason });
            }
        }
    }
    Ok(host)
}

#[cfg(unix)]
fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::io(path, "set the permissions of"))
}

#[cfg(not(unix))]
fn set_mode(_path: &Path, _mode: u32) -> Result<()> {
    Ok(())
}

#[cfg(unix)]
fn make_symlink(target: &str, path: &Path) -> Result<()> {
    std::os::unix::fs::symlink(target, path).map_err(Error::io(path, "link"))
}

/// Links need a privilege on some hosts: the tree has them, the folder does not.
#[cfg(not(unix))]
fn make_symlink(target: &str, path: &Path) -> Result<()> {
    tracing::debug!(path = %path.display(), target, "symbolic link left to the tree");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Compression, deb, tar, tar_header};

    fn unpacked(bytes: &[u8]) -> Result<FileTree> {
        unpacked_within(bytes, &Limits::default())
    }

    fn unpacked_within(bytes: &[u8], limits: &Limits) -> Result<FileTree> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, bytes).unwrap();
        let mut tree = FileTree::with_merged_usr();
        unpack(&path, &mut tree, limits)?;
        Ok(tree)
    }

    fn bytes(tree: &FileTree, path: &str) -> Vec<u8> {
        match &tree.get(path).unwrap().kind {
            Kind::File(content) => content.bytes().unwrap().into_owned(),
            kind => panic!("{kind:?}"),
        }
    }

    #[test]
    fn all_compressions() {
        let data = tar(&[("./bin/sh", b"shell"), ("./usr/share/doc/x", b"")]);
        for compression in [Compression::None, Compression::Gzip, Compression::Xz] {
            let tree = unpacked(&deb(&data, compression)).unwrap();
            assert_eq!(bytes(&tree, "usr/bin/sh"), b"shell");
        }
        let mut zstd = Vec::new();
        ruzstd::encoding::compress(&data[..], &mut zstd, ruzstd::encoding::CompressionLevel::Fastest);
        let tree = unpacked(&crate::testing::ar(&[("debian-binary", b"2.0\n"), ("data.tar.zst", &zstd)])).unwrap();
        assert_eq!(bytes(&tree, "bin/sh"), b"shell");
    }

    #[test]
    fn members_are_written_unpacked() {
        let data = tar(&[("./bin/sh", b"shell")]);
        let control = tar(&[("./control", b"Package: x\n")]);
        let plain = crate::testing::ar(&[("debian-binary", b"2.0\n"), ("control.tar", &control), ("data.tar", &data)]);
        let members: [(&str, &[u8]); 3] = [
            ("debian-binary", b"2.0\n"),
            ("control.tar.gz", &crate::testing::gzip(&control)),
            ("data.tar.xz", &crate::testing::xz(&data)),
        ];
        let packed = crate::testing::ar(&members);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, &packed).unwrap();
        let mut written = io::Cursor::new(Vec::new());
        write_unpacked(&path, &mut written, &Limits::default()).unwrap();
        assert_eq!(written.into_inner(), plain);
        let few = Limits { bytes: data.len() as u64, ..Limits::default() };
        assert!(write_unpacked(&path, &mut io::Cursor::new(Vec::new()), &few).is_err());
        fs::write(&path, &packed[..packed.len() - 20]).unwrap();
        assert!(write_unpacked(&path, &mut io::Cursor::new(Vec::new()), &Limits::default()).is_err());
    }

    #[test]
    fn truncated_and_damaged_packages() {
        let whole = deb(&tar(&[("./a", &[7; 3000]), ("./b", b"x")]), Compression::Xz);
        for length in 0..whole.len() - 1 {
            assert!(unpacked(&whole[..length]).is_err(), "cut to {length}");
        }
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 0x41;
            // Any answer but a panic or a hang will do: the hash has been checked before.
            let _ = unpacked(&damaged);
        }
        let other = crate::testing::ar(&[("debian-binary", b"2.0\n"), ("data.tar.lz4", b"x")]);
        assert!(unpacked(&other).unwrap_err().to_string().contains("not supported"));
    }

    /// Messages quote damaged packages, and go to a terminal.
    #[test]
    fn messages_are_one_line_of_printable_text() {
        let package = |name: &[u8], checksum: &[u8]| {
            let mut header = tar_header(EntryType::Fifo);
            header.set_entry_type(EntryType::new(b'Z'));
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
            header.set_cksum();
            header.as_old_mut().cksum[..checksum.len()].copy_from_slice(checksum);
            let mut tar = header.as_bytes().to_vec();
            tar.resize(tar.len() + 1024, 0);
            unpacked(&crate::testing::ar(&[("debian-binary", b"2.0\n"), ("data.tar", &tar)])).unwrap_err().to_string()
        };
        for (name, checksum) in [(&b"a\x1b[2J\nb"[..], &b""[..]), (b"a", b"\n\x1b[2J")] {
            let message = package(name, checksum);
            assert!(!message.contains(char::is_control) && message.contains("[2J"), "{message:?}");
        }
    }

    #[test]
    fn paths_that_lead_out() {
        for (path, link) in [("../evil", None), ("a/../../evil", None), ("evil", Some("/etc/passwd"))] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar_header(EntryType::Regular);
            match link {
                // A hard link to a file that is not the package's.
                Some(target) => {
                    header.set_entry_type(EntryType::Link);
                    header.set_link_name(target).unwrap();
                }
                None => header.set_size(1),
            }
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, &b"x"[..if link.is_some() { 0 } else { 1 }]).unwrap();
            let result = unpacked(&deb(&builder.into_inner().unwrap(), Compression::Gzip));
            assert!(matches!(result, Err(Error::Tree { .. })), "{path}: {result:?}");
        }
    }

    #[test]
    fn limits_hold() {
        let many = deb(&tar(&[("./a", b"x"), ("./b", b"x"), ("./c", b"x")]), Compression::Gzip);
        assert!(unpacked_within(&many, &Limits { entries: 3, bytes: 1 << 20 }).is_ok());
        assert!(unpacked_within(&many, &Limits { entries: 2, bytes: 1 << 20 }).is_err());
        let bomb = deb(&tar(&[("./zeros", &[0; 1 << 20])]), Compression::Xz);
        assert!(bomb.len() < 10_000);
        assert!(unpacked_within(&bomb, &Limits { entries: 9, bytes: 1 << 19 }).is_err());
        // A size that the archive does not have is not believed.
        let mut header = tar_header(EntryType::Regular);
        header.set_path("huge").unwrap();
        header.set_size(1 << 40);
        header.set_cksum();
        assert!(unpacked(&deb(header.as_bytes(), Compression::None)).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn folders_cannot_be_left_through_links() {
        let outside = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut link = tar_header(EntryType::Symlink);
        builder.append_link(&mut link, "./way/out", outside.path()).unwrap();
        let mut file = tar_header(EntryType::Regular);
        file.set_mode(0o4755);
        file.set_uid(33);
        file.set_size(4);
        builder.append_data(&mut file, "./way/out/evil", &b"evil"[..]).unwrap();
        let mut hard = tar_header(EntryType::Link);
        hard.set_mode(0o4755);
        builder.append_link(&mut hard, "./twin", "./way/out/evil").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, deb(&builder.into_inner().unwrap(), Compression::Xz)).unwrap();
        let target = folder.path().join("root");
        let tree = unpack_to_folder([path.as_path()], &target, &Limits::default()).unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
        // The link is absolute: inside the guest it leads to a folder of the guest.
        let inside = format!("{}/evil", outside.path().display());
        assert_eq!(bytes(&tree, &inside), b"evil");
        assert_eq!(tree.get(&inside).unwrap().metadata.mode, 0o4755);
        assert_eq!(tree.get(&inside).unwrap().metadata.uid, 33);
        assert_eq!(fs::read(target.join("twin")).unwrap(), b"evil");
        assert_eq!(fs::read_link(target.join("way/out")).unwrap(), outside.path());
        assert_eq!(fs::read_link(target.join("bin")).unwrap(), Path::new("usr/bin"));
        let again = unpack_to_folder([path.as_path()], &target, &Limits::default());
        assert!(matches!(again, Err(Error::Io { .. })));
    }
}
