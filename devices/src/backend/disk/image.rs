//! Images as a whole: what a user does with one while no guest has it.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::create::NewFile;
use super::file::ImageFile;
use super::format::{self, Format, Qcow2Header};
use super::qcow2::Qcow2Disk;
use super::{Disk, DiskError, Medium, Options, RawDisk};

/// Bytes that are converted at a time.
const PIECE: u64 = 2 << 20;
/// Bytes of zeroes that a raw image leaves out: a file system's block.
const RAW_GRAIN: u64 = 4 << 10;

/// An image that is open.
pub enum Image {
    /// The disk's bytes as they are.
    Raw(RawDisk),
    /// A qcow2 image, or one that is temporary over another.
    Qcow2(Qcow2Disk),
}

impl Image {
    /// Opens the image at `path` and locks it, as [`super::open`] does.
    ///
    /// # Errors
    /// The file cannot be opened or locked, or is no image of its format.
    pub fn open(path: &Path, options: &Options) -> Result<Self, DiskError> {
        let file = ImageFile::open(path, options.read_only || options.snapshot, options.cache)?;
        let probed = format::probe(&file).map_err(|error| DiskError::host(path, options.read_only, error))?;
        let format = options.format.unwrap_or(probed);
        let guessed = options.format.is_none() && format == Format::Raw && !options.read_only;
        let file: Arc<dyn Medium> = Arc::new(file);
        Ok(match (format, options.snapshot && !options.read_only) {
            (Format::Raw, false) => Image::Raw(RawDisk::new(file, options.read_only, guessed)?),
            (Format::Qcow2, false) => Image::Qcow2(Qcow2Disk::open(file, options.read_only, options.cache)?),
            (format, true) => Image::Qcow2(Qcow2Disk::snapshot(file, format, options.cache)?),
        })
    }

    /// The disk in it.
    pub fn disk(&self) -> &dyn Disk {
        match self {
            Image::Raw(disk) => disk,
            Image::Qcow2(disk) => disk,
        }
    }

    /// The first range from `offset` on that may hold anything but zeroes; an empty one at the end if there is none.
    pub fn data_from(&self, offset: u64) -> io::Result<Range<u64>> {
        match self {
            Image::Raw(disk) => disk.data_from(offset),
            Image::Qcow2(disk) => disk.data_from(offset),
        }
    }

    /// Changes the size of the disk in the image at `path` to `size` bytes, a multiple of a sector. What is gained
    /// reads as zeroes, what is lost is lost: looking before is up to the caller. All is durable when this returns.
    ///
    /// # Errors
    /// The host refuses, or the image has snapshots. It is as it was then, or of the new size.
    pub fn resize(&mut self, path: &Path, size: u64) -> Result<(), DiskError> {
        self.check_resize(path, size)?;
        let host = |source| DiskError::host(path, false, source);
        match self {
            Image::Raw(disk) => disk.resize(size).map_err(host),
            Image::Qcow2(disk) => disk.resize(size).map_err(host),
        }
    }

    /// Looks whether [`Image::resize`] can be asked for, and changes nothing.
    ///
    /// # Errors
    /// No disk has that size, the image has snapshots, or is a block device.
    pub fn check_resize(&self, path: &Path, size: u64) -> Result<(), DiskError> {
        if i64::try_from(size).is_err() {
            return Err(DiskError::Size { path: path.into(), size });
        }
        let host = |source| DiskError::host(path, false, source);
        match self {
            Image::Raw(disk) => disk.check_resize().map_err(host),
            Image::Qcow2(disk) => match disk.snapshots().map_err(host)? {
                0 => Ok(()),
                count => Err(DiskError::Snapshots { path: path.into(), count }),
            },
        }
    }

    /// Bytes of zeroes that need not be written to it, if they are aligned.
    fn grain(&self) -> u64 {
        match self {
            Image::Raw(_) => RAW_GRAIN,
            Image::Qcow2(disk) => disk.cluster_size(),
        }
    }
}

