//! Files for semihosting: those of one folder of the host's that the user has named, and handles for them.
//!
//! A guest cannot leave the folder, neither by `..` nor by an absolute path nor by a symbolic link: every path is looked
//! up by `cap-std`, below a handle of the folder. What is no regular file (a pipe, a device) is not opened, for it could
//! keep a hart waiting for ever.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};

use super::error::Errno;

/// Most files that a guest may have open.
const MOST_FILES: usize = 256;

/// The folder cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("--semihosting folder={}: {source}", .path.display())]
pub struct FolderError {
    path: PathBuf,
    source: std::io::Error,
}

/// A folder whose files a guest may use.
#[derive(Debug)]
pub struct Folder {
    folder: Dir,
    readonly: bool,
}

impl Folder {
    /// Opens a folder; if it is `readonly`, its files can only be read.
    ///
    /// # Errors
    /// There is no such folder, or it cannot be opened.
    pub fn open(path: &Path, readonly: bool) -> Result<Self, FolderError> {
        let folder = Dir::open_ambient_dir(path, ambient_authority());
        let folder = folder.map_err(|source| FolderError { path: path.into(), source })?;
        Ok(Self { folder, readonly })
    }

    fn check_writable(&self) -> Result<(), Errno> {
        if self.readonly { Err(Errno::READ_ONLY) } else { Ok(()) }
    }

    /// Opens a file, in a mode of the specification's table (`fopen`'s modes from `r` to `a+b`, two of each kind).
    fn open_file(&self, path: &str, mode: u64) -> Result<File, Errno> {
        let mut options = OpenOptions::new();
        match mode & !1 {
            0 => options.read(true),
            2 => options.read(true).write(true),
            4 => options.write(true).create(true).truncate(true),
            6 => options.read(true).write(true).create(true).truncate(true),
            8 => options.append(true).create(true),
            10 => options.read(true).append(true).create(true),
            _ => return Err(Errno::INVALID),
        };
        if mode > 1 {
            self.check_writable()?;
        }
        // To open a pipe would wait for its other end.
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::custom_flags(
            &mut options,
            rustix::fs::OFlags::NONBLOCK.union(rustix::fs::OFlags::NOCTTY).bits() as i32,
        );
        let file = self.folder.open_with(path, &options)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(Errno::DIRECTORY);
        }
        if kind.is_file() { Ok(file.into_std()) } else { Err(Errno::NOT_ALLOWED) }
    }
}

/// What a handle stands for.
#[derive(Clone, Debug)]
pub(super) enum Open {
    /// The console, for input.
    Input,
    /// The console, for output.
    Output,
    /// `:semihosting-features`, read up to here.
    Features(u64),
    /// A file.
    File(Arc<Mutex<File>>),
}

/// The files that a guest may use, and those that it has open.
#[derive(Debug)]
pub(super) struct Files {
    folder: Option<Folder>,
    open: Mutex<Vec<Option<Open>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain values, valid in any combination.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The place of a handle among those open; they count from 1.
fn place(handle: u64) -> Option<usize> {
    usize::try_from(handle).ok()?.checked_sub(1)
}

impl Files {
    pub(super) fn new(folder: Option<Folder>) -> Self {
        Self { folder, open: Mutex::new(Vec::new()) }
    }

    fn folder(&self) -> Result<&Folder, Errno> {
        if self.folder.is_none() {
            tracing::debug!("semihosting: the guest wants a file; --semihosting=folder=PATH names a folder for it");
        }
        self.folder.as_ref().ok_or(Errno::NOT_ALLOWED)
    }

    /// Opens what a path means; its handle.
    pub(super) fn open(&self, path: &str, mode: u64) -> Result<u64, Errno> {
        let opened = match (path, mode) {
            (":tt", 0..=3) => Open::Input,
            (":tt", 4..=11) => Open::Output,
            (":semihosting-features", 0..=1) => Open::Features(0),
            (":semihosting-features", _) => return Err(Errno::READ_ONLY),
            _ => Open::File(Arc::new(Mutex::new(self.folder()?.open_file(path, mode)?))),
        };
        let open = &mut *lock(&self.open);
        let free = open.iter().position(Option::is_none);
        let index = match free {
            Some(index) => index,
            None if open.len() < MOST_FILES => {
                open.push(None);
                open.len() - 1
            }
            None => return Err(Errno::TOO_MANY_FILES),
        };
        open[index] = Some(opened);
        Ok(index as u64 + 1)
    }

