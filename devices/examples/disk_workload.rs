//! Random work on a disk image from several threads, for comparison with other programs' view of the image.
//!
//! `disk_workload IMAGE FORMAT SEED OPERATIONS DUMP`: checks every read against what was written before, and writes the
//! disk as it is in the end to the file DUMP.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::process::ExitCode;

use devices::backend::disk::{self, Disk, Options, SECTOR_SIZE};

/// Threads, each with sectors of its own that lie between the others'.
const THREADS: u64 = 3;
/// Sectors of one thread that lie together: less than a cluster of most sizes.
const STRIPE: u64 = 24;

fn main() -> ExitCode {
    match work(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("disk_workload: {error}");
            ExitCode::FAILURE
        }
    }
}

fn work(arguments: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [image, format, seed, operations, dump] = arguments else {
        return Err("usage: disk_workload IMAGE FORMAT SEED OPERATIONS DUMP".into());
    };
    let (seed, operations): (u64, u64) = (seed.parse()?, operations.parse()?);
    let open = |read_only| {
        let options = Options { format: Some(format.parse()?), read_only, ..Options::default() };
        Ok::<_, Box<dyn std::error::Error>>(disk::open(Path::new(image), &options)?)
    };
    let writable = open(false)?;
    let disk = &*writable;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| scope.spawn(move || run(disk, thread, seed * THREADS + thread, operations)))
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?)
    })?;
    drop(writable);

    // As another process would find it.
    let disk = open(true)?;
    let mut file = std::fs::File::create(dump)?;
    let mut bytes = vec![0; 1 << 20];
    let mut offset = 0;
    while offset < disk.size() {
        let length = (disk.size() - offset).min(bytes.len() as u64) as usize;
        disk.read_at(offset, &mut bytes[..length])?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(&bytes[..length])?;
        offset += length as u64;
    }
    Ok(())
}

/// What a sector holds, as far as it is known.
#[derive(Clone, Copy, PartialEq)]
enum Known {
    Nothing,
    Zero,
    Number(u64),
}

fn content(sector: u64, known: Known) -> [u8; SECTOR_SIZE as usize] {
    let mut bytes = [0; SECTOR_SIZE as usize];
    if let Known::Number(number) = known {
        for (i, word) in bytes.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            *word = (number << 32 ^ sector << 8 ^ i as u64).to_le_bytes();
        }
    }
    bytes
}

fn run(disk: &dyn Disk, thread: u64, seed: u64, operations: u64) -> Result<(), String> {
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let mut known = vec![Known::Nothing; (disk.size() / SECTOR_SIZE) as usize];
    let stripes = disk.size() / SECTOR_SIZE / STRIPE / THREADS;
    let failed = |what: &str, offset: u64, error: std::io::Error| format!("{what} at {offset:#x}: {error}");
    for number in 1..=operations {
        // Often in the first stripes, so that things happen again in the same place.
        let stripe = if random(2) == 0 { random(stripes) } else { random(stripes.min(40)) };
        let start = (stripe * THREADS + thread) * STRIPE + random(STRIPE);
        let end = (start + 1 + random(STRIPE)).min(((stripe * THREADS + thread) + 1) * STRIPE);
        let (offset, length) = (start * SECTOR_SIZE, (end - start) * SECTOR_SIZE);
        let mut set = |value| known[start as usize..end as usize].fill(value);
        match random(20) {
            0 => disk.flush().map_err(|error| failed("flush", offset, error))?,
            1..=2 => {
                disk.discard(offset, length).map_err(|error| failed("discard", offset, error))?;
                set(Known::Nothing);
            }
            3..=4 => {
                let may_unmap = random(2) == 0;
                disk.write_zeroes(offset, length, may_unmap).map_err(|error| failed("zeroes", offset, error))?;
                set(Known::Zero);
            }
            5..=11 => {
                let mut bytes = vec![0; length as usize];
                disk.read_at(offset, &mut bytes).map_err(|error| failed("read", offset, error))?;
                for (sector, found) in (start..end).zip(bytes.chunks_exact(SECTOR_SIZE as usize)) {
                    let known = known[sector as usize];
                    if known != Known::Nothing && content(sector, known) != found {
                        return Err(format!("sector {sector} is not what was written, operation {number}"));
                    }
                }
            }
            _ => {
                let value = Known::Number(number * THREADS + thread);
                let bytes: Vec<u8> = (start..end).flat_map(|sector| content(sector, value)).collect();
                disk.write_at(offset, &bytes).map_err(|error| failed("write", offset, error))?;
                set(value);
            }
        }
    }
    Ok(())
}
