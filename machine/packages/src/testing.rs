//! A small signed archive for tests, served over loopback or from a folder: everything is made here, nothing is fetched.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pgp::composed::{
    ArmorOptions, CleartextSignedMessage, KeyType, SecretKeyParamsBuilder, SignedPublicKey, SignedSecretKey,
};
use pgp::ser::Serialize;
use pgp::types::Password;

use crate::archive::Settings;
use crate::cache;
use crate::progress::Silent;

/// A signing key.
pub(crate) struct Key {
    secret: SignedSecretKey,
}

impl Key {
    pub(crate) fn generate() -> Self {
        let params = SecretKeyParamsBuilder::default()
            .key_type(KeyType::Ed25519Legacy)
            .can_certify(true)
            .can_sign(true)
            .primary_user_id("Archive <archive@mirror.test>".into())
            .build()
            .unwrap();
        Key { secret: params.generate(rand::thread_rng()).unwrap() }
    }

    /// Writes the public key as a binary keyring of its own.
    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        let bytes = SignedPublicKey::from(self.secret.clone()).to_bytes().unwrap();
        let path = folder.join(format!("{}.gpg", &cache::sha256(&bytes)[..8]));
        fs::write(&path, bytes).unwrap();
        path
    }

    pub(crate) fn sign(&self, text: &str) -> String {
        let key = &self.secret.primary_key;
        let message = CleartextSignedMessage::sign(rand::thread_rng(), text, key, &Password::empty()).unwrap();
        message.to_armored_string(ArmorOptions::default()).unwrap()
    }
}

/// The text of a release file of trixie for index files with these contents.
pub(crate) fn release_text(files: &[(&str, &[u8])], fields: &str) -> String {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now()).replace("GMT", "UTC");
    let mut text = format!("Origin: Test\nSuite: stable\nCodename: trixie\nDate: {date}\n{fields}MD5Sum:\n");
    for (name, bytes) in files {
        text.push_str(&format!(" {} {} {name}\n", "0".repeat(32), bytes.len()));
    }
    text.push_str("SHA256:\n");
    for (name, bytes) in files {
        text.push_str(&format!(" {} {:8} {name}\n", cache::sha256(bytes), bytes.len()));
    }
    text
}

/// How a package's data is compressed.
#[derive(Clone, Copy)]
pub(crate) enum Compression {
    None,
    Gzip,
    Xz,
}

pub(crate) fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut writer = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The header of a tar archive's entry, root's and without content.
pub(crate) fn tar_header(kind: tar::EntryType) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_000_000_000);
    header.set_size(0);
    header
}

/// A tar archive of files.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar_header(tar::EntryType::Regular);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An ar archive.
pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        archive.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100644, bytes.len()).bytes());
        archive.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

/// A package of a tar archive.
pub(crate) fn deb(data: &[u8], compression: Compression) -> Vec<u8> {
    let (name, data) = match compression {
        Compression::None => ("data.tar", data.to_vec()),
        Compression::Gzip => ("data.tar.gz", gzip(data)),
        Compression::Xz => ("data.tar.xz", xz(data)),
    };
    ar(&[("debian-binary", b"2.0\n"), ("control.tar.gz", b"odd"), (name, &data)])
}

/// A minimal ELF object with a `.modinfo` section that names dependencies and two aliases.
pub(crate) fn module_object(depends: &str) -> Vec<u8> {
    let names = b"\0.modinfo\0.shstrtab\0";
    let info = format!("license=GPL\0alias=fs-x\0depends={depends}\0alias=virtio:d[0-9]-x*\0");
    let (names_at, info_at) = (64, 64 + names.len());
    let sections_at = (info_at + info.len()).next_multiple_of(8);
    let mut object = vec![0; sections_at + 3 * 64];
    object[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\xf3\0");
    object[20] = 1;
    object[40..48].copy_from_slice(&(sections_at as u64).to_le_bytes());
    object[52..64].copy_from_slice(&[64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 2, 0]);
    object[names_at..names_at + names.len()].copy_from_slice(names);
    object[info_at..info_at + info.len()].copy_from_slice(info.as_bytes());
    for (index, name, kind, at, length) in [(1, 1u32, 1u32, info_at, info.len()), (2, 10, 3, names_at, names.len())] {
        let section = &mut object[sections_at + index * 64..][..64];
        section[..4].copy_from_slice(&name.to_le_bytes());
        section[4..8].copy_from_slice(&kind.to_le_bytes());
        section[24..32].copy_from_slice(&(at as u64).to_le_bytes());
        section[32..40].copy_from_slice(&(length as u64).to_le_bytes());
    }
    object
}

/// What a server does to a file on its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Sends half of it, every time.
    BreakOff,
    /// Sends half of it, the first time only.
    BreakOffOnce,
    /// Changes a byte.
    Tamper,
    /// Says that it is not there.
    Absent,
}

