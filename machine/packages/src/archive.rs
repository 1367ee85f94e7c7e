//! The archive: names in, verified `.deb` files out, from the cache where it suffices.

use std::fmt;
use std::fs;
use std::io::{BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::cache::{self, Cache};
use crate::deb;
use crate::error::{Error, Result};
use crate::index::{Index, Record};
use crate::mirror::Mirror;
use crate::progress::{Progress, Terminal};
use crate::release::{Entry, Keyring, Release};
use crate::resolve::{self, Scope};
use crate::tree::FileTree;

/// The longest `InRelease` accepted, in bytes (Debian's has 140 kB).
const RELEASE_LIMIT: u64 = 16 << 20;
/// The longest compressed package index accepted, in bytes (Debian's has 9 MB).
const INDEX_LIMIT: u64 = 256 << 20;
/// The longest package index accepted once unpacked, in bytes (Debian's has 54 MB).
const INDEX_UNPACKED_LIMIT: u64 = 2 << 30;
/// After a refresh has failed, the next one is tried this much later.
const RETRY_REFRESH: Duration = Duration::from_secs(24 * 3600);

/// Where packages come from and where they are kept.
#[derive(Clone)]
pub struct Settings {
    /// The mirror's address (http, https, file, or a folder); by default that of the host's Debian configuration.
    pub mirror: Option<String>,
    /// OpenPGP public keys that may sign the archive; by default the host's keyring of the Debian archive.
    pub keyring: Option<PathBuf>,
    /// The suite, by its name or code name. Default `trixie`.
    pub suite: String,
    /// The architecture. Default `riscv64`.
    pub architecture: String,
    /// The cache folder; by default `VERVET_CACHE`, else `vervet` in the user's cache folder.
    pub cache: Option<PathBuf>,
    /// Ask the mirror for a newer index even if the cached one is young.
    pub refresh: bool,
    /// The age from which a cached index is refreshed when the mirror can be reached. Default 14 days.
    pub maximum_age: Duration,
    /// Hears how transfers go. Default [`Terminal`].
    pub progress: Arc<dyn Progress>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mirror: None,
            keyring: None,
            suite: "trixie".into(),
            architecture: "riscv64".into(),
            cache: None,
            refresh: false,
            maximum_age: Duration::from_secs(14 * 24 * 3600),
            progress: Arc::new(Terminal::default()),
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("mirror", &self.mirror)
            .field("keyring", &self.keyring)
            .field("suite", &self.suite)
            .field("architecture", &self.architecture)
            .field("cache", &self.cache)
            .field("refresh", &self.refresh)
            .field("maximum_age", &self.maximum_age)
            .finish_non_exhaustive()
    }
}

/// A verified `.deb` file in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the `.deb`, lower-case hexadecimal.
    pub sha256: String,
    /// The `.deb` file.
    pub path: PathBuf,
}

impl Package {
    /// Unpacks the package's files into a tree. Its scripts are not run.
    pub fn unpack(&self, tree: &mut FileTree) -> Result<()> {
        deb::unpack(&self.path, tree, &deb::Limits::default())
    }
}

/// A suite of a Debian archive, for one architecture.
///
/// Nothing is read before the first question. What the cache holds is used without the network: the mirror is asked when
/// something is missing, when the index is older than [`Settings::maximum_age`], or at [`Settings::refresh`]; if it is
/// away then and the cache suffices, the cache serves.
#[derive(Debug)]
pub struct Archive {
    settings: Settings,
    cache: Cache,
    keyring: OnceLock<Keyring>,
    mirror: OnceLock<Mirror>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: Option<Arc<Index>>,
    /// Whether `index` is what the mirror has now.
    fresh: bool,
}

