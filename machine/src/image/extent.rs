//! How far what is on a disk reaches, as far as it tells: what must not be cut off.
//!
//! Partition tables say where their partitions end: MBR, and GPT (UEFI 2.10 §5.3) in blocks of 512 bytes. A disk
//! without one may hold a file system that says how large it is: ext2 to ext4, XFS, btrfs. Of anything else each byte
//! counts that is not zero. All numbers come from a guest.

use std::io;
use std::ops::Range;

use devices::backend::disk::{Disk, Image};

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Bytes that are looked at together.
const PIECE: u64 = 1 << 20;
/// Most bytes of a table of partitions that is taken: four times as many as anybody makes.
const LONGEST_TABLE: u64 = 64 << 10;

/// Why a disk cannot end where it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ExtentError {
    /// Something ends later.
    #[error("{what} on it reaches up to byte {end}; make that smaller in the guest first, or take {} MiB", end.div_ceil(1 << 20))]
    Reaches {
        /// What.
        what: String,
        /// Bytes from the disk's start to its end.
        end: u64,
    },
    /// A table that promises partitions cannot be read.
    #[error("its GPT is damaged ({0}), so that nobody can tell what would be lost; repair it in the guest first")]
    Table(&'static str),
    /// There are data of which nothing is known.
    #[error(
        "holds data past the new end, at byte {at}; if they are not needed, discard them in the guest first (`blkdiscard -o`)"
    )]
    Data {
        /// Where the first of them is.
        at: u64,
    },
    /// The disk cannot be read, or its table not written.
    #[error("cannot be looked at: {0}")]
    Io(#[from] io::Error),
}

/// Prepares the disk in `image`, which can be resized, for an end at `size` bytes, which is before its present one: looks that nothing is lost
/// then, and moves the backup of a GPT there. Until the disk is cut its old backup is valid, too.
///
/// # Errors
/// Something would be lost. Nothing has been changed then.
pub fn prepare_end(image: &Image, size: u64) -> Result<(), ExtentError> {
    let disk = image.disk();
    let mut start = vec![0; (128 << 10).min(disk.size() as usize)];
    disk.read_at(0, &mut start)?;
    let fits = |what: String, end: u64| if end <= size { Ok(()) } else { Err(ExtentError::Reaches { what, end }) };
    match master_boot_record(&start) {
        Some(partitions) if partitions.iter().any(|partition| partition.kind == PROTECTIVE) => {
            Gpt::read(disk, &start)?.move_end(disk, size)
        }
        Some(partitions) => partitions.iter().try_for_each(|partition| {
            fits(format!("partition {}", partition.number), partition.end.saturating_mul(BLOCK))
        }),
        None => match file_system(&start) {
            Some((name, end)) => fits(format!("the {name} file system"), end),
            None => match first_data(image, size)? {
                Some(at) => Err(ExtentError::Data { at }),
                None => Ok(()),
            },
        },
    }
}

fn le32(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?).into())
}

fn le64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn be32(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?).into())
}

fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// An entry of a master boot record.
struct Primary {
    number: usize,
    kind: u8,
    /// The block after its last one. That of an extended partition is after all that is in it.
    end: u64,
}

/// The type of the partition that protects a GPT.
const PROTECTIVE: u8 = 0xee;

/// The partitions that a disk's first block speaks of, if it is a master boot record: the first block of a file system
/// may have the same signature.
fn master_boot_record(start: &[u8]) -> Option<Vec<Primary>> {
    if start.get(510..512)? != [0x55, 0xaa] {
        return None;
    }
    let mut partitions = Vec::new();
    for number in 1..=4 {
        let at = 446 + (number - 1) * 16;
        let (active, kind) = (start[at], start[at + 4]);
        let (first, count) = (le32(start, at + 8)?, le32(start, at + 12)?);
        match kind {
            _ if !matches!(active, 0 | 0x80) => return None,
            0 => {}
            _ if first == 0 || count == 0 => return None,
            _ => partitions.push(Primary { number, kind, end: first + count }),
        }
    }
    (!partitions.is_empty()).then_some(partitions)
}

/// The name and the bytes of the file system on a disk that has no partitions.
fn file_system(start: &[u8]) -> Option<(&'static str, u64)> {
    let is = |at: usize, magic: &[u8]| start.get(at..at + magic.len()) == Some(magic);
    let size = |blocks: Option<u64>, block: Option<u64>| blocks.zip(block).map(|(a, b)| a.saturating_mul(b));
    if is(1024 + 56, &[0x53, 0xef]) {
        // The upper half of the number counts where the feature "64bit" is on.
        let wide = le32(start, 1024 + 96)? & 0x80 != 0;
        let high = if wide { le32(start, 1024 + 0x150)? << 32 } else { 0 };
        let block = u32::try_from(le32(start, 1024 + 24)?).ok().and_then(|shift| 1024u64.checked_shl(shift));
        size(Some(high | le32(start, 1024 + 4)?), block).map(|size| ("ext", size))
    } else if is(0, b"XFSB") {
        size(be64(start, 8), be32(start, 4)).map(|size| ("XFS", size))
    } else if is((64 << 10) + 0x40, b"_BHRfS_M") {
        le64(start, (64 << 10) + 0x70).map(|size| ("btrfs", size))
    } else {
        None
    }
}

