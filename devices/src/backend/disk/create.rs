//! New images. A file gets its name when it is whole and durable, and nothing is replaced but on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;

use super::file::ImageFile;
use super::image::Image;
use super::qcow2::{self, Qcow2Disk};
use super::{Cache, DiskError, Format, Medium, RawDisk, SECTOR_SIZE};

/// What files are called that have no name of their own yet. Who makes images clears away old ones.
const TEMPORARY: &str = ".partial-";

/// A file that has no name yet.
pub(super) struct NewFile {
    file: NamedTempFile,
    path: PathBuf,
    /// What it will replace, locked so that nobody uses it.
    replaced: Option<ImageFile>,
}

impl NewFile {
    /// An empty file beside `path`, which may be taken already only if `replace` says so.
    pub(super) fn begin(path: &Path, replace: bool) -> Result<Self, DiskError> {
        let failed = |source| DiskError::Make { path: path.into(), source };
        let (path, replaced) = match std::fs::metadata(path) {
            Ok(_) if !replace => return Err(DiskError::Exists { path: path.into() }),
            Ok(metadata) if !metadata.is_file() => return Err(DiskError::Irreplaceable { path: path.into() }),
            // The superuser may do it all the same; the mark was made for a reason.
            Ok(metadata) if metadata.permissions().readonly() => {
                return Err(DiskError::Permission { path: path.into(), read_only: true });
            }
            // A link stays what it is.
            Ok(_) => {
                let replaced = ImageFile::open(path, false, Cache::Writeback)?;
                (path.canonicalize().map_err(failed)?, Some(replaced))
            }
            Err(_) if path.is_symlink() => return Err(DiskError::Irreplaceable { path: path.into() }),
            Err(_) => (path.to_path_buf(), None),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(TEMPORARY);
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder(&path)).map_err(failed)?;
        // Who could not read the old one cannot read the new one.
        if let Some(replaced) = &replaced {
            let permissions = replaced.file().metadata().map_err(failed)?.permissions();
            file.as_file().set_permissions(permissions).map_err(failed)?;
        }
        Ok(Self { file, path, replaced })
    }

    fn medium(&self) -> Result<Arc<dyn Medium>, DiskError> {
        let file = self.file.as_file().try_clone().map_err(|source| self.failed(source))?;
        Ok(Arc::new(ImageFile::private(file, &self.path)))
    }

    /// Makes it an image of a disk of zeroes.
    pub(super) fn image(&self, format: Format, size: u64) -> Result<Image, DiskError> {
        check_size(&self.path, size)?;
        let medium = self.medium()?;
        match format {
            Format::Raw => {
                medium.set_length(size).map_err(|source| self.failed(source))?;
                Ok(Image::Raw(RawDisk::new(medium, false, false)?))
            }
            Format::Qcow2 => {
                qcow2::fill(medium.clone(), size, None, qcow2::CLUSTER_SIZE).map_err(|source| self.failed(source))?;
                Ok(Image::Qcow2(Qcow2Disk::open(medium, false, Cache::Writeback)?))
            }
        }
    }

    /// Gives it its name.
    pub(super) fn finish(self) -> Result<(), DiskError> {
        let Self { file, path, replaced } = self;
        let failed = |source| DiskError::Make { path: path.clone(), source };
        // Its name must not come to the disk before its contents do.
        file.as_file().sync_all().map_err(failed)?;
        let named = if replaced.is_some() { file.persist(&path) } else { file.persist_noclobber(&path) };
        named.map_err(|error| match error.error.kind() {
            std::io::ErrorKind::AlreadyExists => DiskError::Exists { path: path.clone() },
            _ => failed(error.error),
        })?;
        sync_folder(&path).map_err(failed)
    }

    fn failed(&self, source: std::io::Error) -> DiskError {
        DiskError::Make { path: self.path.clone(), source }
    }
}

/// What is added to an offset on the disk does not overflow.
fn check_size(path: &Path, size: u64) -> Result<(), DiskError> {
    if i64::try_from(size).is_err() { Err(DiskError::Size { path: path.into(), size }) } else { Ok(()) }
}

/// Makes an image of a disk of `size` bytes, all zero, at `path`, and replaces what is there if `replace` says so.
///
/// # Errors
/// There is something at `path`, somebody uses it, or the host refuses.
pub fn image(path: &Path, format: Format, size: u64, replace: bool) -> Result<(), DiskError> {
    let new = NewFile::begin(path, replace)?;
    new.image(format, size)?;
    new.finish()
}