impl Archive {
    /// An archive with these settings.
    ///
    /// # Errors
    /// If there is no cache folder, or the suite's or architecture's name is not one.
    pub fn open(settings: &Settings) -> Result<Self> {
        for (what, name) in [("suite", &settings.suite), ("architecture", &settings.architecture)] {
            let valid = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
            if name.is_empty() || !name.bytes().all(valid) {
                let reason = format!("{name:?} is no name of a Debian {what} (letters, digits and \"-\")");
                return Err(Error::Release { origin: "InRelease".into(), reason });
            }
        }
        Ok(Archive {
            settings: settings.clone(),
            cache: Cache::open(settings.cache.as_deref())?,
            keyring: OnceLock::new(),
            mirror: OnceLock::new(),
            state: Mutex::default(),
        })
    }

    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        Scope { suite: &self.settings.suite, architecture: &self.settings.architecture }
    }

    /// What the archive says about a package, or the best one that provides the name.
    pub fn find(&self, name: &str) -> Result<Record> {
        self.with_index(|index| resolve::one(index, name, &self.scope()))
    }

    /// Packages with everything that they depend on, dependencies first.
    pub fn resolve(&self, names: &[&str]) -> Result<Vec<Record>> {
        self.with_index(|index| resolve::closure(index, names, &self.scope()))
    }

    /// The names of the packages that every system has (priority `required`, Policy §2.5).
    pub fn required(&self) -> Result<Vec<String>> {
        self.with_index(|index| Ok(index.of_priority(0)))
    }

    /// The mirror's address, if one is known: http, https, file or a folder.
    pub fn mirror_address(&self) -> Option<&str> {
        self.mirror().ok().map(Mirror::address)
    }

    /// Fetches one package alone, without its dependencies.
    pub fn fetch_one(&self, name: &str) -> Result<Package> {
        let mut packages = self.fetch_all(|index| Ok(vec![resolve::one(index, name, &self.scope())?]))?;
        packages.pop().ok_or_else(|| Error::Index { origin: name.into(), reason: "nothing was fetched".into() })
    }

    /// Fetches packages with everything that they depend on, dependencies first.
    pub fn fetch_closure(&self, names: &[&str]) -> Result<Vec<Package>> {
        self.fetch_all(|index| resolve::closure(index, names, &self.scope()))
    }

    /// Fetches what `choose` picks from the index. An old index may name files that the mirror has replaced: then the
    /// choice is made again from a new one.
    pub(crate) fn fetch_all(&self, choose: impl Fn(&Index) -> Result<Vec<Record>>) -> Result<Vec<Package>> {
        let fetch = |records: Vec<Record>| records.iter().map(|record| self.fetch(record)).collect();
        match self.with_index(&choose).and_then(fetch) {
            Err(Error::Refused { url, reason }) if !self.is_fresh() => {
                tracing::debug!(url, reason, "the cached index names a file that the mirror does not have");
                self.load_index(true)?;
                fetch(self.with_index(&choose)?)
            }
            result => result,
        }
    }

    /// Asks the index; one that is cached and lacks something is refreshed first, if it can be.
    fn with_index<T>(&self, ask: impl Fn(&Index) -> Result<T>) -> Result<T> {
        match ask(&*self.load_index(false)?) {
            Err(missing @ Error::NoSuchPackage { .. }) if !self.is_fresh() => match self.load_index(true) {
                Ok(index) => ask(&index),
                Err(error) => {
                    tracing::debug!("index not refreshed: {error}");
                    Err(missing)
                }
            },
            result => result,
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every change to the state is one assignment: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn is_fresh(&self) -> bool {
        self.state().fresh
    }

    fn keyring(&self) -> Result<&Keyring> {
        match self.keyring.get() {
            Some(keyring) => Ok(keyring),
            None => {
                let keyring = Keyring::open(self.settings.keyring.as_deref())?;
                Ok(self.keyring.get_or_init(|| keyring))
            }
        }
    }

    fn mirror(&self) -> Result<&Mirror> {
        match self.mirror.get() {
            Some(mirror) => Ok(mirror),
            None => {
                let mirror = Mirror::open(self.settings.mirror.as_deref())?;
                Ok(self.mirror.get_or_init(|| mirror))
            }
        }
    }

    /// The index in memory, else the cached one, else the mirror's. `renew` wants what the mirror has now.
    fn load_index(&self, renew: bool) -> Result<Arc<Index>> {
        let mut state = self.state();
        if let Some(index) = &state.index
            && (state.fresh || !renew)
        {
            return Ok(index.clone());
        }
        let cached = if renew { None } else { self.cached_index()? };
        let (index, fresh) = match cached {
            None => (self.fetch_index()?, true),
            Some(cached) if self.settings.refresh || cached.age > self.settings.maximum_age && cached.retry => {
                match self.fetch_index() {
                    Ok(index) => (index, true),
                    Err(error) if error.is_network() || !self.settings.refresh => {
                        tracing::warn!("package index not refreshed, the cached one serves: {error}");
                        // Remembered so that each start without a network does not wait; of no matter if it fails.
                        let _ = cache::write(&cached.failure, b"");
                        (cached.index, false)
                    }
                    Err(error) => return Err(error),
                }
            }
            Some(cached) => (cached.index, false),
        };
        let index = Arc::new(index);
        state.index = Some(index.clone());
        state.fresh = fresh;
        Ok(index)
    }

    /// The folder of a mirror's release file.
    fn release_folder(&self, mirror: &str) -> PathBuf {
        self.cache.path("dists").join(&self.settings.suite).join(&cache::sha256(mirror.as_bytes())[..16])
    }

    fn index_path(&self, entry: &Entry) -> PathBuf {
        self.cache.path("indices").join(&entry.sha256)
    }

    /// The entry of the package index in a release file, and its name.
    fn index_entry(&self, release: &Release, origin: &str) -> Result<(String, Entry)> {
        let base = format!("main/binary-{}/Packages", self.settings.architecture);
        [".xz", ".gz", ""]
            .iter()
            .map(|suffix| format!("{base}{suffix}"))
            .find_map(|file| Some((release.entry(&file)?, file)))
            .map(|(entry, file)| (file, entry))
            .ok_or_else(|| Error::Release {
                origin: origin.to_owned(),
                reason: format!(
                    "it lists no {base}: the mirror carries no packages for {}",
                    self.settings.architecture
                ),
            })
    }

    /// The cached index of the mirror in use; if there is none, the youngest of any other.
    fn cached_index(&self) -> Result<Option<CachedIndex>> {
        let own = self.mirror().ok().map(|mirror| self.release_folder(mirror.address()));
        let mut folders: Vec<PathBuf> = fs::read_dir(self.cache.path("dists").join(&self.settings.suite))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        folders.sort_by_key(|folder| (Some(folder) != own.as_ref(), cache::age(&folder.join("InRelease"))));
        if folders.is_empty() {
            return Ok(None);
        }
        let keyring = self.keyring()?;
        for folder in folders {
            let path = folder.join("InRelease");
            let Ok(bytes) = fs::read(&path) else { continue };
            let origin = path.display().to_string();
            // Damaged, out of date, of another keyring: as good as absent.
            let index = Release::verify(&bytes, keyring, &self.settings.suite, &origin, SystemTime::now())
                .and_then(|release| self.index_entry(&release, &origin))
                .map(|(_, entry)| cache::read_sealed(&self.index_path(&entry)).map(String::from_utf8));
            match index {
                Ok(Some(Ok(text))) => {
                    let failure = own.as_ref().unwrap_or(&folder).join("refresh-failed");
                    let retry = cache::age(&failure).is_none_or(|age| age > RETRY_REFRESH);
                    let age = if Some(&folder) == own.as_ref() || own.is_none() {
                        cache::age(&path).unwrap_or(Duration::MAX)
                    } else {
                        // Another mirror's index serves only while this one is away.
                        Duration::MAX
                    };
                    return Ok(Some(CachedIndex { index: Index::load(text), age, retry, failure }));
                }
                Ok(_) => tracing::debug!(origin, "the cached release file has no cached index"),
                Err(error) => tracing::debug!("cached release file not used: {error}"),
            }
        }
        Ok(None)
    }

    /// Fetches and verifies the mirror's release file and, if the cache does not hold it, its index.
    fn fetch_index(&self) -> Result<Index> {
        let mirror = self.mirror()?;
        let keyring = self.keyring()?;
        let suite = &self.settings.suite;
        let path = format!("dists/{suite}/InRelease");
        let origin = mirror.url(&path);
        let bytes = mirror.read_whole(&path, RELEASE_LIMIT)?;
        let release = Release::verify(&bytes, keyring, suite, &origin, SystemTime::now())?;
        let folder = self.release_folder(mirror.address());
        let kept = folder.join("InRelease");
        if let Ok(old) = fs::read(&kept)
            && let Ok(old) = Release::verify(&old, keyring, suite, &origin, SystemTime::now())
            && old.date > release.date
        {
            return Err(Error::Release {
                origin,
                reason: format!(
                    "it is older ({}) than the one fetched before ({}): use another mirror (--mirror URL)",
                    httpdate::fmt_http_date(release.date),
                    httpdate::fmt_http_date(old.date)
                ),
            });
        }
        let (file, entry) = self.index_entry(&release, &origin)?;
        let index_path = self.index_path(&entry);
        let text = match cache::read_sealed(&index_path).map(String::from_utf8) {
            Some(Ok(text)) => text,
            _ => {
                let text = self.fetch_reduced_index(mirror, &format!("dists/{suite}/{file}"), &entry)?;
                cache::write_sealed(&index_path, text.as_bytes())?;
                text
            }
        };
        // Last, so that a release file in the cache has its index beside it.
        cache::write(&kept, &bytes)?;
        let _ = fs::remove_file(folder.join("refresh-failed"));
        let index = Index::load(text);
        tracing::debug!(suite, packages = index.len(), "package index refreshed");
        Ok(index)
    }

    fn fetch_reduced_index(&self, mirror: &Mirror, path: &str, entry: &Entry) -> Result<String> {
        let url = mirror.url(path);
        if entry.size > INDEX_LIMIT {
            return Err(Error::Index { origin: url, reason: format!("{} bytes are too many", entry.size) });
        }
        let bytes = self.transfer("package index", mirror, path, entry.size, &entry.sha256, Vec::new())?;
        let mut reader: Box<dyn Read> = match path.rsplit_once('.') {
            Some((_, "xz")) => Box::new(
                deb::xz(Cursor::new(bytes)).map_err(|e| Error::Index { origin: url.clone(), reason: e.to_string() })?,
            ),
            Some((_, "gz")) => Box::new(flate2::read::MultiGzDecoder::new(Cursor::new(bytes))),
            _ => Box::new(Cursor::new(bytes)),
        };
        let limited = reader.by_ref().take(INDEX_UNPACKED_LIMIT);
        Index::reduce(BufReader::with_capacity(1 << 17, limited), &url)
    }

    /// A package's verified `.deb`, from the cache or the mirror.
    fn fetch(&self, record: &Record) -> Result<Package> {
        let path = self.cache.path("debs").join(format!("{}_{}.deb", record.name, record.sha256));
        let package = Package {
            name: record.name.clone(),
            version: record.version.clone(),
            sha256: record.sha256.clone(),
            path: path.clone(),
        };
        if path.is_file() {
            if cache::is_intact(&path, &record.sha256) {
                return Ok(package);
            }
            tracing::warn!("{}: damaged, fetched again", path.display());
        }
        let file = Cache::temporary(&path)?;
        let what = format!("{} {}", record.name, record.version);
        let file = self.transfer(&what, self.mirror()?, &record.filename, record.size, &record.sha256, file)?;
        cache::keep(file, &path)?;
        Ok(package)
    }

    /// Copies a file of known size and hash from the mirror to `sink`, which is the way it was if an attempt breaks off.
    fn transfer<S: Sink>(
        &self,
        what: &str,
        mirror: &Mirror,
        path: &str,
        size: u64,
        sha256: &str,
        mut sink: S,
    ) -> Result<S> {
        let progress = &*self.settings.progress;
        mirror.read(path, |body| {
            sink.restart().map_err(Error::io(Path::new(path), "write"))?;
            progress.begin(&format!("fetching {what} ({})", human_size(size)), Some(size));
            let result = copy(body.reader, size, &mut sink, progress);
            progress.end();
            let (length, found) = match result {
                Ok(done) => done,
                Err(CopyError::Read(e)) => return Err(mirror.broken(path, &e)),
                Err(CopyError::Write(e)) => return Err(Error::io(&sink.path(), "write")(e)),
            };
            if length < size && found != sha256 {
                return Err(mirror.broken(path, &std::io::ErrorKind::UnexpectedEof.into()));
            }
            if found != sha256 || length != size {
                return Err(Error::Hash { origin: mirror.url(path), found, expected: sha256.to_owned() });
            }
            Ok(())
        })?;
        Ok(sink)
    }
}

struct CachedIndex {
    index: Index,
    age: Duration,
    /// Whether the last failed refresh is long enough ago.
    retry: bool,
    /// The file whose age says when a refresh failed.
    failure: PathBuf,
}

/// Where a transfer goes: it can begin anew.
trait Sink: Write {
    fn restart(&mut self) -> std::io::Result<()>;
    fn path(&self) -> PathBuf;
}

impl Sink for Vec<u8> {
    fn restart(&mut self) -> std::io::Result<()> {
        self.clear();
        Ok(())
    }
    fn path(&self) -> PathBuf {
        PathBuf::new()
    }
}

impl Sink for tempfile::NamedTempFile {
    fn restart(&mut self) -> std::io::Result<()> {
        use std::io::Seek;
        self.as_file_mut().set_len(0)?;
        self.as_file_mut().rewind()
    }
    fn path(&self) -> PathBuf {
        tempfile::NamedTempFile::path(self).to_path_buf()
    }
}

enum CopyError {
    Read(std::io::Error),
    Write(std::io::Error),
}

/// Copies at most one byte more than `size`; the length and SHA-256 of what was copied.
fn copy(
    reader: Box<dyn Read>,
    size: u64,
    sink: &mut impl Write,
    progress: &dyn Progress,
) -> Result<(u64, String), CopyError> {
    let mut reader = reader.take(size.saturating_add(1));
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((length, cache::hex(&hash.finalize()))),
            Ok(count) => {
                hash.update(&buffer[..count]);
                sink.write_all(&buffer[..count]).map_err(CopyError::Write)?;
                length += count as u64;
                progress.advance(count as u64);
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(CopyError::Read(e)),
        }
    }
}