    pub(super) fn get(&self, handle: u64) -> Result<Open, Errno> {
        let index = place(handle).ok_or(Errno::BAD_HANDLE)?;
        lock(&self.open).get(index).cloned().flatten().ok_or(Errno::BAD_HANDLE)
    }

    pub(super) fn close(&self, handle: u64) -> Result<(), Errno> {
        let index = place(handle).ok_or(Errno::BAD_HANDLE)?;
        lock(&self.open).get_mut(index).and_then(Option::take).map(drop).ok_or(Errno::BAD_HANDLE)
    }

    /// Closes everything.
    pub(super) fn close_all(&self) {
        lock(&self.open).clear();
    }

    pub(super) fn seek(&self, handle: u64, position: u64) -> Result<(), Errno> {
        if i64::try_from(position).is_err() {
            return Err(Errno::INVALID);
        }
        match self.get(handle)? {
            Open::Input | Open::Output => Err(Errno::SPECIAL_FILE),
            Open::Features(_) => {
                self.set_features_position(handle, position);
                Ok(())
            }
            Open::File(file) => Ok(lock(&file).seek(SeekFrom::Start(position)).map(drop)?),
        }
    }

    /// Sets how far `:semihosting-features` has been read by a handle.
    pub(super) fn set_features_position(&self, handle: u64, position: u64) {
        let mut open = lock(&self.open);
        if let Some(Some(Open::Features(at))) = place(handle).and_then(|index| open.get_mut(index)) {
            *at = position;
        }
    }

