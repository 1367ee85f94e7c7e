//! A file system tree in memory: what packages and folders unpack into, and what initramfs and disk images are made of.
//!
//! Paths are relative to the root, with `/` between names and without `.` or `..`. Symbolic links that lead to folders
//! are followed inside the tree when something is put below them, as they would be in the guest; nothing leads out.
//! Invariant: the parent of every node is a directory of the tree.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest path, as Linux has it (PATH_MAX).
const MAXIMUM_PATH: usize = 4095;
/// The longest name, as Linux has it (NAME_MAX).
const MAXIMUM_NAME: usize = 255;
/// How many symbolic links are followed on the way to one file, as Linux does.
const MAXIMUM_LINKS: usize = 40;

/// Owner, permissions and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata {
    /// Permission, set-id and sticky bits (`0o7777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of the last change, in seconds since 1970.
    pub mtime: u64,
}

impl Metadata {
    /// Root's, with these permission bits, of 1970.
    pub fn root(mode: u32) -> Self {
        Metadata { mode, uid: 0, gid: 0, mtime: 0 }
    }
}

/// What a regular file holds. Nodes that share one `Arc<Content>` are hard links of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// The bytes themselves.
    Bytes(Vec<u8>),
    /// A file of the host with its length in bytes when it was added.
    HostFile(PathBuf, u64),
}

impl Content {
    /// Length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::HostFile(_, length) => *length,
        }
    }

    /// The bytes, read from the host if they lie there.
    pub fn bytes(&self) -> Result<std::borrow::Cow<'_, [u8]>> {
        match self {
            Content::Bytes(bytes) => Ok(bytes.into()),
            Content::HostFile(path, length) => {
                let bytes = fs::read(path).map_err(Error::io(path, "read"))?;
                if bytes.len() as u64 != *length {
                    return Err(Error::Tree {
                        path: path.display().to_string(),
                        reason: "the file changed while it was in use".into(),
                    });
                }
                Ok(bytes.into())
            }
        }
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Arc<Content>),
    /// A symbolic link and its target.
    Symlink(String),
    /// A character device.
    CharacterDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A file, directory, link or device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Owner, permissions and time.
    pub metadata: Metadata,
}

/// A file system tree in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileTree {
    /// In byte order of the paths, so that parents stand before what is in them. The root is "".
    nodes: BTreeMap<String, Node>,
}

impl Default for FileTree {
    fn default() -> Self {
        Self::new()
    }
}

impl FileTree {
    /// A tree with nothing but its root directory.
    pub fn new() -> Self {
        let root = Node { kind: Kind::Directory, metadata: Metadata::root(0o755) };
        FileTree { nodes: BTreeMap::from([(String::new(), root)]) }
    }

    /// A tree with the links that a merged `/usr` has (`/bin` → `usr/bin` and the like).
    pub fn with_merged_usr() -> Self {
        let mut tree = Self::new();
        for name in ["bin", "lib", "sbin"] {
            let directory = Node { kind: Kind::Directory, metadata: Metadata::root(0o755) };
            let link = Node { kind: Kind::Symlink(format!("usr/{name}")), metadata: Metadata::root(0o777) };
            tree.nodes.insert(format!("usr/{name}"), directory.clone());
            tree.nodes.insert("usr".into(), directory);
            tree.nodes.insert(name.into(), link);
        }
        tree
    }

