//! Where images, and the machines that run from them, are kept.
//!
//! ```text
//! CACHE/images/NAME-KEY.img     images, by what they were made of; they can be made again
//! CACHE/images/NAME             which of them a new machine starts from
//! DATA/id_ed25519, .pub         the key that logs in where the user has named none
//! DATA/machines/NAME/           a machine: base.img, disk.qcow2, its settings, the port of its SSH server
//! DATA/machines/NAME.lock       held by whoever runs or replaces it
//! ```
//!
//! A machine's disk holds the differences from the image that it began as, and is worth nothing over any other. So the
//! machine's folder holds a name of its own of that image's file: a newer image gets a file of its own, and clearing the
//! cache removes no file that a machine has. Images are marked read-only, and machines share them, any number at a time.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use devices::backend::disk::{Format, create};
use etcetera::BaseStrategy;
use sha2::{Digest, Sha256};
use ssh_key::{Algorithm, LineEnding, PrivateKey};

use super::{AuthorizedKeys, Debian, Error, MachineName, Result, UserName};

/// The one system that images are made of so far.
const NAME: &str = "debian";
/// Changes when images do in a way that their settings do not show.
const FORMAT: &str = "vervet-debian-1";

/// The folders.
#[derive(Clone, Debug)]
pub struct Store {
    images: PathBuf,
    data: PathBuf,
}

/// An image and how to log in to the machines made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image's file.
    pub path: PathBuf,
    /// Who logs in.
    pub user: UserName,
    /// The private key with which; if there is none, the user's own SSH client knows.
    pub identity: Option<PathBuf>,
}

/// A machine that keeps its disk from one run to the next.
#[derive(Debug)]
pub struct Instance {
    folder: PathBuf,
    /// Held as long as this lives.
    _lock: File,
}

/// How to reach a machine that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Port on this host's loopback address.
    pub port: u16,
    /// Who logs in.
    pub user: UserName,
    /// The private key with which.
    pub identity: Option<PathBuf>,
    /// Where the machine's host key is remembered.
    pub known_hosts: PathBuf,
}

impl Store {
    /// The folders of this user: `VERVET_CACHE` and `VERVET_DATA`, else where the host keeps such things.
    ///
    /// # Errors
    /// If there is none, or it cannot be made.
    pub fn open() -> Result<Self> {
        let images = packages::cache_folder(None)?.join("images");
        let data = match std::env::var_os("VERVET_DATA").filter(|value| !value.is_empty()) {
            Some(folder) => PathBuf::from(folder),
            None => etcetera::base_strategy::choose_native_strategy()
                .map_err(|e| Error::NoFolder { reason: e.to_string() })?
                .data_dir()
                .join("vervet"),
        };
        Self::at(images, data)
    }

    fn at(images: PathBuf, data: PathBuf) -> Result<Self> {
        for folder in [&images, &data] {
            fs::create_dir_all(folder).map_err(|e| Error::NoFolder { reason: format!("{}: {e}", folder.display()) })?;
        }
        Ok(Self { images, data })
    }

    /// The key that logs in where the user has named none: made once.
    pub fn identity(&self) -> Result<(PathBuf, AuthorizedKeys)> {
        let path = self.data.join("id_ed25519");
        let public = self.data.join("id_ed25519.pub");
        if !path.exists() || !public.exists() {
            let failed = |e: ssh_key::Error| Error::Key { origin: path.display().to_string(), reason: e.to_string() };
            let mut key = PrivateKey::random(&mut ssh_key::rand_core::OsRng, Algorithm::Ed25519).map_err(failed)?;
            key.set_comment("vervet");
            write(&public, key.public_key().to_openssh().map_err(failed)?.as_bytes())?;
            // A temporary file is its owner's alone, as ssh demands of a private key.
            write(&path, key.to_openssh(LineEnding::LF).map_err(failed)?.as_bytes())?;
        }
        Ok((path, AuthorizedKeys::read(&public)?))
    }

