//! Tests: qcow2 images that were made to do harm. Whatever a header and tables say, using the image ends in data or in
//! errors, and soon.

use std::path::Path;
use std::sync::Arc;

use bus::{Piece, Ram, Scattered};

use super::full::Sparse;
use super::qcow2::{self, Qcow2Disk};
use super::{Cache, Disk, Medium};

const SIZE: u64 = 1 << 20;
const CLUSTER: usize = 4096;

/// Deterministic numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// A sound image with some data.
fn victim() -> Vec<u8> {
    let medium = Sparse::new(Path::new("image"), Vec::new());
    qcow2::fill(medium.clone(), SIZE, None, CLUSTER).unwrap();
    let disk = Qcow2Disk::open(medium.clone(), false, Cache::Writeback).unwrap();
    for place in [0, 5, 6, 100, 255] {
        disk.write_at(place * CLUSTER as u64, &[(place as u8).wrapping_add(1); CLUSTER]).unwrap();
    }
    disk.flush().unwrap();
    disk.write_zeroes(5 * CLUSTER as u64, CLUSTER as u64, false).unwrap();
    drop(disk);
    medium.content()
}

/// Changes a few fields: numbers of all sizes that mean something elsewhere, and some that mean nothing.
fn damage(image: &mut [u8], random: &mut Random) {
    for _ in 0..1 + random.below(4) {
        let clusters = image.len() as u64 / CLUSTER as u64;
        let cluster = random.below(clusters + 2).saturating_sub(2);
        let entries = [14, 8, 512][if cluster == 0 { 0 } else { 1 + random.below(2) as usize }];
        let within = random.below(entries);
        let at = (cluster * CLUSTER as u64 + within * 8) as usize;
        let place = random.below(clusters + 2) * CLUSTER as u64;
        let value = match random.below(8) {
            0 => u64::MAX,
            1 => 1 << random.below(64),
            2 => random.below(1 << 31) << random.below(33),
            3 => place | 1,
            4 => place | 1 << 62 | random.below(512) << 54,
            5 => place | random.below(512),
            _ => place | 1 << 63,
        };
        let bytes = value.to_be_bytes();
        match random.below(4) {
            0 => image[at + 4..at + 8].copy_from_slice(&bytes[4..]),
            1 => image[at..at + 4].copy_from_slice(&bytes[4..]),
            _ => image[at..at + 8].copy_from_slice(&bytes),
        }
    }
    // Names of files of the host are another matter.
    image[8..20].fill(0);
}

fn use_it(medium: &Arc<Sparse>, random: &mut Random) -> usize {
    let Ok(disk) = Qcow2Disk::open(medium.clone() as Arc<dyn Medium>, false, Cache::Writeback) else { return 0 };
    let ram = Ram::new(0, (3 * CLUSTER) as u64).unwrap();
    let sectors = disk.size() / 512;
    let mut bytes = vec![0; 3 * CLUSTER];
    let mut done = 0;
    for _ in 0..12 {
        let length = (512 * (1 + random.below(24))).min(disk.size());
        let near = random.below(SIZE / 512).min(sectors);
        let sector = [near, near, near, sectors][random.below(4) as usize].min(sectors - length / 512);
        let (offset, bytes) = (sector * 512, &mut bytes[..length as usize]);
        let pieces = [Piece { address: 0, length }];
        let run = Scattered::new(&ram, &pieces);
        let result = match random.below(7) {
            0 | 1 => disk.read_at(offset, bytes),
            2 => disk.read_now(offset, &run).map(|_| ()),
            3 => disk.write_at(offset, bytes),
            4 => disk.discard(offset, length),
            5 => disk.write_from(offset, &run),
            _ => disk.write_zeroes(offset, length, random.below(2) == 0),
        };
        done += usize::from(result.is_ok());
        if random.below(6) == 0 {
            let _ = disk.flush();
        }
    }
    done
}

#[test]
fn no_image_does_harm() {
    let sound = victim();
    let (mut opened, mut refused) = (0, 0);
    for seed in 0..10_000 {
        let mut random = Random(seed << 17);
        let mut image = sound.clone();
        damage(&mut image, &mut random);
        let medium = Sparse::new(Path::new("image"), image);
        if use_it(&medium, &mut random) != 0 { opened += 1 } else { refused += 1 }
    }
    assert!(opened > 1000 && refused > 500, "{opened} were of some use, {refused} of none");
}