    /// Every node with its path, parents before what is in them; the root's path is "".
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    /// The node at a path; symbolic links on the way are followed, one at the end is not.
    pub fn get(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.locate(path).ok()?)
    }

    /// The node at a path, all symbolic links followed.
    pub fn follow(&self, path: &str) -> Option<&Node> {
        self.nodes.get(&self.walk(path, true).ok()?)
    }

    /// Puts a node at a path, making the directories above it. Returns the path where it lies once the symbolic links
    /// above are followed.
    ///
    /// What a package manager does holds: a directory does not replace a link to a directory, nothing but a directory
    /// replaces a directory that is not empty, anything else gives way to what comes later.
    pub fn insert(&mut self, path: &str, node: Node) -> Result<String> {
        let path = self.locate(path)?;
        if path.is_empty() {
            if node.kind != Kind::Directory {
                return Err(refused(&path, "the root must be a directory"));
            }
            self.nodes.insert(path.clone(), node);
            return Ok(path);
        }
        let is_directory = |node: Option<&Node>| node.is_some_and(|node| node.kind == Kind::Directory);
        if node.kind == Kind::Directory {
            if matches!(self.nodes.get(&path).map(|node| &node.kind), Some(Kind::Symlink(_)))
                && let Ok(target) = self.walk(&path, true)
                && is_directory(self.nodes.get(&target))
            {
                return Ok(target);
            }
        } else if is_directory(self.nodes.get(&path)) {
            let below = format!("{path}/");
            if self.nodes.range(below.clone()..).next().is_some_and(|(other, _)| other.starts_with(&below)) {
                // A link that stands for the directory it leads to, as the links of a merged /usr.
                if matches!(node.kind, Kind::Symlink(_)) {
                    return Ok(path);
                }
                return Err(refused(&path, "a directory that is not empty cannot be replaced"));
            }
        }
        let mut end = 0;
        while let Some(slash) = path[end..].find('/') {
            let parent = &path[..end + slash];
            if !self.nodes.contains_key(parent) {
                let directory = Node { kind: Kind::Directory, metadata: Metadata::root(0o755) };
                self.nodes.insert(parent.to_owned(), directory);
            } else if !is_directory(self.nodes.get(parent)) {
                return Err(refused(&path, &format!("{parent:?} is no directory")));
            }
            end += slash + 1;
        }
        self.nodes.insert(path.clone(), node);
        Ok(path)
    }

    /// Makes a directory, and those above it.
    pub fn directory(&mut self, path: &str, mode: u32) -> Result<()> {
        self.insert(path, Node { kind: Kind::Directory, metadata: Metadata::root(mode) }).map(drop)
    }

    /// Puts a file of root's at a path.
    pub fn file(&mut self, path: &str, bytes: impl Into<Vec<u8>>, mode: u32) -> Result<()> {
        let kind = Kind::File(Arc::new(Content::Bytes(bytes.into())));
        self.insert(path, Node { kind, metadata: Metadata::root(mode) }).map(drop)
    }

    /// Puts a symbolic link at a path.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<()> {
        if target.is_empty() || target.len() > MAXIMUM_PATH || target.contains('\0') {
            return Err(refused(path, "the link's target is empty, too long or holds a NUL"));
        }
        let node = Node { kind: Kind::Symlink(target.to_owned()), metadata: Metadata::root(0o777) };
        self.insert(path, node).map(drop)
    }

    /// Makes `path` another name of the file at `target`.
    pub fn hard_link(&mut self, path: &str, target: &str) -> Result<()> {
        let node = match self.get(target) {
            Some(node) if matches!(node.kind, Kind::File(_)) => node.clone(),
            _ => {
                return Err(refused(path, &format!("it is a hard link to {target:?}, which is no file of the tree")));
            }
        };
        self.insert(path, node).map(drop)
    }

    /// Puts a character device at a path.
    pub fn character_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) -> Result<()> {
        let kind = Kind::CharacterDevice { major, minor };
        self.insert(path, Node { kind, metadata: Metadata::root(mode) }).map(drop)
    }

    /// Removes a node and all below it; whether there was one.
    pub fn remove(&mut self, path: &str) -> bool {
        let Ok(path) = self.locate(path) else { return false };
        if path.is_empty() {
            return false;
        }
        let below = format!("{path}/");
        let inside: Vec<String> =
            self.nodes.range(below.clone()..).map(|(p, _)| p.clone()).take_while(|p| p.starts_with(&below)).collect();
        for path in inside {
            self.nodes.remove(&path);
        }
        self.nodes.remove(&path).is_some()
    }

    /// Adds what another tree holds.
    pub fn merge(&mut self, other: &FileTree) -> Result<()> {
        for (path, node) in other.iter() {
            self.insert(path, node.clone())?;
        }
        Ok(())
    }

    /// Adds a folder of the host at a path, as root's. Symbolic links are taken as they are; files are read when the tree
    /// is written. Devices, pipes and sockets of the host are left out.
    pub fn folder(&mut self, path: &str, folder: &Path) -> Result<()> {
        let metadata = fs::symlink_metadata(folder).map_err(Error::io(folder, "read"))?;
        if !metadata.is_dir() {
            return Err(Error::Io {
                path: folder.to_path_buf(),
                action: "read the folder",
                source: std::io::ErrorKind::NotADirectory.into(),
            });
        }
        let mut open = vec![(path.trim_matches('/').to_owned(), folder.to_path_buf(), metadata)];
        while let Some((path, host, metadata)) = open.pop() {
            let node_metadata = host_metadata(&metadata);
            if metadata.is_dir() {
                // The folder's own name is not the guest's business where it becomes the root.
                if !path.is_empty() {
                    self.insert(&path, Node { kind: Kind::Directory, metadata: node_metadata })?;
                }
                for entry in fs::read_dir(&host).map_err(Error::io(&host, "read"))? {
                    let entry = entry.map_err(Error::io(&host, "read"))?;
                    let name = entry.file_name();
                    let name = name.to_str().ok_or_else(|| refused(&path, "a name in it is not UTF-8"))?;
                    let below = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
                    let metadata = entry.metadata().map_err(Error::io(&entry.path(), "read"))?;
                    open.push((below, entry.path(), metadata));
                }
            } else if metadata.is_symlink() {
                let target = fs::read_link(&host).map_err(Error::io(&host, "read"))?;
                let target = target.to_str().ok_or_else(|| refused(&path, "the link's target is not UTF-8"))?;
                let node = Node { kind: Kind::Symlink(target.to_owned()), metadata: node_metadata };
                self.insert(&path, node)?;
            } else if metadata.is_file() {
                let content = Content::HostFile(host, metadata.len());
                self.insert(&path, Node { kind: Kind::File(Arc::new(content)), metadata: node_metadata })?;
            } else {
                tracing::debug!(path = %host.display(), "left out: neither file, directory nor link");
            }
        }
        Ok(())
    }

    /// The clean path of where `path` leads, the symbolic links above it followed.
    fn locate(&self, path: &str) -> Result<String> {
        self.walk(path, false)
    }

    fn walk(&self, path: &str, follow_last: bool) -> Result<String> {
        check(path)?;
        if path.split('/').any(|name| name == "..") {
            return Err(refused(path, "it holds \"..\""));
        }
        // Names still to walk, the next one last.
        let mut ahead: Vec<String> = names(path);
        let mut here = String::new();
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            if name == ".." {
                // Only from a link's target. The root is its own parent.
                here.truncate(here.rfind('/').unwrap_or(0));
                continue;
            }
            let parent = here.len();
            if !here.is_empty() {
                here.push('/');
            }
            here.push_str(&name);
            if here.len() > MAXIMUM_PATH {
                return Err(refused(path, "it is too long"));
            }
            if let Some(Node { kind: Kind::Symlink(target), .. }) = self.nodes.get(&here)
                && (follow_last || !ahead.is_empty())
            {
                links += 1;
                if links > MAXIMUM_LINKS {
                    return Err(refused(path, "too many symbolic links lead to it"));
                }
                here.truncate(if target.starts_with('/') { 0 } else { parent });
                ahead.extend(names(target));
            }
        }
        Ok(here)
    }
}