    /// The file in which an image of these settings is kept.
    pub fn image_path(&self, debian: &Debian) -> PathBuf {
        let size = debian.size.to_string();
        let add = debian.add.join(",");
        let (keys, boot_loader) = (format!("{:?}", debian.keys), format!("{:?}", debian.boot_loader));
        let (suite, architecture) = (&debian.packages.suite, &debian.packages.architecture);
        let parts = [FORMAT, suite, architecture, &size, &add, &boot_loader, debian.user.as_str(), &keys];
        let hash = Sha256::digest(parts.join("\n").as_bytes());
        let key: String = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        self.images.join(format!("{NAME}-{key}.img"))
    }

    /// Makes an image the one that new machines start from. From now on nobody writes to it.
    pub fn select(&self, image: &Image) -> Result<()> {
        let failed = || Error::io(&image.path, "mark as read-only");
        let mut permissions = fs::metadata(&image.path).map_err(failed())?.permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&image.path, permissions).map_err(failed())?;
        write(&self.images.join(NAME), image.to_text().as_bytes())
    }

    /// The image that new machines start from, if there is one.
    pub fn selected(&self) -> Option<Image> {
        Image::read(&self.images.join(NAME)).filter(|image| image.path.exists())
    }

    fn machine(&self, name: &MachineName) -> PathBuf {
        self.data.join("machines").join(name.as_str())
    }

    /// Takes a machine for a run: as it was left, or a new one if there is none or a fresh one is asked for.
    ///
    /// # Errors
    /// If it runs already, or a new one cannot be made.
    pub fn take(&self, name: &MachineName, fresh: bool) -> Result<Instance> {
        let folder = self.machine(name);
        let machines = folder.parent().unwrap_or(&self.data);
        fs::create_dir_all(machines).map_err(Error::io(machines, "make"))?;
        let lock_path = folder.with_extension("lock");
        let lock = File::options().create(true).truncate(false).write(true).open(&lock_path);
        let lock = lock.map_err(Error::io(&lock_path, "write"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Running(name.clone())),
            Err(TryLockError::Error(error)) => return Err(Error::io(&lock_path, "lock")(error)),
        }
        if fresh || !folder.join(SETTINGS).exists() {
            let image = self.selected().ok_or(Error::NoImage(NAME))?;
            let new = tempfile::Builder::new().prefix(".partial-").tempdir_in(machines);
            let new = new.map_err(Error::io(machines, "write into"))?;
            let base = new.path().join(BASE);
            // Another name of the same file costs nothing. Another file system cannot have it.
            fs::hard_link(&image.path, &base)
                .or_else(|_| copy(&image.path, &base))
                .map_err(Error::io(&base, "write"))?;
            create::overlay(&new.path().join(DISK), &base, Some(Format::Raw), None, false)?;
            write(&new.path().join(SETTINGS), image.to_text().as_bytes())?;
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(Error::io(&folder, "remove"))?;
            }
            fs::rename(new.keep(), &folder).map_err(Error::io(&folder, "write"))?;
        } else if ![BASE, DISK].iter().all(|file| folder.join(file).exists()) {
            return Err(Error::Incomplete(name.clone()));
        } else if let (Some(own), Some(newest)) = (Image::read(&folder.join(SETTINGS)), self.selected())
            && own.path != newest.path
        {
            tracing::warn!("this machine was made of an earlier image; --fresh starts with {}", newest.path.display());
        }
        Ok(Instance { folder, _lock: lock })
    }

    /// How to reach a machine; `None` if it does not run.
    pub fn access(&self, name: &MachineName) -> Option<Access> {
        let folder = self.machine(name);
        // A run that was killed has left its port behind, but not its lock.
        let lock = File::open(folder.with_extension("lock")).ok()?;
        if lock.try_lock().is_ok() {
            return None;
        }
        let image = Image::read(&folder.join(SETTINGS))?;
        let port = fs::read_to_string(folder.join(PORT)).ok()?.trim().parse().ok()?;
        let known_hosts = folder.join("known_hosts");
        Some(Access { port, user: image.user, identity: image.identity, known_hosts })
    }
}

