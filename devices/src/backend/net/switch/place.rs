//! Where the switches of a user are: a folder that nobody else may enter, with two sockets, a lock and a lease file for
//! each switch, and the sockets of peers that send datagrams.
//!
//! Locks belong to open files, so that the end of a process, however it comes, gives them back. Lock files stay: one that
//! was removed and made again would be two.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SwitchError;

/// Bytes of a socket's path, on the host that allows the fewest, with its end.
const LONGEST_PATH: usize = 103;
/// Guests on a switch that get a number.
const MOST_NUMBERS: u32 = 256;

/// The files of one switch.
pub struct Place {
    folder: PathBuf,
    name: String,
}

/// Something that one process holds until it ends.
pub struct Hold(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl Place {
    /// The files of the switch `name`, in the user's folder for such things.
    pub fn of(name: &str) -> Result<Self, SwitchError> {
        let user = rustix::process::getuid().as_raw();
        let folder = match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute()) {
            Some(path) => path.join("vervet"),
            None => std::env::temp_dir().join(format!("vervet-{user}")),
        };
        Self::within(&folder, name)
    }

    /// The files of the switch `name` in `folder`, which is made if it is not there.
    pub fn within(folder: &Path, name: &str) -> Result<Self, SwitchError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.len() > 32 || !name.bytes().all(plain) {
            return Err(SwitchError::Name(name.into()));
        }
        let error = |reason| SwitchError::Folder { path: folder.into(), reason };
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(error(source)),
            _ => {}
        }
        // What a link leads to, or others may write, could be anybody's.
        let found = std::fs::symlink_metadata(folder).map_err(error)?;
        if !found.is_dir() || found.uid() != rustix::process::getuid().as_raw() || found.mode() & 0o077 != 0 {
            return Err(SwitchError::Exposed(folder.into()));
        }
        let place = Self { folder: folder.into(), name: name.into() };
        if [place.socket(), place.datagrams()].iter().any(|path| path.as_os_str().len() > LONGEST_PATH) {
            return Err(error(io::Error::from(io::ErrorKind::InvalidFilename)));
        }
        Ok(place)
    }

    fn file(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.name))
    }

    /// Where others connect.
    pub fn socket(&self) -> PathBuf {
        self.file("sock")
    }

    /// Where others send datagrams.
    pub fn datagrams(&self) -> PathBuf {
        self.file("dgram")
    }

    /// Whether a socket that is bound to `path` belongs to a peer that sends datagrams to this switch.
    pub fn is_peer(&self, path: &Path) -> bool {
        let is_named = |name: &str| name.strip_prefix(&*self.name).is_some_and(|end| end.starts_with('.'));
        path.parent() == Some(&*self.folder)
            && path.extension().is_some_and(|end| end == "peer")
            && path.file_name().and_then(OsStr::to_str).is_some_and(is_named)
    }

    /// How the paths of such peers look.
    pub fn peer_pattern(&self) -> PathBuf {
        self.file("*.peer")
    }

    /// The paths of all such peers, also those of which only the file is left.
    pub fn peers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| self.is_peer(path)).collect()
    }

    /// Where the router's leases are.
    pub fn leases(&self) -> PathBuf {
        self.file("leases")
    }

    fn hold(&self, end: &str) -> Result<Option<Hold>, SwitchError> {
        let path = self.file(end);
        let hold = || {
            let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(&path)?;
            match file.try_lock() {
                Ok(()) => Ok(Some(Hold(file))),
                Err(TryLockError::WouldBlock) => Ok(None),
                Err(TryLockError::Error(error)) => Err(error),
            }
        };
        hold().map_err(|reason| SwitchError::Folder { path: path.clone(), reason })
    }

    /// The right to be the switch. `None` if somebody else has it.
    pub fn hold_switch(&self) -> Result<Option<Hold>, SwitchError> {
        self.hold("lock")
    }

    /// The lowest number that no other guest of the switch has.
    pub fn hold_number(&self) -> Result<(u32, Hold), SwitchError> {
        for number in 1..=MOST_NUMBERS {
            if let Some(hold) = self.hold(&format!("{number}.lock"))? {
                return Ok((number, hold));
            }
        }
        Err(SwitchError::Full)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn one_at_a_time_holds_a_switch_and_each_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vervet");
        let (first, second) = (Place::within(&path, "lan").unwrap(), Place::within(&path, "lan").unwrap());
        let other = Place::within(&path, "other").unwrap();
        let held = first.hold_switch().unwrap();
        assert!(held.is_some() && second.hold_switch().unwrap().is_none() && other.hold_switch().unwrap().is_some());
        let numbers = [&first, &second, &first].map(|place| place.hold_number().unwrap());
        assert_eq!(numbers.each_ref().map(|(number, _)| *number), [1, 2, 3]);
        let [_one, two, _three] = numbers;
        drop((held, two));
        assert!(second.hold_switch().unwrap().is_some());
        assert_eq!(second.hold_number().unwrap().0, 2);
    }

    #[test]
    fn peers_are_known_by_their_names_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vervet");
        let place = Place::within(&path, "lan").unwrap();
        for (name, is_peer) in [
            ("lan.a.peer", true),
            ("lan.a.b.peer", true),
            ("lan2.a.peer", false),
            ("lan.peer", true),
            ("lan.a.peers", false),
            ("lan.sock", false),
            ("lan.dgram", false),
            (".peer", false),
        ] {
            assert_eq!(place.is_peer(&path.join(name)), is_peer, "{name}");
            std::fs::write(path.join(name), "").unwrap();
        }
        for elsewhere in ["lan.a.peer", "/lan.a.peer", "../vervet/lan.a.peer", ""] {
            assert!(!place.is_peer(Path::new(elsewhere)), "{elsewhere}");
        }
        let mut peers = place.peers();
        peers.sort();
        assert_eq!(peers, ["lan.a.b.peer", "lan.a.peer", "lan.peer"].map(|name| path.join(name)));
        assert!(place.is_peer(&place.peer_pattern()));
    }

    #[test]
    fn the_folder_is_the_users_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vervet");
        Place::within(&path, "lan").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
        let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        for (mode, exposed) in [(0o770, true), (0o701, true), (0o700, false)] {
            set(mode);
            assert_eq!(matches!(Place::within(&path, "lan"), Err(SwitchError::Exposed(_))), exposed, "{mode:o}");
        }
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Place::within(&link, "lan"), Err(SwitchError::Exposed(_))));
        for name in ["", "a/b", "..", "a.b", &"x".repeat(33)] {
            assert!(matches!(Place::within(&path, name), Err(SwitchError::Name(_))), "{name}");
        }
        assert!(Place::within(&folder.path().join("y".repeat(100)), "lan").is_err(), "too long for a socket");
    }
}