/// The first byte from `offset` on that is not zero.
fn first_data(image: &Image, mut offset: u64) -> io::Result<Option<u64>> {
    let size = image.disk().size();
    let mut buffer = vec![0; PIECE as usize];
    while offset < size {
        let Range { start, end } = image.data_from(offset)?;
        // Disks are read by blocks.
        let start = start / BLOCK * BLOCK;
        let piece = &mut buffer[..end.next_multiple_of(BLOCK).min(size).saturating_sub(start).min(PIECE) as usize];
        if piece.is_empty() {
            break;
        }
        image.disk().read_at(start, piece)?;
        let found = (start..).zip(&*piece).find(|(at, byte)| *at >= offset && **byte != 0);
        if let Some((at, _)) = found {
            return Ok(Some(at));
        }
        offset = start + piece.len() as u64;
    }
    Ok(None)
}

/// A GPT: its header and its entries as they are on the disk.
struct Gpt {
    header: [u8; BLOCK as usize],
    /// Bytes of the header that are in use.
    length: usize,
    entries: Vec<u8>,
    entry_size: usize,
}

impl Gpt {
    /// Offsets in a header.
    const LENGTH: usize = 12;
    const HEADER_SUM: usize = 16;
    const THIS_PLACE: usize = 24;
    const OTHER_PLACE: usize = 32;
    const FIRST_USABLE: usize = 40;
    const LAST_USABLE: usize = 48;
    const ENTRIES: usize = 72;
    const COUNT: usize = 80;
    const ENTRY_SIZE: usize = 84;
    const ENTRIES_SUM: usize = 88;
    /// Offsets in an entry.
    const LAST_BLOCK: usize = 40;

    /// Reads the primary table of a disk whose beginning is `start`.
    fn read(disk: &dyn Disk, start: &[u8]) -> Result<Self, ExtentError> {
        let wrong = |what| move || ExtentError::Table(what);
        let header = start.get(512..1024).and_then(|bytes| <[u8; BLOCK as usize]>::try_from(bytes).ok());
        let header =
            header.filter(|header| header.starts_with(b"EFI PART")).ok_or_else(wrong("no header in block 1"))?;
        let field = |at| le32(&header, at).unwrap_or_default();
        let length = field(Self::LENGTH) as usize;
        if !(92..=header.len()).contains(&length) || field(Self::HEADER_SUM) != header_sum(&header, length) {
            return Err(ExtentError::Table("the header's checksum"));
        }
        let entry_size = field(Self::ENTRY_SIZE);
        let bytes = entry_size * field(Self::COUNT);
        let place = le64(&header, Self::ENTRIES).unwrap_or_default();
        let end = place.checked_mul(BLOCK).and_then(|at| at.checked_add(bytes.next_multiple_of(BLOCK)));
        if entry_size < 128 || bytes > LONGEST_TABLE || end.is_none_or(|end| end > disk.size()) {
            return Err(ExtentError::Table("the place of its entries"));
        }
        let mut entries = vec![0; bytes.next_multiple_of(BLOCK) as usize];
        disk.read_at(place * BLOCK, &mut entries)?;
        entries.truncate(bytes as usize);
        if u64::from(crc32fast::hash(&entries)) != field(Self::ENTRIES_SUM) {
            return Err(ExtentError::Table("the entries' checksum"));
        }
        Ok(Self { header, length, entries, entry_size: entry_size as usize })
    }

