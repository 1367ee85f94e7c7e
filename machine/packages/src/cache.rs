//! The user's cache folder: files that appear only when they are whole, and that are checked when they are read back.
//!
//! Two processes may work on the same cache at once: every file is written under a temporary name in the folder where it
//! will stay and renamed, its final name says which content it has, and whoever comes second replaces it by the same.
//! Folders cannot be replaced in one step: they are made by one process at a time ([`turn`]).
//!
//! ```text
//! dists/SUITE/MIRROR/InRelease      the signed release file, named after the mirror; its age is the index's age
//! indices/SHA256                    what is needed of a package index, by the hash of Packages.xz
//! debs/NAME_SHA256.deb
//! kernels/KEY/, KEY.lock            image and modules of a kernel package
//! quick-start/KEY, KEY.cpio
//! boot-loader/KEY                   U-Boot
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// The folder that holds everything fetched and made.
#[derive(Debug, Clone)]
pub(crate) struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The folder given, else `VERVET_CACHE`, else `vervet` in the user's cache folder.
    pub(crate) fn open(folder: Option<&Path>) -> Result<Self> {
        let root = match (folder, std::env::var_os("VERVET_CACHE").filter(|v| !v.is_empty())) {
            (Some(folder), _) => folder.to_path_buf(),
            (None, Some(folder)) => PathBuf::from(folder),
            (None, None) => etcetera::base_strategy::choose_native_strategy()
                .map_err(|e| Error::NoCache { reason: e.to_string() })?
                .cache_dir()
                .join("vervet"),
        };
        fs::create_dir_all(&root).map_err(|e| Error::NoCache { reason: format!("{}: {e}", root.display()) })?;
        Ok(Cache { root })
    }

    /// A path in the cache.
    pub(crate) fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.root.join(relative)
    }

    /// A temporary file beside `path`, to be kept there with [`keep`]. Leftovers of processes that died are removed.
    pub(crate) fn temporary(path: &Path) -> Result<NamedTempFile> {
        let folder = prepare_parent(path)?;
        tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder).map_err(Error::io(folder, "write into"))
    }
}

/// The cache folder: the one given, else `VERVET_CACHE`, else `vervet` in the user's cache folder. It exists.
///
/// # Errors
/// If there is none, or it cannot be made.
pub fn folder(given: Option<&Path>) -> Result<PathBuf> {
    Ok(Cache::open(given)?.root)
}

const TEMPORARY: &str = ".partial-";
/// The file in a temporary folder that its owner has locked.
const OWNER: &str = "owner";

/// Makes the folder that `path` lies in and clears it as [`clear_leftovers`] does.
fn prepare_parent(path: &Path) -> Result<&Path> {
    let folder = parent(path);
    fs::create_dir_all(folder).map_err(Error::io(folder, "make"))?;
    clear_leftovers(path)?;
    Ok(folder)
}

/// Clears the folder that `path` lies in of temporary files (`.partial-…`) that processes which were killed have left:
/// folders whose owner is known to be dead, and anything older than a day.
///
/// # Errors
/// If the folder cannot be read.
pub fn clear_leftovers(path: &Path) -> Result<()> {
    let folder = parent(path);
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))?.flatten() {
        let stale = age(&entry.path()).is_some_and(|age| age > Duration::from_secs(24 * 3600));
        let owner = File::options().write(true).open(entry.path().join(OWNER));
        let dead = owner.is_ok_and(|owner| owner.try_lock().is_ok());
        if (stale || dead) && entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
            // Best effort: another process may be removing it too.
            let _ =
                if entry.path().is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) };
        }
    }
    Ok(())
}

/// The parent of a bare name is the empty path, which the host takes for no folder at all.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A temporary folder beside `path`.
pub(crate) fn temporary_folder(path: &Path) -> Result<tempfile::TempDir> {
    let folder = prepare_parent(path)?;
    tempfile::Builder::new().prefix(TEMPORARY).tempdir_in(folder).map_err(Error::io(folder, "write into"))
}

