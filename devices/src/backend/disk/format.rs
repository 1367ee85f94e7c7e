//! What an image's first bytes tell: its format, and whether that format's variant is one that can be opened.

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::Medium;

/// The format of a disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's copy-on-write format, version 2 or 3.
    Qcow2,
}

impl Format {
    /// Its name on the command line and in qcow2 headers.
    pub fn name(self) -> &'static str {
        match self {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "raw" => Ok(Format::Raw),
            "qcow2" => Ok(Format::Qcow2),
            _ => Err(format!("unknown disk format \"{name}\": use raw or qcow2")),
        }
    }
}

/// Why an image's variant cannot be opened.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormatError {
    /// Another magic number.
    #[error("is no qcow2 image; give format=raw if it is a raw disk")]
    NotQcow2,
    /// Version 1, or a future one.
    #[error("is a qcow2 image of version {0}; only 2 and 3 are supported")]
    Version(u32),
    /// Clusters of no size that the specification allows.
    #[error("is damaged: its header speaks of clusters of 2^{0} bytes; `qemu-img check` may tell more")]
    ClusterBits(u32),
    /// A disk larger than any: what is added to an offset on a disk does not overflow.
    #[error("is damaged: its header speaks of a disk of {0} bytes; `qemu-img check` may tell more")]
    Size(u64),
    /// What follows the header is not as long as it says, or as it must be.
    #[error("is damaged: its header's extension {0:#x} has a wrong length; `qemu-img check` may tell more")]
    Extension(u32),
    /// A feature bit that a reader must know.
    #[error("uses the qcow2 feature \"{feature}\", which is not supported; {cure}")]
    Feature {
        /// Its name.
        feature: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The image below it is of a format that cannot be read.
    #[error("stands on an image of the format \"{0}\"; only raw and qcow2 are supported")]
    BackingFormat(String),
}

/// The magic number at the start of a qcow2 image.
pub const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// log2 of the bytes that a cluster may have.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The header extension that holds the format of the backing file, and the one that names features, with the bytes of
/// an entry.
const BACKING_FORMAT: u32 = 0xe279_2aca;
const FEATURE_NAMES: u32 = 0x6803_f857;
const FEATURE_NAME_SIZE: usize = 48;
/// Most bytes of a backing file's name.
const LONGEST_NAME: u32 = 1023;

/// Tells the format by the content.
pub fn probe(medium: &impl Medium) -> io::Result<Format> {
    let mut magic = [0; 4];
    let read = medium.read_at(0, &mut magic)?;
    Ok(if read == magic.len() && magic == QCOW2_MAGIC { Format::Qcow2 } else { Format::Raw })
}

/// Fields of a qcow2 header that are of use here, all big-endian on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
    /// 2 or 3.
    pub version: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// log2 of the bytes in a cluster.
    pub cluster_bits: u32,
    /// Entries of the active L1 table.
    pub l1_size: u32,
    /// Where it is.
    pub l1_offset: u64,
    /// Where the refcount table is.
    pub reftable_offset: u64,
    /// Its clusters.
    pub reftable_clusters: u32,
    /// log2 of the bits in a reference count.
    pub refcount_order: u32,
    /// How it is encrypted: 0 is not at all, 1 AES, 2 LUKS.
    pub encryption: u32,
    /// Snapshots inside the image.
    pub snapshots: u32,
    /// Bits of features that a reader must know.
    pub incompatible: u64,
    /// Bits of features that a reader may ignore.
    pub compatible: u64,
    /// Bits of features that a writer who does not know them clears.
    pub autoclear: u64,
    /// How clusters are compressed: 0 is deflate, 1 zstd.
    pub compression: u8,
    /// Where the name of the backing file is, and its bytes; 0 if there is none.
    backing_offset: u64,
    backing_length: u32,
    /// Bytes of the header, behind which its extensions are.
    length: u32,
}

/// What a qcow2 image says of the image below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Its name, relative to the image's folder.
    pub name: String,
    /// The name of its format; without one, its content tells.
    pub format: Option<String>,
}

impl Backing {
    /// The path of the file, for the image at `image`.
    pub(super) fn path(&self, image: &Path) -> PathBuf {
        let name = self.name.strip_prefix("file:").unwrap_or(&self.name);
        image.parent().unwrap_or(Path::new("")).join(name)
    }