fn human_size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} kB", bytes.div_ceil(1000)),
        _ => format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Compression, Fault, Key, Server};
    use crate::tree::Kind;

    const DEB: &str = "pool/main/app_1_riscv64.deb";
    const INDEX: &str = "dists/trixie/main/binary-riscv64/Packages.xz";

    /// A server with `app`, which depends on `lib`.
    fn server() -> Server {
        let server = Server::start();
        server.add("app", "1", "Depends: lib\n", &[("./usr/bin/app", &[7; 100_000])], Compression::Xz);
        server.add("lib", "1", "", &[("./usr/lib/lib.so", b"library")], Compression::Gzip);
        server.publish();
        server
    }

    fn fetch(settings: &Settings) -> Result<Vec<Package>> {
        Archive::open(settings)?.fetch_closure(&["app"])
    }

    /// Files in the cache that are neither whole nor named.
    fn leftovers(folder: &Path) -> usize {
        fs::read_dir(folder)
            .map(|entries| entries.flatten().map(|e| e.path()).collect::<Vec<_>>())
            .unwrap_or_default()
            .iter()
            .map(|path| usize::from(path.to_string_lossy().contains(".partial-")) + leftovers(path))
            .sum()
    }

    #[test]
    fn a_closure_and_then_no_network() {
        let server = server();
        let settings = server.settings();
        let packages = fetch(&settings).unwrap();
        let names: Vec<&str> = packages.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["lib", "app"]);
        let mut tree = FileTree::with_merged_usr();
        for package in &packages {
            package.unpack(&mut tree).unwrap();
        }
        let Kind::File(content) = &tree.get("lib/lib.so").unwrap().kind else { panic!() };
        assert_eq!(&*content.bytes().unwrap(), b"library");
        assert_eq!(server.requests(), 4);
        assert_eq!(fetch(&settings).unwrap(), packages);
        assert_eq!(server.requests(), 4);
        server.stop();
        assert_eq!(fetch(&settings).unwrap(), packages);
        // Neither an index that has grown old nor a wish for a new one, nor another mirror fails for lack of a network.
        for change in [
            Settings { maximum_age: Duration::ZERO, ..settings.clone() },
            Settings { refresh: true, ..settings.clone() },
            Settings { mirror: Some("http://127.0.0.1:9/debian".into()), ..settings.clone() },
        ] {
            assert_eq!(fetch(&change).unwrap(), packages);
        }
        // But what is not there is not there.
        let error = Archive::open(&settings).unwrap().fetch_one("absent").unwrap_err();
        assert!(matches!(error, Error::NoSuchPackage { .. }), "{error}");
        assert_eq!(leftovers(server.folder.path()), 0);
    }

    #[test]
    fn folders_are_mirrors_too() {
        let server = server();
        let mirror = server.folder.path().join("mirror");
        server.write_folder(&mirror);
        let settings = Settings { mirror: Some(format!("file://{}", mirror.display())), ..server.settings() };
        assert_eq!(fetch(&settings).unwrap().len(), 2);
        assert_eq!(server.requests(), 0);
        let settings = Settings { mirror: Some("/nowhere".into()), cache: Some(mirror.join("c")), ..settings };
        assert!(matches!(fetch(&settings), Err(Error::Refused { .. })));
    }

    #[test]
    fn tampered_files_are_refused_and_not_kept() {
        for path in [DEB, INDEX] {
            let server = server();
            server.fault(path, Some(Fault::Tamper));
            let error = fetch(&server.settings()).unwrap_err();
            assert!(matches!(error, Error::Hash { .. }), "{path}: {error}");
            assert_eq!(leftovers(server.folder.path()), 0);
            server.fault(path, None);
            fetch(&server.settings()).unwrap();
        }
        let server = server();
        server.fault("dists/trixie/InRelease", Some(Fault::Tamper));
        assert!(matches!(fetch(&server.settings()), Err(Error::Signature { .. })));
    }

    #[test]
    fn another_keyring_trusts_neither_mirror_nor_cache() {
        let server = server();
        let settings = server.settings();
        fetch(&settings).unwrap();
        let other = Key::generate().write(server.folder.path());
        let error = fetch(&Settings { keyring: Some(other), ..settings }).unwrap_err();
        assert!(matches!(error, Error::Signature { .. }), "{error}");
    }

    #[test]
    fn broken_transfers() {
        for path in [DEB, INDEX, "dists/trixie/InRelease"] {
            let server = server();
            server.fault(path, Some(Fault::BreakOff));
            let error = fetch(&server.settings()).unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{path}: {error}");
            assert_eq!(leftovers(server.folder.path()), 0);
            server.fault(path, Some(Fault::BreakOffOnce));
            assert_eq!(fetch(&server.settings()).unwrap().len(), 2);
        }
    }

    #[test]
    fn what_was_interrupted_goes_on_with_what_is_missing() {
        let server = server();
        let settings = server.settings();
        server.fault(DEB, Some(Fault::BreakOff));
        assert!(fetch(&settings).is_err());
        // Somebody was killed in the middle of it.
        let debs = settings.cache.as_ref().unwrap().join("debs");
        fs::write(debs.join(".partial-x"), [7; 100]).unwrap();
        server.fault(DEB, None);
        let before = server.requests();
        assert_eq!(fetch(&settings).unwrap().len(), 2);
        assert_eq!(server.requests() - before, 1, "release, index and the other package are there");
        let mut names: Vec<_> = fs::read_dir(&debs).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!((names.len(), names[0].to_str()), (3, Some(".partial-x")), "{names:?}");
    }

    #[test]
    fn damage_in_the_cache_is_noticed() {
        let server = server();
        let settings = server.settings();
        let packages = fetch(&settings).unwrap();
        let app = packages.iter().find(|p| p.name == "app").unwrap();
        let good = fs::read(&app.path).unwrap();
        fs::write(&app.path, &good[..good.len() / 2]).unwrap();
        fetch(&settings).unwrap();
        assert_eq!(fs::read(&app.path).unwrap(), good);
        let indices = settings.cache.as_ref().unwrap().join("indices");
        for entry in fs::read_dir(&indices).unwrap().flatten() {
            fs::write(entry.path(), b"x").unwrap();
        }
        fetch(&settings).unwrap();
        fs::write(&app.path, b"x").unwrap();
        server.stop();
        assert!(fetch(&settings).unwrap_err().is_network());
    }

    #[test]
    fn an_old_index_is_renewed_when_it_does_not_suffice() {
        let server = server();
        let settings = server.settings();
        Archive::open(&settings).unwrap().fetch_one("lib").unwrap();
        // The mirror replaces app by a new version and gets a package more.
        server.clear_index();
        server.remove(DEB);
        server.add("app", "2", "", &[("./usr/bin/app", b"new")], Compression::Gzip);
        server.add("more", "1", "", &[("./usr/bin/more", b"more")], Compression::Gzip);
        server.publish();
        let archive = Archive::open(&settings).unwrap();
        assert_eq!(archive.find("app").unwrap().version, "1");
        assert_eq!(archive.fetch_one("app").unwrap().version, "2");
        assert_eq!(Archive::open(&settings).unwrap().fetch_one("more").unwrap().version, "1");
        assert_eq!(Archive::open(&settings).unwrap().find("app").unwrap().version, "2");
    }

    #[test]
    fn an_older_release_is_no_refresh() {
        let server = server();
        let settings = Settings { refresh: true, ..server.settings() };
        fetch(&settings).unwrap();
        let text = crate::testing::release_text(&[], "");
        let date = text.lines().find(|line| line.starts_with("Date:")).unwrap();
        let old = text.replace(date, "Date: Sat, 12 Sep 2020 07:55:41 UTC");
        server.put("dists/trixie/InRelease", server.key.sign(&old).into_bytes());
        let error = fetch(&settings).unwrap_err();
        assert!(error.to_string().contains("older"), "{error}");
        assert!(fetch(&Settings { refresh: false, ..settings }).is_ok());
    }

    #[test]
    fn what_the_mirror_lacks() {
        let server = server();
        server.fault(DEB, Some(Fault::Absent));
        let error = fetch(&server.settings()).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }) && error.to_string().contains("404"), "{error}");
        let other = Settings { architecture: "s390x".into(), ..server.settings() };
        assert!(fetch(&other).unwrap_err().to_string().contains("no packages for s390x"));
        let other = Settings { suite: "../x".into(), ..server.settings() };
        assert!(fetch(&other).unwrap_err().to_string().contains("no name of a Debian suite"));
    }

    #[test]
    fn two_at_once() {
        let server = server();
        let settings = server.settings();
        let results: Vec<Result<Vec<Package>>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fetch(&settings))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for result in &results {
            assert_eq!(result.as_ref().unwrap(), results[0].as_ref().unwrap());
        }
        assert_eq!(leftovers(server.folder.path()), 0);
    }
}