/// Makes a qcow2 image at `path` that holds the differences from the image `base`, whose content tells its format if
/// `format` does not. It is as large as `base`, or `size` bytes. Images in one folder can be moved together.
///
/// # Errors
/// `base` cannot be opened, there is something at `path`, somebody uses it, or the host refuses.
pub fn overlay(
    path: &Path,
    base: &Path,
    format: Option<Format>,
    size: Option<u64>,
    replace: bool,
) -> Result<(), DiskError> {
    let host = |source| DiskError::host(base, true, source);
    let file = ImageFile::open(base, true, Cache::Writeback)?;
    let format = format.map_or_else(|| super::format::probe(&file), Ok).map_err(host)?;
    let medium: Arc<dyn Medium> = Arc::new(file);
    let (opened, _) = qcow2::open_format(&medium, format, true, Cache::Writeback)?;
    let size = size.unwrap_or(opened.size().next_multiple_of(SECTOR_SIZE));
    check_size(path, size)?;
    let absolute = base.canonicalize().map_err(host)?;
    let new = NewFile::begin(path, replace)?;
    let folder = folder(&new.path).canonicalize().map_err(|source| new.failed(source))?;
    let name = absolute.strip_prefix(folder).ok().filter(|name| name.components().count() == 1).unwrap_or(&absolute);
    let name =
        name.to_str().ok_or_else(|| host(std::io::Error::other("its name is no UTF-8, which qcow2 asks for")))?;
    let backing = Some((name.into(), format));
    qcow2::fill(new.medium()?, size, backing, qcow2::CLUSTER_SIZE).map_err(|source| new.failed(source))?;
    new.finish()
}

/// The folder that `path` lies in.
fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the name of a new file durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> std::io::Result<()> {
    std::fs::File::open(folder(path))?.sync_all()
}

/// Elsewhere folders cannot be synced.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Options, open};
    use super::*;

    #[test]
    fn nothing_is_replaced_but_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for format in [Format::Raw, Format::Qcow2] {
            std::fs::write(at("disk"), "mine").unwrap();
            assert!(matches!(image(&at("disk"), format, 1 << 20, false), Err(DiskError::Exists { .. })));
            assert_eq!(std::fs::read(at("disk")).unwrap(), b"mine");
            image(&at("disk"), format, 1 << 20, true).unwrap();
            let options = Options { format: Some(format), ..Options::default() };
            let disk = open(&at("disk"), &options).unwrap();
            assert_eq!(disk.size(), 1 << 20);
            let before = std::fs::read(at("disk")).unwrap();
            assert!(matches!(image(&at("disk"), format, 2 << 20, true), Err(DiskError::Locked { .. })));
            assert!(std::fs::read(at("disk")).unwrap() == before);
        }
        let mut permissions = std::fs::metadata(at("disk")).unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(at("disk"), permissions).unwrap();
        assert!(matches!(image(&at("disk"), Format::Raw, 512, true), Err(DiskError::Permission { .. })));
        assert!(matches!(image(folder.path(), Format::Raw, 512, true), Err(DiskError::Irreplaceable { .. })));
        assert!(matches!(image(&at("no/disk"), Format::Raw, 512, false), Err(DiskError::Make { .. })));
        assert!(matches!(image(&at("huge"), Format::Qcow2, u64::MAX - 511, false), Err(DiskError::Size { .. })));
        assert!(image(&at("huge"), Format::Qcow2, 1 << 62, false).is_err());
        assert!(matches!(overlay(&at("top"), &at("absent"), None, None, false), Err(DiskError::NotFound { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_the_file_behind_it_is_replaced() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").unwrap();
        symlink("file", &link).unwrap();
        image(&link, Format::Raw, 4096, true).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::metadata(&file).unwrap().len(), 4096);
        // As any program makes a file.
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&file), mode(&plain));
        // What others could not read, they cannot read when it is replaced.
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        image(&file, Format::Qcow2, 4096, true).unwrap();
        assert_eq!(mode(&file) & 0o777, 0o600);
        // A link to nothing is nothing to be replaced.
        std::fs::remove_file(&file).unwrap();
        for replace in [false, true] {
            assert!(matches!(image(&link, Format::Raw, 4096, replace), Err(DiskError::Irreplaceable { .. })));
        }
    }
}