/// Makes an image at `path` that holds the same disk as `source`, by itself, and without what is zero. It gets its name
/// when it is whole. `progress` hears up to which byte of the disk the work has come and says whether it goes on.
///
/// # Errors
/// The source cannot be read, or the target not written, or something has its name that may not be replaced.
pub fn convert(
    source: &Image,
    path: &Path,
    format: Format,
    replace: bool,
    progress: &mut dyn FnMut(u64) -> bool,
) -> Result<(), DiskError> {
    let from = source.disk();
    let size = from.size();
    let new = NewFile::begin(path, replace)?;
    let target = new.image(format, size)?;
    let made = |source| DiskError::Make { path: path.into(), source };
    let name = from.name();
    let unreadable = |source| DiskError::host(Path::new(&name), true, source);
    let grain = target.grain();
    let mut buffer = vec![0; PIECE as usize];
    let mut offset = 0;
    while offset < size {
        let data = source.data_from(offset).map_err(unreadable)?;
        // Whole grains, so that none is written twice. What lies before them is known to be zero.
        let start = data.start - data.start % grain;
        let end = data.end.next_multiple_of(grain).min(start + PIECE).min(size);
        if data.is_empty() || start >= end {
            break;
        }
        let bytes = &mut buffer[..(end - start) as usize];
        from.read_at(start, bytes).map_err(unreadable)?;
        for run in runs(bytes, grain as usize) {
            target.disk().write_at(start + run.start as u64, &bytes[run]).map_err(made)?;
        }
        offset = end;
        if !progress(offset) {
            return Err(DiskError::Interrupted { path: path.into() });
        }
    }
    target.disk().flush().map_err(made)?;
    drop(target);
    new.finish()
}

/// Runs of grains that are not all zeroes.
fn runs(bytes: &[u8], grain: usize) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for (index, piece) in bytes.chunks(grain).enumerate() {
        let range = index * grain..index * grain + piece.len();
        match runs.last_mut() {
            _ if piece.iter().all(|byte| *byte == 0) => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => runs.push(range),
        }
    }
    runs
}