/// A path's names in reverse, without empty ones and `.`.
fn names(path: &str) -> Vec<String> {
    path.split('/').rev().filter(|name| !name.is_empty() && *name != ".").map(str::to_owned).collect()
}

fn check(path: &str) -> Result<()> {
    if path.len() > MAXIMUM_PATH || path.split('/').any(|name| name.len() > MAXIMUM_NAME) {
        return Err(refused(path, "it is too long"));
    }
    if path.contains('\0') {
        return Err(refused(path, "it holds a NUL"));
    }
    Ok(())
}

fn refused(path: &str, reason: &str) -> Error {
    Error::Tree { path: path.to_owned(), reason: reason.to_owned() }
}

fn host_metadata(metadata: &fs::Metadata) -> Metadata {
    #[cfg(unix)]
    let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
    // A host without permission bits cannot say which files are programs: all may be.
    #[cfg(not(unix))]
    let mode = 0o755;
    let since = |time: std::time::SystemTime| time.duration_since(std::time::SystemTime::UNIX_EPOCH).ok();
    let mtime = metadata.modified().ok().and_then(since).map_or(0, |time| time.as_secs());
    Metadata { mode, uid: 0, gid: 0, mtime }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(tree: &FileTree) -> Vec<&str> {
        tree.iter().map(|(path, _)| path).collect()
    }

    #[test]
    fn parents_are_made_and_stand_first() {
        let mut tree = FileTree::new();
        tree.file("./a/b/c", "x", 0o644).unwrap();
        tree.file("/a-b", "x", 0o644).unwrap();
        assert_eq!(paths(&tree), ["", "a", "a-b", "a/b", "a/b/c"]);
        assert!(tree.file("a-b/c", "x", 0o644).is_err());
        assert!(tree.file("a", "x", 0o644).is_err());
        assert!(tree.remove("a/b") && !tree.remove("a/b"));
        tree.file("a", "x", 0o644).unwrap();
    }

    #[test]
    fn merged_usr() {
        let mut tree = FileTree::with_merged_usr();
        tree.directory("bin", 0o755).unwrap();
        tree.file("bin/sh", "x", 0o755).unwrap();
        tree.symlink("sbin", "usr/sbin").unwrap();
        tree.file("./sbin/init", "x", 0o755).unwrap();
        assert!(tree.get("usr/bin/sh").is_some() && tree.get("bin/sh").is_some());
        assert_eq!(tree.get("bin").unwrap().kind, Kind::Symlink("usr/bin".into()));
        assert!(!paths(&tree).contains(&"bin/sh"));
        // A link that comes after the directory it stands for does not hide what is there.
        tree.file("lib64/ld.so", "x", 0o755).unwrap();
        tree.symlink("lib64", "usr/lib").unwrap();
        assert!(tree.get("lib64/ld.so").is_some());
    }

    #[test]
    fn nothing_leads_out() {
        let mut tree = FileTree::new();
        for bad in ["../x", "a/../../x", "a/..", "x\0y", &"n".repeat(256), &"a/".repeat(3000)] {
            assert!(tree.file(bad, "x", 0o644).is_err(), "{bad:?}");
        }
        tree.symlink("out", "../../../etc").unwrap();
        tree.symlink("absolute", "/etc").unwrap();
        tree.file("out/a", "x", 0o644).unwrap();
        tree.file("absolute/b", "x", 0o644).unwrap();
        assert_eq!(paths(&tree), ["", "absolute", "etc", "etc/a", "etc/b", "out"]);
        tree.symlink("loop", "loop").unwrap();
        assert!(tree.file("loop/x", "x", 0o644).is_err());
        assert!(tree.symlink("empty", "").is_err());
    }

    #[test]
    fn hard_links_share_their_content() {
        let mut tree = FileTree::new();
        tree.file("a", "x", 0o644).unwrap();
        tree.hard_link("d/b", "a").unwrap();
        let (Kind::File(a), Kind::File(b)) = (&tree.get("a").unwrap().kind, &tree.get("d/b").unwrap().kind) else {
            panic!()
        };
        assert!(Arc::ptr_eq(a, b));
        assert!(tree.hard_link("c", "absent").is_err() && tree.hard_link("c", "d").is_err());
    }

    #[test]
    fn folders_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("d")).unwrap();
        fs::write(folder.path().join("d/f"), b"content").unwrap();
        let mut tree = FileTree::new();
        tree.folder("srv/x", folder.path()).unwrap();
        let Kind::File(content) = &tree.get("srv/x/d/f").unwrap().kind else { panic!() };
        assert_eq!(&*content.bytes().unwrap(), b"content");
        fs::write(folder.path().join("d/f"), b"changed it").unwrap();
        assert!(content.bytes().is_err());
        assert!(tree.folder("y", &folder.path().join("d/f")).is_err());
        assert!(tree.folder("y", &folder.path().join("absent")).is_err());
    }
}