    /// The format that the image says it has.
    ///
    /// # Errors
    /// It is none that can be read.
    pub(super) fn stated_format(&self) -> Result<Option<Format>, FormatError> {
        match self.format.as_deref() {
            None => Ok(None),
            Some("raw" | "file") => Ok(Some(Format::Raw)),
            Some("qcow2") => Ok(Some(Format::Qcow2)),
            Some(name) => Err(FormatError::BackingFormat(name.into())),
        }
    }
}

impl Qcow2Header {
    /// Bytes of the header that [`Qcow2Header::parse`] looks at.
    pub const SIZE: usize = 112;

    /// Bits of [`Qcow2Header::incompatible`].
    const DIRTY: u64 = 1 << 0;
    const CORRUPT: u64 = 1 << 1;

    /// Reads the header at the start of an image; bytes past its end are zero. What it says may be of a variant that
    /// cannot be opened: [`Qcow2Header::check`] tells.
    ///
    /// # Errors
    /// It is no header of a version that is known.
    pub fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, FormatError> {
        let be32 = |at: usize| bytes[at..at + 4].iter().fold(0, |value, byte| value << 8 | u32::from(*byte));
        let be64 = |at: usize| u64::from(be32(at)) << 32 | u64::from(be32(at + 4));
        if bytes[..4] != QCOW2_MAGIC {
            return Err(FormatError::NotQcow2);
        }
        let version = be32(4);
        if !(2..=3).contains(&version) {
            return Err(FormatError::Version(version));
        }
        // Version 2 ends before these fields.
        let new = |value| if version == 3 { value } else { 0 };
        let length = if version == 3 { be32(100) } else { 72 };
        Ok(Self {
            version,
            size: be64(24),
            cluster_bits: be32(20),
            l1_size: be32(36),
            l1_offset: be64(40),
            reftable_offset: be64(48),
            reftable_clusters: be32(56),
            refcount_order: if version == 3 { be32(96) } else { 4 },
            encryption: be32(32),
            snapshots: be32(60),
            incompatible: new(be64(72)),
            compatible: new(be64(80)),
            autoclear: new(be64(88)),
            compression: if length > 104 { bytes[104] } else { 0 },
            backing_offset: be64(8),
            backing_length: be32(16),
            length,
        })
    }

    /// Looks whether the variant is one that can be opened.
    ///
    /// # Errors
    /// It is not, by name.
    pub fn check(&self) -> Result<(), FormatError> {
        let refuse = |feature, cure| Err(FormatError::Feature { feature, cure });
        if self.encryption != 0 {
            return refuse("encryption", "decrypt it with `qemu-img convert`");
        }
        if self.compression != 0 || self.incompatible & 1 << 3 != 0 {
            return refuse(
                if self.compression == 1 { "zstd compression" } else { "other compression than deflate" },
                "convert it with `qemu-img convert -O qcow2 -o compression_type=zlib`",
            );
        }
        for (bits, feature, cure) in [
            (Self::DIRTY, "dirty reference counts", "repair it with `qemu-img check -r all`"),
            (Self::CORRUPT, "corrupt", "repair it with `qemu-img check -r all`"),
            (1 << 2, "external data file", "convert it with `qemu-img convert -O qcow2`"),
            (1 << 4, "extended L2 entries", "convert it with `qemu-img convert -O qcow2 -o extended_l2=off`"),
            (u64::MAX, "unknown", "convert it with `qemu-img convert -O qcow2`"),
        ] {
            if self.incompatible & bits != 0 {
                return refuse(feature, cure);
            }
        }
        if !CLUSTER_BITS.contains(&self.cluster_bits) {
            return Err(FormatError::ClusterBits(self.cluster_bits));
        }
        if i64::try_from(self.size).is_err() {
            return Err(FormatError::Size(self.size));
        }
        Ok(())
    }

    /// Reads the header of `medium`, and looks whether its variant is one that can be opened.
    pub fn read(medium: &dyn Medium) -> io::Result<Result<Self, FormatError>> {
        let mut bytes = [0; Self::SIZE];
        medium.read_at(0, &mut bytes)?;
        let header = match Self::parse(&bytes).and_then(|header| header.check().map(|()| header)) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let cluster = header.first_cluster(medium)?;
        Ok(check_extensions(&header, &cluster).map(|()| header))
    }