    /// Makes it the table of a disk that ends at `size`: the backup first, then the primary.
    fn move_end(self, disk: &dyn Disk, size: u64) -> Result<(), ExtentError> {
        let blocks = (self.entries.len() as u64).div_ceil(BLOCK);
        // The backup's entries are behind what partitions may use, and its header is in the last block.
        let (end, last) = ((size / BLOCK).saturating_sub(blocks + 1), size / BLOCK - 1);
        let reaches = |what: String, after: u64| {
            let end = after.saturating_add(blocks + 1).saturating_mul(BLOCK);
            ExtentError::Reaches { what: format!("{what} and the end of the GPT behind it"), end }
        };
        for (index, entry) in self.entries.chunks_exact(self.entry_size).enumerate() {
            let after = le64(entry, Self::LAST_BLOCK).unwrap_or_default().saturating_add(1);
            if entry[..16] != [0; 16] && after > end {
                return Err(reaches(format!("partition {}", index + 1), after));
            }
        }
        // The first table ends there, if it tells the truth; its header is in block 1.
        let field = |at| le64(&self.header, at).unwrap_or_default();
        let after = field(Self::FIRST_USABLE).max(field(Self::ENTRIES).saturating_add(blocks)).max(2);
        if after > end {
            return Err(reaches("the partition table".into(), after));
        }
        let primary = self.header_with(&[(Self::OTHER_PLACE, last), (Self::LAST_USABLE, end - 1)]);
        let backup = self.header_with(&[
            (Self::THIS_PLACE, last),
            (Self::OTHER_PLACE, 1),
            (Self::LAST_USABLE, end - 1),
            (Self::ENTRIES, end),
        ]);
        let mut entries = self.entries;
        entries.resize((blocks * BLOCK) as usize, 0);
        disk.write_at(end * BLOCK, &entries)?;
        disk.write_at(last * BLOCK, &backup)?;
        disk.flush()?;
        disk.write_at(BLOCK, &primary)?;
        Ok(disk.flush()?)
    }

    /// The header with some numbers changed.
    fn header_with(&self, fields: &[(usize, u64)]) -> [u8; BLOCK as usize] {
        let mut header = self.header;
        for (at, value) in fields {
            header[*at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let sum = header_sum(&header, self.length).to_le_bytes();
        header[Self::HEADER_SUM..][..4].copy_from_slice(&sum[..4]);
        header
    }
}

/// The checksum of a header, with zero in its own place.
fn header_sum(header: &[u8; BLOCK as usize], length: usize) -> u64 {
    let mut header = *header;
    header[Gpt::HEADER_SUM..][..4].fill(0);
    crc32fast::hash(&header[..length]).into()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use devices::backend::disk::{Format, Options};

    use super::super::partition;
    use super::*;

    const SIZE: u64 = 64 << 20;

    /// A raw disk, or a qcow2 one, that begins with `bytes`.
    fn disk(folder: &Path, format: Format, bytes: &[u8]) -> (PathBuf, Image) {
        let path = folder.join("disk");
        devices::backend::disk::create::image(&path, format, SIZE, true).unwrap();
        let image = Image::open(&path, &Options { format: Some(format), ..Options::default() }).unwrap();
        let mut start = bytes.to_vec();
        start.resize(start.len().next_multiple_of(512), 0);
        image.disk().write_at(0, &start).unwrap();
        (path, image)
    }

    fn refused(image: &Image, size: u64) -> String {
        let before = content(image);
        let message = prepare_end(image, size).unwrap_err().to_string();
        assert!(content(image) == before, "{message}");
        message
    }

    fn content(image: &Image) -> Vec<u8> {
        let mut bytes = vec![0; image.disk().size() as usize];
        image.disk().read_at(0, &mut bytes).unwrap();
        bytes
    }

    /// A file with a GPT of which the one partition ends 16 MiB before the disk's end.
    fn table(folder: &Path) -> Vec<u8> {
        let path = folder.join("table");
        let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(SIZE - (16 << 20)).unwrap();
        partition::write(&path, &mut file, false).unwrap();
        std::fs::read(&path).unwrap()
    }

    #[test]
    fn the_end_of_a_gpt_moves_and_its_partitions_stay() {
        let folder = tempfile::tempdir().unwrap();
        let table = table(folder.path());
        for format in [Format::Raw, Format::Qcow2] {
            let (path, mut image) = disk(folder.path(), format, &table);
            let message = refused(&image, 32 << 20);
            assert!(message.contains("partition 1") && message.contains("guest"), "{message}");
            // The partition ends at the last whole MiB before the old table's end.
            let end = (SIZE - (17 << 20)) + 33 * 512;
            let size = end.next_multiple_of(1 << 20);
            assert!(refused(&image, end - 512).contains(&end.to_string()));
            prepare_end(&image, size).unwrap();
            image.resize(&path, size).unwrap();
            let bytes = content(&image);
            assert!(bytes[1024..1536] == table[1024..1536], "entries");
            let gpt = gpt::GptConfig::new().open_from_device(std::io::Cursor::new(bytes)).unwrap();
            let (primary, backup) = (gpt.primary_header().unwrap(), gpt.backup_header().unwrap());
            let last = size / 512 - 1;
            assert_eq!((primary.current_lba, primary.backup_lba, primary.last_usable), (1, last, last - 33));
            assert_eq!((backup.current_lba, backup.backup_lba, backup.last_usable), (last, 1, last - 33));
            assert_eq!((gpt.partitions().len(), primary.part_start, backup.part_start), (1, 2, last - 32));
        }
    }

    #[test]
    fn a_damaged_gpt_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let sound = table(folder.path());
        // The signature, the header, its length, where its entries are, their number, the entries.
        for (at, value) in [(512, 0), (552, 1), (524, 255), (584, 255), (592, 255), (1030, 1)] {
            let mut table = sound.clone();
            table[at] ^= value ^ 0x10;
            let (_, image) = disk(folder.path(), Format::Raw, &table);
            let message = refused(&image, 60 << 20);
            assert!(message.contains("GPT is damaged"), "{at}: {message}");
        }
        // With checksums that are right, too.
        for (at, value) in [(584, u64::MAX), (584, u64::MAX / 512), (592, u64::MAX), (524, 0), (524, 513)] {
            let mut table = sound.clone();
            table[at..at + 8].copy_from_slice(&value.to_le_bytes());
            let sum = header_sum(table[512..1024].try_into().unwrap(), 92) as u32;
            table[528..532].copy_from_slice(&sum.to_le_bytes());
            let (_, image) = disk(folder.path(), Format::Raw, &table);
            assert!(refused(&image, 60 << 20).contains("GPT is damaged"), "{at}");
        }
    }

    #[test]
    fn a_table_without_partitions_has_its_place_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut table = table(folder.path());
        // No entries in use, and no block that they would take; the checksums are right.
        table[1024..1024 + 128 * 128].fill(0);
        let sum = crc32fast::hash(&table[1024..1024 + 128 * 128]).to_le_bytes();
        table[512 + Gpt::ENTRIES_SUM..][..4].copy_from_slice(&sum);
        table[512 + Gpt::FIRST_USABLE..][..8].fill(0);
        let sum = header_sum(table[512..1024].try_into().unwrap(), 92) as u32;
        table[528..532].copy_from_slice(&sum.to_le_bytes());
        let (_, image) = disk(folder.path(), Format::Raw, &table);
        for size in [512, 1024, 16 << 10, (34 + 33) * 512 - 512] {
            assert!(refused(&image, size).contains("the partition table"), "{size}");
        }
        prepare_end(&image, (34 + 33) * 512).unwrap();
    }

