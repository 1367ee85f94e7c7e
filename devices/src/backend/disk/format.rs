//! What an image's first bytes tell: its format, and whether that format's variant is one that can be opened.

use std::io;
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
}

/// The magic number at the start of a qcow2 image.
pub const QCOW2_MAGIC: [u8; 4] = *b"QFI\xfb";

/// log2 of the bytes that a cluster may have.
const CLUSTER_BITS: std::ops::RangeInclusive<u32> = 9..=21;
/// The header extension that names features, and the bytes of an entry.
const FEATURE_NAMES: u32 = 0x6803_f857;
const FEATURE_NAME_SIZE: usize = 48;

/// Tells the format by the content.
pub fn probe(medium: &impl Medium) -> io::Result<Format> {
    let mut magic = [0; 4];
    let read = medium.read_at(0, &mut magic)?;
    Ok(if read == magic.len() && magic == QCOW2_MAGIC { Format::Qcow2 } else { Format::Raw })
}

/// Fields of a qcow2 header that are of use here, all big-endian on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Qcow2Header {
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
}

impl Qcow2Header {
    /// Bytes of the header that [`Qcow2Header::parse`] looks at.
    pub const SIZE: usize = 112;

    /// Reads the header at the start of an image; bytes past its end are zero.
    ///
    /// # Errors
    /// It is no header, or of a variant that cannot be opened.
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
        let refuse = |feature, cure| Err(FormatError::Feature { feature, cure });
        if be32(32) != 0 {
            return refuse("encryption", "decrypt it with `qemu-img convert`");
        }
        let (incompatible, header_length) = if version == 3 { (be64(72), be32(100)) } else { (0, 72) };
        if header_length > 104 && bytes[104] != 0 || incompatible & 1 << 3 != 0 {
            return refuse(
                if bytes[104] == 1 { "zstd compression" } else { "other compression than deflate" },
                "convert it with `qemu-img convert -O qcow2 -o compression_type=zlib`",
            );
        }
        for (bit, feature, cure) in [
            (0, "dirty reference counts", "repair it with `qemu-img check -r all`"),
            (1, "corrupt", "repair it with `qemu-img check -r all`"),
            (2, "external data file", "convert it with `qemu-img convert -O qcow2`"),
            (4, "extended L2 entries", "convert it with `qemu-img convert -O qcow2 -o extended_l2=off`"),
        ] {
            if incompatible & 1 << bit != 0 {
                return refuse(feature, cure);
            }
        }
        if incompatible != 0 {
            return refuse("unknown", "convert it with `qemu-img convert -O qcow2`");
        }
        if !CLUSTER_BITS.contains(&be32(20)) {
            return Err(FormatError::ClusterBits(be32(20)));
        }
        Ok(Self {
            cluster_bits: be32(20),
            l1_size: be32(36),
            l1_offset: be64(40),
            reftable_offset: be64(48),
            reftable_clusters: be32(56),
            refcount_order: if version == 3 { be32(96) } else { 4 },
        })
    }

    /// Reads the header of `medium`.
    pub fn read(medium: &dyn Medium) -> io::Result<Result<Self, FormatError>> {
        let mut bytes = [0; Self::SIZE];
        medium.read_at(0, &mut bytes)?;
        let header = match Self::parse(&bytes) {
            Ok(header) => header,
            Err(error) => return Ok(Err(error)),
        };
        let mut cluster = vec![0; 1 << header.cluster_bits];
        medium.read_at(0, &mut cluster)?;
        Ok(check_extensions(&cluster).map(|()| header))
    }
}

/// Looks at the header extensions, of which the library takes the lengths on trust. `cluster` is the first one of an image
/// whose header is sound; the extensions end with it.
fn check_extensions(cluster: &[u8]) -> Result<(), FormatError> {
    let be32 = |at: usize| {
        let bytes = cluster.get(at..at.checked_add(4)?)?;
        Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    };
    if be32(4) == Some(2) {
        return Ok(());
    }
    let mut at = be32(100).unwrap_or(0) as usize;
    while let (Some(kind), Some(length)) = (be32(at), be32(at + 4)) {
        if kind == 0 {
            return Ok(());
        }
        let length = length as usize;
        let fits = cluster.len() - (at + 8) >= length;
        if !fits || kind == FEATURE_NAMES && !length.is_multiple_of(FEATURE_NAME_SIZE) {
            return Err(FormatError::Extension(kind));
        }
        at += 8 + length.next_multiple_of(8);
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

    #[test]
    fn variants_that_cannot_be_opened_are_refused_by_name() {
        assert!(Qcow2Header::parse(&header(2, &[])).is_ok());
        assert!(Qcow2Header::parse(&header(3, &[(87, 1)])).is_ok(), "compatible features are no obstacle");
        assert_eq!(Qcow2Header::parse(&header(1, &[])), Err(FormatError::Version(1)));
        assert_eq!(Qcow2Header::parse(&header(3, &[(0, 0)])), Err(FormatError::NotQcow2));
        for (set, said) in [
            (&[(35, 1)][..], "encryption"),
            (&[(79, 1)], "dirty"),
            (&[(79, 2)], "corrupt"),
            (&[(79, 4)], "external data file"),
            (&[(79, 8), (104, 1)], "zstd"),
            (&[(79, 16)], "extended L2"),
            (&[(72, 1)], "unknown"),
        ] {
            let message = Qcow2Header::parse(&header(3, set)).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
        assert!(Qcow2Header::parse(&header(2, &[(79, 1)])).is_ok(), "version 2 has no such field");
        for bits in [0, 8, 22, 255] {
            assert_eq!(Qcow2Header::parse(&header(3, &[(23, bits)])), Err(FormatError::ClusterBits(bits.into())));
        }
    }

    #[test]
    fn extensions_have_the_lengths_they_must_have() {
        let check = |extensions: &[u32]| {
            let mut cluster = header(3, &[]).to_vec();
            cluster.extend(extensions.iter().flat_map(|word| word.to_be_bytes()));
            cluster.resize(512, 0);
            check_extensions(&cluster)
        };
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[1, 5, 0, 0, FEATURE_NAMES, 96]), Ok(()));
        assert_eq!(check(&[1, 512 - 120]), Ok(()));
        assert_eq!(check(&[1, 512 - 119]), Err(FormatError::Extension(1)));
        assert_eq!(check(&[1, u32::MAX]), Err(FormatError::Extension(1)));
        for wrong in [1, 47, 49] {
            assert_eq!(check(&[FEATURE_NAMES, wrong]), Err(FormatError::Extension(FEATURE_NAMES)));
        }
        let mut far = header(3, &[(100, 0xff)]).to_vec();
        assert_eq!(check_extensions(&far), Ok(()));
        far[4..8].copy_from_slice(&2u32.to_be_bytes());
        assert_eq!(check_extensions(&far), Ok(()));
    }
}