/// A mirror on the loopback interface, with a keyring and a cache folder of its own.
pub(crate) struct Server {
    pub(crate) key: Key,
    pub(crate) folder: tempfile::TempDir,
    address: String,
    shared: Arc<Shared>,
    packages: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    faults: Mutex<BTreeMap<String, Fault>>,
    requests: AtomicUsize,
    stopped: AtomicBool,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/debian", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let server = Server {
            key: Key::generate(),
            folder: tempfile::tempdir().unwrap(),
            address,
            shared: shared.clone(),
            packages: Mutex::default(),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let shared = shared.clone();
                std::thread::spawn(move || stream.map(|stream| shared.serve(stream)));
            }
        });
        server
    }

    /// Settings that know this server's mirror and keyring, with a cache beside them.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            mirror: Some(self.address.clone()),
            keyring: Some(self.key.write(self.folder.path())),
            cache: Some(self.folder.path().join("cache")),
            progress: Arc::new(Silent),
            ..Settings::default()
        }
    }

    /// Adds a package; `fields` are further lines of its stanza.
    pub(crate) fn add(&self, name: &str, version: &str, fields: &str, files: &[(&str, &[u8])], how: Compression) {
        let bytes = deb(&tar(files), how);
        let stanza = format!(
            "Package: {name}\nVersion: {version}\nArchitecture: riscv64\n{fields}Filename: {}\nSize: {}\nSHA256: {}\n\n",
            Self::filename(name, version),
            bytes.len(),
            cache::sha256(&bytes)
        );
        self.packages.lock().unwrap().extend(stanza.bytes());
        self.put(&Self::filename(name, version), bytes);
    }

    pub(crate) fn filename(name: &str, version: &str) -> String {
        format!("pool/main/{name}_{version}_riscv64.deb")
    }

    /// Forgets the packages named in the index; their files stay.
    pub(crate) fn clear_index(&self) {
        self.packages.lock().unwrap().clear();
    }

    /// Signs an index of the packages added.
    pub(crate) fn publish(&self) {
        let packages = xz(&self.packages.lock().unwrap());
        let release = release_text(&[("main/binary-riscv64/Packages.xz", &packages)], "");
        self.put("dists/trixie/InRelease", self.key.sign(&release).into_bytes());
        self.put("dists/trixie/main/binary-riscv64/Packages.xz", packages);
    }

    pub(crate) fn put(&self, path: &str, bytes: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), bytes);
    }

    pub(crate) fn remove(&self, path: &str) {
        self.shared.files.lock().unwrap().remove(path);
    }

    pub(crate) fn fault(&self, path: &str, fault: Option<Fault>) {
        let mut faults = self.shared.faults.lock().unwrap();
        match fault {
            Some(fault) => faults.insert(path.to_owned(), fault),
            None => faults.remove(path),
        };
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Refuses every connection from now on.
    pub(crate) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener, which then closes.
        let _ = TcpStream::connect(self.host());
    }

    /// Its address and port.
    pub(crate) fn host(&self) -> &str {
        self.address.trim_start_matches("http://").trim_end_matches("/debian")
    }

    /// Writes all files into a folder, as a mirror for `file:`.
    pub(crate) fn write_folder(&self, folder: &Path) {
        for (path, bytes) in self.shared.files.lock().unwrap().iter() {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.windows(4).any(|w| w == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(length) => request.extend_from_slice(&buffer[..length]),
            }
        }
        self.requests.fetch_add(1, Ordering::SeqCst);
        let request = String::from_utf8_lossy(&request).into_owned();
        let target = request.split(' ').nth(1).unwrap_or_default();
        let path = target.trim_start_matches("/debian/");
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let fault = faults.get(path).copied();
            if fault == Some(Fault::BreakOffOnce) {
                faults.remove(path);
            }
            fault
        };
        let body = self.files.lock().unwrap().get(path).cloned().filter(|_| fault != Some(Fault::Absent));
        let Some(mut body) = body else {
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return;
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        match fault {
            Some(Fault::Tamper) => {
                let middle = body.len() / 2;
                body[middle] ^= 1;
            }
            Some(Fault::BreakOff | Fault::BreakOffOnce) => body.truncate(body.len() / 2),
            Some(Fault::Absent) | None => {}
        }
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }
}