    #[test]
    fn partitions_and_file_systems_say_where_they_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = vec![0; 512];
        record[510..].copy_from_slice(&[0x55, 0xaa]);
        record[446 + 16 + 4] = 0x83;
        record[446 + 16 + 8..][..8].copy_from_slice(&[0, 8, 0, 0, 0, 0x50, 0, 0]);
        let (_, image) = disk(folder.path(), Format::Raw, &record);
        let end = 0x5800 * 512;
        assert!(prepare_end(&image, end).is_ok());
        let message = refused(&image, end - 512);
        assert!(message.contains("partition 2") && message.contains(&end.to_string()), "{message}");
        drop(image);

        let mut ext = vec![0; 4096];
        ext[1080..1082].copy_from_slice(&[0x53, 0xef]);
        ext[1048] = 2;
        ext[1028..1032].copy_from_slice(&8192u32.to_le_bytes());
        let mut wide = ext.clone();
        wide[1120] = 0x80;
        wide[1024 + 0x150] = 1;
        let mut xfs = b"XFSB".to_vec();
        xfs.extend([0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0]);
        let mut btrfs = vec![0; 66 << 10];
        btrfs[(64 << 10) + 0x40..][..8].copy_from_slice(b"_BHRfS_M");
        btrfs[(64 << 10) + 0x70..][..8].copy_from_slice(&(32u64 << 20).to_le_bytes());
        for (name, start) in [("ext", &ext), ("XFS", &xfs), ("btrfs", &btrfs)] {
            let (_, image) = disk(folder.path(), Format::Raw, start);
            // What is behind the file system is nobody's.
            image.disk().write_at(48 << 20, &[1; 512]).unwrap();
            assert!(prepare_end(&image, 32 << 20).is_ok(), "{name}");
            let message = refused(&image, (32 << 20) - 512);
            assert!(message.contains(name) && message.contains("byte 33554432"), "{message}");
        }
        let (_, image) = disk(folder.path(), Format::Raw, &wide);
        assert!(refused(&image, 63 << 20).contains("ext"));
    }

    #[test]
    fn data_of_which_nothing_is_known_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        // A signature alone is no table.
        let mut start = vec![0xf6; 512];
        start[510..].copy_from_slice(&[0x55, 0xaa]);
        for format in [Format::Raw, Format::Qcow2] {
            let (_, image) = disk(folder.path(), format, &start);
            image.disk().write_at(40 << 20, &vec![0; 1 << 20]).unwrap();
            assert!(prepare_end(&image, 512).is_ok());
            let mut sector = [0; 512];
            sector[300] = 1;
            image.disk().write_at(50 << 20, &sector).unwrap();
            assert!(refused(&image, 50 << 20).contains(&format!("byte {}", (50 << 20) + 300)));
            assert!(prepare_end(&image, (50 << 20) + 512).is_ok());
        }
    }
}
