//! What can go wrong between a package's name and its files, each with the cure in the message.

use std::io;
use std::path::{Path, PathBuf};

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate: one line that names the file or package, what is wrong with it and, where there is one, the
/// cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither the caller nor the host's configuration names a mirror.
    #[error(
        "no Debian mirror is known on this host: pass --mirror URL (http, https, file or a folder; it holds dists/ and pool/), and --keyring FILE if the host has no keyring of Debian's archive"
    )]
    NoMirror,
    /// The mirror's address is not one that can be used.
    #[error("mirror {url}: {reason}: pass --mirror with an http, https or file URL, or a folder")]
    MirrorAddress {
        /// The address as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The mirror could not be reached, or broke off.
    #[error("{url}: {reason}: check the network, or pass --mirror URL")]
    Unreachable {
        /// The file asked for.
        url: String,
        /// What the connection reported.
        reason: String,
    },
    /// The mirror answered, but does not have the file.
    #[error("{url}: {reason}: is this a Debian mirror that carries the suite? Pass --mirror URL")]
    Refused {
        /// The file asked for.
        url: String,
        /// The answer.
        reason: String,
    },
    /// No keyring to check signatures with.
    #[error(
        "no keyring of the Debian archive in {searched}: install the package debian-archive-keyring, or pass --keyring FILE"
    )]
    NoKeyring {
        /// The files looked for.
        searched: String,
    },
    /// The keyring cannot be read or holds no usable key.
    #[error("keyring {}: {reason}: pass --keyring FILE with OpenPGP public keys", path.display())]
    Keyring {
        /// The keyring file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A release file without a good signature.
    #[error(
        "{origin}: no good signature by a key of {} ({reason}): the mirror is damaged or not Debian's, or the keyring is too old (--keyring FILE)",
        keyring.display()
    )]
    Signature {
        /// Where the release file came from.
        origin: String,
        /// The keyring it was checked with.
        keyring: PathBuf,
        /// What the checks said.
        reason: String,
    },
    /// A signed release file that is not the one asked for, or is out of date.
    #[error("{origin}: {reason}")]
    Release {
        /// Where the release file came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file whose bytes are not those that the archive signed.
    #[error(
        "{origin}: SHA-256 is {found}, the signed index says {expected}: the mirror or a proxy on the way delivers something else"
    )]
    Hash {
        /// Where the file came from.
        origin: String,
        /// Hash of the bytes received.
        found: String,
        /// Hash that the archive signed.
        expected: String,
    },
    /// A package index that does not follow the format.
    #[error("{origin}: {reason}")]
    Index {
        /// The index file.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A package, or something that provides it, is not in the archive.
    #[error("package {relation} (wanted by {wanted_by}) is not in Debian {suite} for {architecture}")]
    NoSuchPackage {
        /// The name or dependency.
        relation: String,
        /// The package that depends on it, or "the caller".
        wanted_by: String,
        /// The suite searched.
        suite: String,
        /// The architecture searched.
        architecture: String,
    },
    /// A `.deb` file that cannot be unpacked.
    #[error("{}: {}", path.display(), printable(reason))]
    Deb {
        /// The `.deb` file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A path or node that a file tree cannot hold.
    #[error("{path:?}: {reason}")]
    Tree {
        /// The path inside the tree.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A kernel package that lacks something.
    #[error("kernel package {package}: {reason}")]
    Kernel {
        /// The package's name.
        package: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no folder to keep packages in.
    #[error("no cache folder: set VERVET_CACHE to a folder that can be written ({reason})")]
    NoCache {
        /// Why not.
        reason: String,
    },
    /// The host's file system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried ("read", "write" and the like).
        action: &'static str,
        /// The host's answer.
        source: io::Error,
    },
}

/// A text that quotes a damaged file: on one line, and without codes that a terminal obeys.
fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

impl Error {
    /// Whether a mirror that is absent, unknown or away is the cause, so that a cached answer may serve instead.
    pub fn is_network(&self) -> bool {
        matches!(self, Error::NoMirror | Error::Unreachable { .. } | Error::Refused { .. })
    }

    /// For `map_err`: an I/O error with the path and what was tried.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }
}