    /// Whether its reference counts may be wrong, since whoever wrote it did not come to an end.
    pub fn is_dirty(&self) -> bool {
        self.incompatible & Self::DIRTY != 0
    }

    /// Whether somebody has found it damaged.
    pub fn is_corrupt(&self) -> bool {
        self.incompatible & Self::CORRUPT != 0
    }

    /// The name of its encryption.
    pub fn encryption_name(&self) -> &'static str {
        match self.encryption {
            0 => "none",
            1 => "aes",
            2 => "luks",
            _ => "unknown",
        }
    }

    /// The name of the way in which clusters are compressed, if any are.
    pub fn compression_name(&self) -> &'static str {
        match self.compression {
            0 => "deflate",
            1 => "zstd",
            _ => "unknown",
        }
    }

    /// The names of the features that the header speaks of.
    pub fn features(&self) -> Vec<String> {
        let known: [(u64, &[&str], &str); 3] = [
            (
                self.incompatible,
                &["dirty", "corrupt", "external data file", "compression type", "extended L2 entries"],
                "incompatible",
            ),
            (self.compatible, &["lazy refcounts"], "compatible"),
            (self.autoclear, &["bitmaps", "raw external data"], "autoclear"),
        ];
        let mut features = Vec::new();
        for (bits, names, kind) in known {
            features.extend((0..64).filter(|bit| bits & 1 << bit != 0).map(|bit| match names.get(bit) {
                Some(name) => (*name).to_owned(),
                None => format!("unknown {kind} feature {bit}"),
            }));
        }
        features
    }

    /// What it says of a backing file; none is the answer too where that makes no sense, for then the image cannot be
    /// opened.
    pub fn backing(&self, medium: &dyn Medium) -> io::Result<Option<Backing>> {
        if self.backing_offset == 0 || self.backing_length > LONGEST_NAME || !CLUSTER_BITS.contains(&self.cluster_bits)
        {
            return Ok(None);
        }
        let mut name = vec![0; self.backing_length as usize];
        let read = medium.read_at(self.backing_offset, &mut name)?;
        name.truncate(read);
        let cluster = self.first_cluster(medium)?;
        let format = self.extensions(&cluster).find(|(kind, _)| *kind == BACKING_FORMAT);
        let format = format.and_then(|(_, bytes)| bytes).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(Some(Backing { name: String::from_utf8_lossy(&name).into_owned(), format }))
    }

    fn first_cluster(&self, medium: &dyn Medium) -> io::Result<Vec<u8>> {
        let mut cluster = vec![0; 1 << self.cluster_bits];
        medium.read_at(0, &mut cluster)?;
        Ok(cluster)
    }

    /// The header's extensions, which lie in the first cluster: the kind of each and its bytes, which are missing where
    /// they do not fit. The last one is then the last that there is.
    fn extensions<'a>(&self, cluster: &'a [u8]) -> impl Iterator<Item = (u32, Option<&'a [u8]>)> {
        let mut at = self.length as usize;
        // In old images of version 2 a backing file's name may follow the header without a word of an end.
        let end = match usize::try_from(self.backing_offset) {
            Ok(name) if self.version == 2 && name != 0 => name.min(cluster.len()),
            _ => cluster.len(),
        };
        let cluster = &cluster[..end];
        let be32 = move |at: usize| {
            let bytes = cluster.get(at..at.checked_add(4)?)?;
            Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
        };
        std::iter::from_fn(move || {
            let (kind, length) = (be32(at)?, be32(at.checked_add(4)?)? as usize);
            if kind == 0 {
                return None;
            }
            let bytes = cluster[at + 8..].get(..length);
            at = if bytes.is_some() { at + 8 + length.next_multiple_of(8) } else { usize::MAX };
            Some((kind, bytes))
        })
    }
}

