//! The disk by which packages reach the machine that builds a system: a FAT volume, which Debian's kernel reads and any
//! host can write, of `.deb` files whose contents are unpacked already, for the host is faster at that.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use fatfs::{FatType, FileSystem, FormatVolumeOptions, FsOptions};
use packages::Package;

use super::volume::Volume;
use super::{Error, Result};

/// Bytes of a cluster: the largest that the file system has, for few files that are read once.
const CLUSTER: u32 = 32 << 10;
/// By how much packages grow when they are unpacked, at most. The image is sparse: what is not used takes no room.
const GROWTH: u64 = 32;
/// A volume of fewer clusters would not be FAT32 (65525 of them).
const SMALLEST: u64 = 4 << 30;

/// The name of a package on the disk, by its place in the list.
pub(super) fn name(index: usize) -> String {
    format!("{index:05}.deb")
}

/// Writes the packages to an empty file and calls `done` after each.
pub(super) fn write(
    path: &Path,
    image: &File,
    packages: &[Package],
    mut done: impl FnMut(&Package) -> Result<()>,
) -> Result<()> {
    let failed = |e| Error::io(path, "write")(e);
    let mut size = SMALLEST;
    for package in packages {
        let packed = std::fs::metadata(&package.path).map_err(Error::io(&package.path, "read the size of"))?.len();
        size = size.saturating_add(packed.next_multiple_of(CLUSTER.into()).saturating_mul(GROWTH));
    }
    image.set_len(size).map_err(failed)?;
    let options = FormatVolumeOptions::new().fat_type(FatType::Fat32).bytes_per_cluster(CLUSTER).fats(1);
    fatfs::format_volume(Volume::new(image, 0..size), options).map_err(failed)?;
    let volume = FileSystem::new(Volume::new(image, 0..size), FsOptions::new()).map_err(failed)?;
    for (index, package) in packages.iter().enumerate() {
        let mut file = volume.root_dir().create_file(&name(index)).map_err(failed)?;
        packages::write_unpacked(&package.path, &mut file, &packages::Limits::default())?;
        file.flush().map_err(failed)?;
        done(package)?;
    }
    volume.unmount().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn packages_lie_on_the_disk_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        // An ar archive of one member that is not compressed is as it was.
        let content = vec![7; 100_001];
        let mut deb = b"!<arch>\n".to_vec();
        deb.extend(format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "data.tar", 0, 0, 0, 100644, content.len()).bytes());
        deb.extend(&content);
        deb.push(b'\n');
        std::fs::write(&path, &deb).unwrap();
        let package = Package { name: "x".into(), version: "1".into(), sha256: String::new(), path };
        let image = tempfile::tempfile().unwrap();
        let mut count = 0;
        let packages = [package.clone(), package];
        let counted = |_: &Package| {
            count += 1;
            Ok(())
        };
        write(Path::new("image"), &image, &packages, counted).unwrap();
        assert_eq!(count, 2);
        let volume =
            FileSystem::new(Volume::new(&image, 0..image.metadata().unwrap().len()), FsOptions::new()).unwrap();
        for index in 0..2 {
            let mut read = Vec::new();
            volume.root_dir().open_file(&name(index)).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == deb, "package {index}");
        }
        assert_eq!(volume.fat_type(), FatType::Fat32);
    }
}
