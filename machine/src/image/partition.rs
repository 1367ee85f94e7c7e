//! The partition table of a new disk: GPT (UEFI 2.10 §5) with a partition for the root file system and, where the boot
//! loader is an EFI program, one for that.

use std::fs::File;
use std::ops::Range;
use std::path::Path;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::ProtectiveMBR;
use gpt::partition_types::{self, OperatingSystem, Type};
use uuid::Uuid;

use super::{Error, Result};

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Where partitions begin, in blocks: at MiBs.
const ALIGNMENT: u64 = (1 << 20) / BLOCK;
/// The type of a root partition of this architecture (Discoverable Partitions Specification).
const ROOT: Type = Type { guid: Uuid::from_u128(0x72ec70a6_cf74_40e6_bd49_4bda08e8f224), os: OperatingSystem::Linux };
/// Attribute bit 2, "legacy BIOS bootable": by it U-Boot finds the partition with an extlinux configuration.
const BOOTABLE: u64 = 1 << 2;

/// Number of the root partition, which is the same with and without another before it.
const ROOT_NUMBER: u32 = 1;
/// Number of the EFI system partition.
const SYSTEM_NUMBER: u32 = 2;
/// Blocks of the EFI system partition: 64 MiB.
const SYSTEM_BLOCKS: u64 = (64 << 20) / BLOCK;

/// Writes the table to an image, which has its size already. The range of bytes of the EFI system partition, if one is
/// wanted.
pub(super) fn write(path: &Path, image: &mut File, system: bool) -> Result<Option<Range<u64>>> {
    let failed = |reason: String| Error::Partition { path: path.into(), reason };
    let size = image.metadata().map_err(Error::io(path, "read the size of"))?.len();
    // A disk larger than the old table can say is covered as far as it can (§5.2.3).
    let blocks = u32::try_from(size / BLOCK - 1).unwrap_or(u32::MAX);
    ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(image).map_err(|e| failed(e.to_string()))?;
    let config = gpt::GptConfig::new().writable(true).logical_block_size(LogicalBlockSize::Lb512);
    let mut table = config.create_from_device(image, None).map_err(|e| failed(e.to_string()))?;
    let free = table.find_free_sectors().into_iter().max_by_key(|(_, length)| *length);
    let (first, length) = free.ok_or_else(|| failed("the disk is too small".into()))?;
    let mut start = first.next_multiple_of(ALIGNMENT);
    let system = system.then_some(start..start + SYSTEM_BLOCKS);
    if let Some(blocks) = &system {
        let added = table.add_partition_at("EFI", SYSTEM_NUMBER, start, SYSTEM_BLOCKS, partition_types::EFI, 0);
        added.map_err(|e| failed(e.to_string()))?;
        start = blocks.end;
    }
    // The last whole MiB, so that file systems of any block size fill it.
    let end = (first + length) / ALIGNMENT * ALIGNMENT;
    let blocks = end.checked_sub(start).filter(|blocks| *blocks > 0);
    let blocks = blocks.ok_or_else(|| failed("the disk is too small".into()))?;
    let added = table.add_partition_at("root", ROOT_NUMBER, start, blocks, ROOT, BOOTABLE);
    added.map_err(|e| failed(e.to_string()))?;
    table.write().map_err(|e| failed(e.to_string()))?;
    Ok(system.map(|blocks| blocks.start * BLOCK..blocks.end * BLOCK))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom};

    use super::*;

    #[test]
    fn a_table_that_can_be_read_back() {
        for size in [3u64 << 20, 100 << 20, (4 << 30) + 512, 3 << 40] {
            let mut file = tempfile::tempfile().unwrap();
            file.set_len(size).unwrap();
            assert_eq!(write(Path::new("image"), &mut file, false).unwrap(), None);
            assert_eq!(file.metadata().unwrap().len(), size);
            // The specification's offsets, read without the library: the protective record, the header, the first entry.
            let mut bytes = vec![0; 1024 + 128];
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_exact(&mut bytes).unwrap();
            let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
            assert_eq!((bytes[450], &bytes[510..512]), (0xee, &[0x55, 0xaa][..]));
            let covered = u32::from_le_bytes(bytes[458..462].try_into().unwrap());
            assert_eq!(u64::from(covered), (size / 512 - 1).min(u32::MAX.into()));
            assert_eq!(&bytes[512..520], b"EFI PART");
            assert_eq!(number(512 + 32), size / 512 - 1, "the other header is in the last block");
            let (first, last, attributes) = (number(1024 + 32), number(1024 + 40), number(1024 + 48));
            assert_eq!((first, attributes), (2048, 4));
            assert_eq!((last + 1) % 2048, 0);
            assert!(last < number(512 + 48) + 1 && (size / 512 - last) < 2 * 2048 + 34);
            let table = gpt::GptConfig::new().open_from_device(file).unwrap();
            assert_eq!(table.partitions()[&1].part_type_guid.guid, ROOT.guid);
            assert!(table.primary_header().is_ok() && table.backup_header().is_ok());
        }
        let mut small = tempfile::tempfile().unwrap();
        small.set_len(1 << 20).unwrap();
        assert!(write(Path::new("image"), &mut small, false).is_err());
    }

    #[test]
    fn room_for_efi_programs() {
        let mut file = tempfile::tempfile().unwrap();
        file.set_len(200 << 20).unwrap();
        assert_eq!(write(Path::new("image"), &mut file, true).unwrap(), Some(1 << 20..65 << 20));
        let table = gpt::GptConfig::new().open_from_device(file).unwrap();
        let place = |number: u32| (table.partitions()[&number].first_lba, table.partitions()[&number].last_lba);
        assert_eq!((place(2), place(1).0), ((2048, 65 * 2048 - 1), 65 * 2048));
        assert_eq!(table.partitions()[&2].part_type_guid, partition_types::EFI);
    }
}