/// Looks at the header extensions, of which the library takes the lengths on trust. `cluster` is the first one of an image
/// whose header is sound; the extensions end with it.
fn check_extensions(header: &Qcow2Header, cluster: &[u8]) -> Result<(), FormatError> {
    for (kind, bytes) in header.extensions(cluster) {
        if bytes.is_none_or(|bytes| kind == FEATURE_NAMES && !bytes.len().is_multiple_of(FEATURE_NAME_SIZE)) {
            return Err(FormatError::Extension(kind));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u8, set: &[(usize, u8)]) -> [u8; Qcow2Header::SIZE] {
        let mut bytes = [0; Qcow2Header::SIZE];
        bytes[..4].copy_from_slice(&QCOW2_MAGIC);
        bytes[7] = version;
        (bytes[23], bytes[99], bytes[103]) = (16, 4, 112);
        for (at, value) in set {
            bytes[*at] = *value;
        }
        bytes
    }

    fn check(bytes: &[u8; Qcow2Header::SIZE]) -> Result<(), FormatError> {
        Qcow2Header::parse(bytes)?.check()
    }

    #[test]
    fn variants_that_cannot_be_opened_are_refused_by_name() {
        assert!(check(&header(2, &[])).is_ok());
        assert!(check(&header(3, &[(87, 1)])).is_ok(), "compatible features are no obstacle");
        assert_eq!(check(&header(1, &[])), Err(FormatError::Version(1)));
        assert_eq!(check(&header(3, &[(0, 0)])), Err(FormatError::NotQcow2));
        for (set, said) in [
            (&[(35, 1)][..], "encryption"),
            (&[(79, 1)], "dirty"),
            (&[(79, 2)], "corrupt"),
            (&[(79, 4)], "external data file"),
            (&[(79, 8), (104, 1)], "zstd"),
            (&[(79, 16)], "extended L2"),
            (&[(72, 1)], "unknown"),
        ] {
            let message = check(&header(3, set)).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        assert!(check(&header(2, &[(79, 1)])).is_ok(), "version 2 has no such field");
        for bits in [0, 8, 22, 255] {
            assert_eq!(check(&header(3, &[(23, bits)])), Err(FormatError::ClusterBits(bits.into())));
        }
        assert_eq!(check(&header(2, &[(24, 0x80)])), Err(FormatError::Size(1 << 63)));
    }

    #[test]
    fn features_have_their_names() {
        let features = |set: &[(usize, u8)]| Qcow2Header::parse(&header(3, set)).unwrap().features();
        assert_eq!(features(&[]), [""; 0]);
        assert_eq!(
            features(&[(79, 0b10011), (87, 1), (95, 1)])[..],
            ["dirty", "corrupt", "extended L2 entries", "lazy refcounts", "bitmaps"]
        );
        assert_eq!(
            features(&[(72, 0x80), (87, 2)])[..],
            ["unknown incompatible feature 63", "unknown compatible feature 1"]
        );
    }

    #[test]
    fn extensions_have_the_lengths_they_must_have() {
        let check_image = |header: &[u8; Qcow2Header::SIZE], cluster: &[u8]| {
            check_extensions(&Qcow2Header::parse(header).unwrap(), cluster)
        };
        let check = |extensions: &[u32]| {
            let mut cluster = header(3, &[]).to_vec();
            cluster.extend(extensions.iter().flat_map(|word| word.to_be_bytes()));
            cluster.resize(512, 0);
            check_image(&header(3, &[]), &cluster)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[1, 5, 0, 0, FEATURE_NAMES, 96]), Ok(()));
        assert_eq!(check(&[1, 512 - 120]), Ok(()));
        assert_eq!(check(&[1, 512 - 119]), Err(FormatError::Extension(1)));
        assert_eq!(check(&[1, u32::MAX]), Err(FormatError::Extension(1)));
        for wrong in [1, 47, 49] {
            assert_eq!(check(&[FEATURE_NAMES, wrong]), Err(FormatError::Extension(FEATURE_NAMES)));
        }
        for far in [header(3, &[(100, 0xff)]), header(2, &[(100, 0xff)])] {
            assert_eq!(check_image(&far, &far), Ok(()));
        }
        // In version 2 they follow the 72 bytes of its header, up to the backing file's name.
        let mut old = header(2, &[]);
        old[72..80].copy_from_slice(&[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 0xff]);
        assert_eq!(check_image(&old, &old), Err(FormatError::Extension(BACKING_FORMAT)));
        old[15] = 72;
        assert_eq!(check_image(&old, &old), Ok(()));
    }
}