const SETTINGS: &str = "settings";
const BASE: &str = "base.img";
const DISK: &str = "disk.qcow2";
const PORT: &str = "ssh-port";

impl Instance {
    /// Its disk, a qcow2 image.
    pub fn disk(&self) -> PathBuf {
        self.folder.join(DISK)
    }

    /// Remembers the port of the host that leads to the machine's SSH server, until this is dropped.
    pub fn set_ssh_port(&self, port: u16) -> Result<()> {
        write(&self.folder.join(PORT), port.to_string().as_bytes())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // Whether it was ever written does not matter.
        let _ = fs::remove_file(self.folder.join(PORT));
    }
}

impl Image {
    fn to_text(&self) -> String {
        let identity = self.identity.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        format!("{}\n{}\n{identity}\n", self.path.display(), self.user.as_str())
    }

    /// `None` if the file is absent or makes no sense.
    fn read(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let mut lines = text.lines();
        let (path, user) = (PathBuf::from(lines.next()?), UserName::new(lines.next()?).ok()?);
        let identity = lines.next().filter(|line| !line.is_empty()).map(PathBuf::from);
        Some(Self { path, user, identity })
    }
}

/// Writes a small file at once.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(Error::io(folder, "write into"))?;
    file.write_all(bytes).map_err(Error::io(path, "write"))?;
    file.persist(path).map_err(|e| Error::io(path, "write")(e.error))?;
    Ok(())
}