impl Qcow2Disk {
    /// Snapshots inside the image.
    fn snapshots(&self) -> io::Result<u32> {
        let header = Qcow2Header::read(self.medium())?.map_err(io::Error::other)?;
        Ok(header.snapshots)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{create, info};
    use super::*;

    const SIZE: u64 = 9 << 20;

    fn open(path: &Path) -> Image {
        Image::open(path, &Options::default()).unwrap()
    }

    fn content(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; image.disk().size() as usize];
        image.disk().read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// A few pieces of data, at odd places, and the zeroes between.
    fn put_data(image: &Image, value: u8) {
        let sectors = image.disk().size() / 512;
        for sector in [0, 7, 130, 4095, 4096, sectors - 1] {
            image.disk().write_at(sector * 512, &[value; 512]).unwrap();
        }
        // Written, but zero.
        image.disk().write_at(6 << 20, &vec![0; 1 << 20]).unwrap();
        image.disk().flush().unwrap();
    }

    #[test]
    fn there_and_back() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create::image(&at("base"), Format::Raw, SIZE - 512, false).unwrap();
        put_data(&Image::open(&at("base"), &Options { format: Some(Format::Raw), ..Options::default() }).unwrap(), 1);
        create::overlay(&at("top"), &at("base"), Some(Format::Raw), Some(SIZE), false).unwrap();
        let top = open(&at("top"));
        top.disk().write_at(512 * 7, &[2; 512]).unwrap();
        top.disk().write_zeroes(2 << 20, 1 << 20, true).unwrap();
        top.disk().write_at(SIZE - 512, &[3; 512]).unwrap();
        top.disk().flush().unwrap();
        let expected = content(&top);
        let mut last = 0;
        convert(&top, &at("flat"), Format::Qcow2, false, &mut |done| {
            assert!(done > std::mem::replace(&mut last, done));
            true
        })
        .unwrap();
        assert_eq!(last, SIZE);
        let flat = open(&at("flat"));
        assert!(content(&flat) == expected);
        convert(&flat, &at("raw"), Format::Raw, false, &mut |_| true).unwrap();
        assert!(std::fs::read(at("raw")).unwrap() == expected);
        let chain = info::inspect(&at("flat"), None).unwrap();
        assert_eq!((chain.images.len(), chain.images[0].size), (1, SIZE));
        for name in ["flat", "raw"] {
            let allocated = info::inspect(&at(name), None).unwrap().images[0].allocated;
            assert!(allocated < 2 << 20, "{name}: {allocated}");
        }
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 4, "{names:?}");
    }

    #[test]
    fn read_only_is_read_only_with_a_snapshot_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        create::image(&path, Format::Qcow2, SIZE, false).unwrap();
        for read_only in [false, true] {
            let image = Image::open(&path, &Options { read_only, snapshot: true, ..Options::default() }).unwrap();
            assert_eq!(image.disk().read_only(), read_only);
            assert_eq!(image.disk().write_at(0, &[1; 512]).is_err(), read_only);
        }
    }

    #[test]
    fn what_is_not_finished_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create::image(&at("source"), Format::Qcow2, SIZE, false).unwrap();
        let source = open(&at("source"));
        put_data(&source, 1);
        let result = convert(&source, &at("target"), Format::Qcow2, false, &mut |done| done < 4 << 20);
        assert!(matches!(result, Err(DiskError::Interrupted { .. })));
        std::fs::write(at("target"), "something else").unwrap();
        let keep = |replace, result: Result<(), DiskError>| {
            assert!(result.is_err(), "{replace}");
            assert_eq!(std::fs::read(at("target")).unwrap(), b"something else");
        };
        keep(false, convert(&source, &at("target"), Format::Raw, false, &mut |_| true));
        keep(true, convert(&source, &at("target"), Format::Raw, true, &mut |_| false));
        // Onto itself, or what somebody uses.
        let onto_itself = convert(&source, &at("source"), Format::Raw, true, &mut |_| true);
        assert!(matches!(onto_itself, Err(DiskError::Locked { .. })));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        convert(&source, &at("target"), Format::Raw, true, &mut |_| true).unwrap();
        assert!(std::fs::read(at("target")).unwrap() == content(&source));
    }

    #[test]
    fn a_disk_grows_and_shrinks() {
        let folder = tempfile::tempdir().unwrap();
        for format in [Format::Raw, Format::Qcow2] {
            let path = folder.path().join(format.name());
            create::image(&path, format, SIZE, false).unwrap();
            let options = Options { format: Some(format), ..Options::default() };
            let mut image = Image::open(&path, &options).unwrap();
            put_data(&image, 5);
            let mut expected = content(&image);
            // Past the end of a table of clusters, in the middle of a cluster, and back.
            for size in [700 << 20, SIZE + 512, SIZE - (1 << 20) - 512, SIZE, SIZE * 2] {
                image.resize(&path, size).unwrap();
                expected.resize(size as usize, 0);
                assert_eq!(image.disk().size(), size);
                assert!(content(&image) == expected, "{format:?} of {size} bytes");
                drop(image);
                image = Image::open(&path, &options).unwrap();
                assert_eq!(image.disk().size(), size);
                assert!(content(&image) == expected, "{format:?} of {size} bytes, opened again");
                if format == Format::Qcow2 {
                    super::super::crash::check(&std::fs::read(&path).unwrap()).unwrap();
                }
            }
            assert!(matches!(image.resize(&path, u64::MAX - 511), Err(DiskError::Size { .. })));
        }
    }

    #[test]
    fn what_cannot_be_resized_is_told_before() {
        /// A device of the host's, which has the size it has.
        #[derive(Debug)]
        struct Device;
        impl Medium for Device {
            fn length(&self) -> io::Result<u64> {
                Ok(SIZE)
            }
            fn read_at(&self, _offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn write_at(&self, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
                panic!("written to");
            }
            fn sync(&self) -> io::Result<()> {
                Ok(())
            }
            fn path(&self) -> &Path {
                Path::new("device")
            }
        }
        let device = Image::Raw(RawDisk::new(Arc::new(Device), false, false).unwrap());
        assert!(matches!(device.check_resize(Path::new("device"), 512), Err(DiskError::Host { .. })));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        create::image(&path, Format::Qcow2, SIZE, false).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        assert!(open(&path).check_resize(&path, 512).is_ok());
        bytes[63] = 2;
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(open(&path).check_resize(&path, 512), Err(DiskError::Snapshots { count: 2, .. })));
    }

    #[test]
    fn growing_shows_nothing_of_what_is_below() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("base"), vec![9; SIZE as usize]).unwrap();
        for size in [1 << 20, (1 << 20) + 512] {
            create::overlay(&at("top"), &at("base"), Some(Format::Raw), Some(size), true).unwrap();
            let mut top = open(&at("top"));
            top.resize(&at("top"), 1 << 30).unwrap();
            drop(top);
            let top = open(&at("top"));
            let mut bytes = vec![1; 2 * SIZE as usize];
            top.disk().read_at(0, &mut bytes).unwrap();
            let (below, new) = bytes.split_at(size as usize);
            assert!(below.iter().all(|byte| *byte == 9) && new.iter().all(|byte| *byte == 0), "{size}");
            super::super::crash::check(&std::fs::read(at("top")).unwrap()).unwrap();
        }
    }
}