/// Waits until no other process makes what will be at `path`; others wait while the answer lives. On hosts without locks
/// nobody waits.
pub(crate) fn turn(path: &Path) -> Result<File> {
    prepare_parent(path)?;
    let lock = path.with_extension("lock");
    let file = File::options().write(true).create(true).truncate(false).open(&lock);
    let file = file.map_err(Error::io(&lock, "write"))?;
    match file.lock() {
        Err(e) if e.kind() != io::ErrorKind::Unsupported => Err(Error::io(&lock, "lock")(e)),
        _ => Ok(file),
    }
}

/// A temporary folder for large files, which goes when this is dropped, and if its process is killed as soon as another
/// comes by.
#[derive(Debug)]
pub struct WorkFolder {
    // Closed first: not every host removes files that are open.
    _owner: File,
    folder: tempfile::TempDir,
}

impl WorkFolder {
    /// Makes one beside `path`.
    ///
    /// # Errors
    /// If the host refuses.
    pub fn beside(path: &Path) -> Result<Self> {
        let folder = temporary_folder(path)?;
        let new = folder.path().join("new");
        let owner = File::create_new(&new).map_err(Error::io(&new, "write"))?;
        // Who finds it under its name finds it locked. Where the host has no locks, age decides.
        if owner.try_lock().is_ok() {
            fs::rename(&new, folder.path().join(OWNER)).map_err(Error::io(&new, "rename"))?;
        }
        Ok(Self { _owner: owner, folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Gives a finished temporary file its name.
pub(crate) fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    file.persist(path).map_err(|e| Error::Io { path: path.to_path_buf(), action: "write", source: e.error })?;
    Ok(())
}

/// Writes a whole file at once.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Cache::temporary(path)?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    keep(file, path)
}

/// Writes a file that carries its own SHA-256 in front.
pub(crate) fn write_sealed(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = Cache::temporary(path)?;
    let mut both = || -> io::Result<()> {
        file.write_all(sha256(bytes).as_bytes())?;
        file.write_all(b"\n")?;
        file.write_all(bytes)
    };
    both().map_err(Error::io(path, "write"))?;
    keep(file, path)
}

/// Reads a file written by [`write_sealed`]; `None` if it is absent or damaged.
pub(crate) fn read_sealed(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    if bytes.get(64) != Some(&b'\n') {
        return None;
    }
    let content = bytes.split_off(65);
    (sha256(&content).as_bytes() == &bytes[..64]).then_some(content)
}

/// Whether a file has this SHA-256 (lower-case hexadecimal).
pub(crate) fn is_intact(path: &Path, expected: &str) -> bool {
    File::open(path).and_then(sha256_of).is_ok_and(|found| found == expected)
}

/// SHA-256 in lower-case hexadecimal.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn sha256_of(mut reader: impl Read) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(hex(&hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes.iter().flat_map(|b| [DIGITS[usize::from(b >> 4)] as char, DIGITS[usize::from(b & 15)] as char]).collect()
}

/// Time since a file was written; zero if the clock went back meanwhile, `None` if there is no such file.
pub(crate) fn age(path: &Path) -> Option<Duration> {
    let written = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    Some(SystemTime::now().duration_since(written).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_files_notice_damage() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        assert_eq!(read_sealed(&path), None);
        write_sealed(&path, b"content").unwrap();
        assert_eq!(read_sealed(&path).as_deref(), Some(&b"content"[..]));
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(read_sealed(&path), None);
        fs::write(&path, &bytes[..40]).unwrap();
        assert_eq!(read_sealed(&path), None);
    }

    #[test]
    fn what_the_dead_have_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let alive = WorkFolder::beside(&path).unwrap();
        fs::write(alive.path().join("disk"), "half").unwrap();
        let (dead, unknown) = (folder.path().join(".partial-dead"), folder.path().join(".partial-unknown"));
        for left in [&dead, &unknown] {
            fs::create_dir(left).unwrap();
            fs::write(left.join("disk"), "half").unwrap();
        }
        fs::write(dead.join(OWNER), "").unwrap();
        clear_leftovers(&path).unwrap();
        assert!(alive.path().join("disk").exists() && unknown.exists() && !dead.exists());
        drop(alive);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn hash_of_the_standard() {
        // FIPS 180-4, the example of one block.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256(b"abc"), expected);
        assert_eq!(sha256_of(&b"abc"[..]).unwrap(), expected);
    }
}
