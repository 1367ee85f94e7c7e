//! What there is to say about an image without using it as a disk: also about one that cannot be opened, or that
//! somebody else has open.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use super::file::ImageFile;
use super::format::{self, Backing, Format, FormatError, Qcow2Header};
use super::qcow2::LONGEST_CHAIN;
use super::{DiskError, Medium, SECTOR_SIZE};

/// An image and the images that it stands on.
#[derive(Debug)]
pub struct Chain {
    /// The image itself first.
    pub images: Vec<Info>,
    /// Why the last one's backing file is not among them.
    pub broken: Option<DiskError>,
}

/// An image file.
#[derive(Debug)]
pub struct Info {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
    /// Bytes of the disk in it.
    pub size: u64,
    /// Bytes of the file on the host, without its holes.
    pub allocated: u64,
    /// Who has it open.
    pub usage: Usage,
    /// Its header, if it is a qcow2 image.
    pub header: Option<Qcow2Header>,
    /// What it stands on.
    pub backing: Option<Backing>,
    /// Why it cannot be opened as a disk.
    pub obstacle: Option<FormatError>,
}

/// Who has an image open, as its lock tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Nobody.
    Free,
    /// Somebody who reads it.
    Read,
    /// Somebody who writes to it.
    Written,
    /// The host has no locks there.
    Unknown,
}

/// Looks at the image at `path`, whose content tells its format if `format` does not, and at what stands below it.
///
/// # Errors
/// The file cannot be read, or is no image of that format. What is wrong with the files below is part of the answer.
pub fn inspect(path: &Path, format: Option<Format>) -> Result<Chain, DiskError> {
    let mut chain = Chain { images: vec![Info::of(path, format)?], broken: None };
    while let Some(last) = chain.images.last()
        && let Some(backing) = &last.backing
    {
        let path = backing.path(&last.path);
        let next = match backing.stated_format() {
            _ if chain.images.len() > LONGEST_CHAIN => Err(DiskError::Chain { path, most: LONGEST_CHAIN }),
            Err(source) => Err(DiskError::Format { path: last.path.clone(), source }),
            Ok(format) => Info::of(&path, format),
        };
        match next {
            Ok(info) => chain.images.push(info),
            Err(error) => {
                chain.broken = Some(error);
                break;
            }
        }
    }
    Ok(chain)
}

impl Info {
    fn of(path: &Path, format: Option<Format>) -> Result<Self, DiskError> {
        let host = |source| DiskError::host(path, true, source);
        let medium = ImageFile::look_at(path)?;
        let length = medium.length().map_err(host)?;
        let format = format.map_or_else(|| format::probe(&medium), Ok).map_err(host)?;
        let mut info = Self {
            path: path.into(),
            format,
            size: length.next_multiple_of(SECTOR_SIZE),
            allocated: medium.allocated().map_err(host)?,
            usage: usage(medium.file()),
            header: None,
            backing: None,
            obstacle: None,
        };
        if format == Format::Qcow2 {
            let mut bytes = [0; Qcow2Header::SIZE];
            medium.read_at(0, &mut bytes).map_err(host)?;
            let header = Qcow2Header::parse(&bytes);
            let header = header.map_err(|source| DiskError::Format { path: path.into(), source })?;
            info.size = header.size;
            info.backing = header.backing(&medium).map_err(host)?;
            info.obstacle = Qcow2Header::read(&medium).map_err(host)?.err();
            info.header = Some(header);
        }
        Ok(info)
    }
}

/// Looks at a file's lock by taking it for a moment.
fn usage(file: &File) -> Usage {
    let result = match file.try_lock() {
        Ok(()) => Usage::Free,
        Err(TryLockError::WouldBlock) => match file.try_lock_shared() {
            Ok(()) => Usage::Read,
            Err(TryLockError::WouldBlock) => Usage::Written,
            Err(TryLockError::Error(_)) => Usage::Unknown,
        },
        Err(TryLockError::Error(_)) => Usage::Unknown,
    };
    // The file is closed soon anyway.
    let _ = file.unlock();
    result
}

#[cfg(test)]
mod tests {
    use super::super::{Options, create, open};
    use super::*;

    #[test]
    fn a_chain_and_where_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create::image(&at("base"), Format::Raw, 3 << 20, false).unwrap();
        create::overlay(&at("middle"), &at("base"), None, None, false).unwrap();
        create::overlay(&at("top"), &at("middle"), None, Some(5 << 20), false).unwrap();
        let disk = open(&at("top"), &Options::default()).unwrap();
        let chain = inspect(&at("top"), None).unwrap();
        assert!(chain.broken.is_none(), "{:?}", chain.broken);
        let told: Vec<_> = chain.images.iter().map(|i| (i.path.clone(), i.format, i.size, i.usage)).collect();
        let (qcow2, raw) = (Format::Qcow2, Format::Raw);
        assert_eq!(
            told,
            [
                (at("top"), qcow2, 5 << 20, Usage::Written),
                (at("middle"), qcow2, 3 << 20, Usage::Read),
                (at("base"), raw, 3 << 20, Usage::Read)
            ]
        );
        assert_eq!(chain.images[0].backing, Some(Backing { name: "middle".into(), format: Some("qcow2".into()) }));
        assert!(chain.images[2].allocated < 1 << 20, "{}", chain.images[2].allocated);
        drop(disk);
        assert_eq!(inspect(&at("top"), None).unwrap().images[0].usage, Usage::Free);

        std::fs::remove_file(at("base")).unwrap();
        let chain = inspect(&at("top"), None).unwrap();
        assert_eq!(chain.images.len(), 2);
        assert!(matches!(chain.broken, Some(DiskError::NotFound { path }) if path == at("base")));
        std::fs::rename(at("top"), at("middle")).unwrap();
        let circle = inspect(&at("middle"), None).unwrap();
        assert!(matches!(circle.broken, Some(DiskError::Chain { .. })), "{:?}", circle.broken);
    }

    #[test]
    fn an_image_that_cannot_be_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        create::image(&path, Format::Qcow2, 1 << 20, false).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[79] = 1;
        std::fs::write(&path, &bytes).unwrap();
        let info = inspect(&path, None).unwrap().images.remove(0);
        assert!(matches!(info.obstacle, Some(FormatError::Feature { feature: "dirty reference counts", .. })));
        assert_eq!((info.size, info.header.unwrap().features()), (1 << 20, vec!["dirty".to_owned()]));
        // A backing file's name wherever it may be.
        for place in [0x1000u64, u64::MAX, 1 << 62] {
            bytes[8..16].copy_from_slice(&place.to_be_bytes());
            bytes[16..20].copy_from_slice(&1023u32.to_be_bytes());
            std::fs::write(&path, &bytes).unwrap();
            let _ = inspect(&path, None);
        }
        assert!(matches!(inspect(&path, Some(Format::Raw)).unwrap().images[0].format, Format::Raw));
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(inspect(&path, Some(Format::Qcow2)), Err(DiskError::Format { .. })));
    }
}