/// Copies an image and leaves out what is zero.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    let size = source.metadata()?.len();
    target.set_len(size)?;
    let mut buffer = vec![0; 1 << 18];
    let mut position = 0;
    while position < size {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if buffer[..count].iter().any(|byte| *byte != 0) {
            target.seek(SeekFrom::Start(position))?;
            target.write_all(&buffer[..count])?;
        }
        position += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use devices::backend::disk::{self, Disk, Options};

    use super::super::BootLoader;
    use super::*;

    fn store(folder: &Path) -> Store {
        Store::at(folder.join("images"), folder.join("data")).unwrap()
    }

    fn image(store: &Store, name: &str, content: &[u8]) -> Image {
        let path = store.images.join(name);
        let file = File::create_new(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        (&file).write_all(content).unwrap();
        Image { path, user: UserName::new("user").unwrap(), identity: None }
    }

    fn name(name: &str) -> MachineName {
        MachineName::new(name).unwrap()
    }

    fn open(instance: &Instance) -> Arc<dyn Disk> {
        disk::open(&instance.disk(), &Options { format: Some(Format::Qcow2), ..Options::default() }).unwrap()
    }

    fn content(disk: &Arc<dyn Disk>) -> [u8; 6] {
        let mut bytes = [0; 6];
        disk.read_at(0, &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn a_machine_keeps_its_disk_until_a_fresh_one_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let machine = MachineName::default();
        let take = |fresh| store.take(&machine, fresh);
        assert!(matches!(take(false), Err(Error::NoImage(_))));
        let first = image(&store, "first", b"first");
        store.select(&first).unwrap();
        assert_eq!(store.selected(), Some(first.clone()));

        let instance = take(false).unwrap();
        let disk = open(&instance);
        assert_eq!((content(&disk), disk.size()), (*b"first\0", 1 << 20));
        assert!(matches!(take(false), Err(Error::Running(_))));
        assert!(matches!(take(true), Err(Error::Running(_))));
        let mut sector = [0; 512];
        sector[..6].copy_from_slice(b"mine!!");
        disk.write_at(0, &sector).unwrap();
        drop((disk, instance));
        assert!(fs::read(&first.path).unwrap().starts_with(b"first\0"), "images stay as they are");

        // Neither a newer image under the same name nor a cleared cache touches what is there.
        fs::rename(&image(&store, "second", b"second").path, &first.path).unwrap();
        store.select(&first).unwrap();
        assert_eq!(content(&open(&take(false).unwrap())), *b"mine!!");
        let mut left = [1; 6];
        open(&take(false).unwrap()).read_at(512, &mut left).unwrap();
        assert_eq!(left, [0; 6], "what it has not written is the old image's");
        fs::remove_file(&first.path).unwrap();
        assert_eq!(content(&open(&take(false).unwrap())), *b"mine!!");
        store.select(&image(&store, "third", b"third!")).unwrap();
        assert_eq!(content(&open(&take(true).unwrap())), *b"third!");
        assert_eq!(content(&open(&take(false).unwrap())), *b"third!");
        assert_eq!(fs::read_dir(store.data.join("machines")).unwrap().count(), 2, "the machine and its lock");

        fs::remove_file(store.machine(&machine).join(BASE)).unwrap();
        assert!(matches!(take(false), Err(Error::Incomplete(_))));
        assert_eq!(content(&open(&take(true).unwrap())), *b"third!");
    }

    #[test]
    fn machines_share_an_image_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let image = image(&store, "one", b"shared");
        store.select(&image).unwrap();
        let instances = ["a", "b"].map(|machine| store.take(&name(machine), false).unwrap());
        let disks = instances.each_ref().map(open);
        disks[0].write_at(0, &[b'a'; 512]).unwrap();
        assert_eq!((content(&disks[0]), content(&disks[1])), ([b'a'; 6], *b"shared"));
        let writable = disk::open(&image.path, &Options { format: Some(Format::Raw), ..Options::default() });
        assert!(writable.is_err(), "nobody writes to it while a machine runs");
        assert!(fs::metadata(&image.path).unwrap().permissions().readonly());
        // One that ends leaves the other alone.
        let [first, second] = disks;
        drop(first);
        assert_eq!(content(&second), *b"shared");
    }

    #[test]
    fn a_machine_can_be_reached_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let identity = Some(PathBuf::from("/keys/mine"));
        store.select(&Image { identity: identity.clone(), ..image(&store, "one", b"") }).unwrap();
        let machine = MachineName::default();
        assert_eq!(store.access(&machine), None);
        let instance = store.take(&machine, false).unwrap();
        assert_eq!(store.access(&machine), None);
        instance.set_ssh_port(2222).unwrap();
        let access = store.access(&machine).unwrap();
        assert_eq!((access.port, access.user.as_str(), access.identity), (2222, "user", identity));
        assert_eq!(store.access(&name("other")), None);
        drop(instance);
        assert_eq!(store.access(&machine), None);
        // As if it had been killed.
        fs::write(store.machine(&machine).join(PORT), "2222").unwrap();
        assert_eq!(store.access(&machine), None);
    }

    #[test]
    fn the_key_is_made_once_and_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let (path, keys) = store.identity().unwrap();
        let private = PrivateKey::read_openssh_file(&path).unwrap();
        let public = private.public_key().to_openssh().unwrap();
        assert_eq!(keys, AuthorizedKeys::parse("here", &public).unwrap());
        assert_eq!(store.identity().unwrap(), (path.clone(), keys));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn settings_tell_images_apart() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path());
        let (_, keys) = store.identity().unwrap();
        let debian = Debian {
            packages: packages::Settings::default(),
            add: vec!["gcc".into()],
            size: 8 << 30,
            boot_loader: BootLoader::default(),
            user: UserName::new("user").unwrap(),
            keys,
        };
        let path = store.image_path(&debian);
        assert_eq!(store.image_path(&debian.clone()), path);
        let others = [
            Debian { add: vec![], ..debian.clone() },
            Debian { size: 9 << 30, ..debian.clone() },
            Debian { user: UserName::new("other").unwrap(), ..debian.clone() },
        ];
        for other in others {
            assert_ne!(store.image_path(&other), path);
        }
    }
}