    pub(super) fn remove(&self, path: &str) -> Result<(), Errno> {
        let folder = self.folder()?;
        folder.check_writable()?;
        Ok(folder.folder.remove_file(path)?)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<(), Errno> {
        let folder = self.folder()?;
        folder.check_writable()?;
        Ok(folder.folder.rename(from, &folder.folder, to)?)
    }
}

/// Reads from a file; the number of bytes, zero at its end.
pub(super) fn read(file: &Mutex<File>, bytes: &mut [u8]) -> Result<usize, Errno> {
    Ok(lock(file).read(bytes)?)
}

/// Writes to a file; the number of bytes.
pub(super) fn write(file: &Mutex<File>, bytes: &[u8]) -> Result<usize, Errno> {
    Ok(lock(file).write(bytes)?)
}

/// The size of a file in bytes.
pub(super) fn length(file: &Mutex<File>) -> Result<u64, Errno> {
    Ok(lock(file).metadata()?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(files: &Files, handle: u64) -> String {
        let Ok(Open::File(file)) = files.get(handle) else { panic!("no file") };
        let mut bytes = [0; 64];
        let count = read(&file, &mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn handles_are_given_out_again_and_are_not_without_end() {
        let files = Files::new(None);
        assert_eq!((files.open(":tt", 0), files.open(":tt", 4)), (Ok(1), Ok(2)));
        assert_eq!((files.close(1), files.close(1)), (Ok(()), Err(Errno::BAD_HANDLE)));
        assert_eq!(files.open(":semihosting-features", 0), Ok(1));
        assert_eq!(files.open(":semihosting-features", 4), Err(Errno::READ_ONLY));
        assert_eq!((2..).map_while(|_| files.open(":tt", 8).ok()).count(), MOST_FILES - 2);
        assert_eq!(files.open(":tt", 8), Err(Errno::TOO_MANY_FILES));
        for wrong in [0, MOST_FILES as u64 + 1, u64::MAX] {
            assert_eq!(files.close(wrong), Err(Errno::BAD_HANDLE));
            assert_eq!(files.seek(wrong, 0), Err(Errno::BAD_HANDLE));
        }
        files.close_all();
        assert_eq!(files.open(":tt", 12), Err(Errno::NOT_ALLOWED), "and there is no folder");
    }

    #[test]
    fn files_of_the_folder_in_all_modes() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("inner")).unwrap();
        let files = Files::new(Some(Folder::open(host.path(), false).unwrap()));
        assert_eq!(files.open("new", 0), Err(Errno(2)));
        assert_eq!(files.open("new", 2), Err(Errno(2)));
        assert_eq!(files.open("new", 12), Err(Errno::INVALID));
        assert_eq!(files.open("inner", 0), Err(Errno::DIRECTORY));
        let written = files.open("inner/../new", 5).unwrap();
        let Ok(Open::File(file)) = files.get(written) else { panic!("no file") };
        assert_eq!(write(&file, b"hello"), Ok(5));
        assert_eq!(length(&file), Ok(5));
        assert_eq!(read(&file, &mut [0]), Err(Errno::BAD_HANDLE), "it is open for writing only");
        let appended = files.open("new", 10).unwrap();
        let Ok(Open::File(file)) = files.get(appended) else { panic!("no file") };
        assert_eq!(write(&file, b" world"), Ok(6));
        assert_eq!(files.seek(appended, 3), Ok(()));
        assert_eq!(text(&files, appended), "lo world");
        assert_eq!(files.seek(appended, u64::MAX), Err(Errno::INVALID));
        assert_eq!(files.rename("new", "inner/old"), Ok(()));
        let read = files.open("inner/old", 0).unwrap();
        assert_eq!(text(&files, read), "hello world");
        assert_eq!(files.remove("inner/old"), Ok(()));
        assert_eq!(files.remove("inner/old"), Err(Errno(2)));
        assert_eq!(files.open("nul\0byte", 4), Err(Errno::INVALID));
    }

    #[test]
    fn a_folder_to_be_read_only_stays_as_it_is() {
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("file"), "text").unwrap();
        let files = Files::new(Some(Folder::open(host.path(), true).unwrap()));
        for mode in 2..12 {
            assert_eq!(files.open("file", mode), Err(Errno::READ_ONLY), "{mode}");
        }
        assert_eq!(files.remove("file"), Err(Errno::READ_ONLY));
        assert_eq!(files.rename("file", "other"), Err(Errno::READ_ONLY));
        let handle = files.open("file", 1).unwrap();
        assert_eq!(text(&files, handle), "text");
    }

    #[test]
    #[cfg(unix)]
    fn nothing_leads_out_of_the_folder_or_waits() {
        use std::os::unix::fs::symlink;

        let host = tempfile::tempdir().unwrap();
        let outside = host.path().join("outside");
        std::fs::write(&outside, "secret").unwrap();
        let inside = host.path().join("inside");
        std::fs::create_dir(&inside).unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        symlink("..", inside.join("up")).unwrap();
        symlink("file", inside.join("good")).unwrap();
        std::fs::write(inside.join("file"), "text").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, inside.join("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let files = Files::new(Some(Folder::open(&inside, false).unwrap()));
        let absolute = outside.to_str().unwrap();
        for path in [absolute, "../outside", "absolute", "relative", "up/outside", "up/new", "/", "/etc/passwd", "pipe"]
        {
            for mode in [0, 4, 8] {
                assert!(files.open(path, mode).is_err(), "{path} {mode}");
            }
            assert!(files.rename("file", path).is_err() || !path.contains('/'), "{path}");
            if !inside.join("file").exists() {
                std::fs::write(inside.join("file"), "text").unwrap();
            }
        }
        assert!(files.remove("../outside").is_err() && files.remove("up/outside").is_err());
        assert_eq!(std::fs::read_to_string(&outside).unwrap(), "secret");
        assert_eq!(std::fs::read_dir(host.path()).unwrap().count(), 2, "nothing new outside");
        let handle = files.open("good", 0).unwrap();
        assert_eq!(text(&files, handle), "text");
    }
}
