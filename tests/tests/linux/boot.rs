//! Debian's kernel boots to a shell on the built-in SBI, works with a disk, idles, restarts and powers off.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::PowerRequest;
use devices::backend::disk::RawDisk;
use machine::board::virt::Slot;
use sha2::{Digest, Sha256};

use crate::guest::{Guest, kernel};

const MIB: u64 = 1 << 20;

/// An image of `size` bytes that holds `bytes` at `offset`.
fn image(size: u64, offset: u64, bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(size).unwrap();
    image.seek(SeekFrom::Start(offset)).unwrap();
    image.write_all(bytes).unwrap();
    image
}

fn disk(path: &Path, serial: &str) -> Slot {
    Slot::Disk(Arc::new(RawDisk::open(path, false).unwrap()), serial.into())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_shell_answers_and_its_files_reach_the_disks() {
    // Every 32-bit number is another, so that no sector looks like another.
    let numbers: Vec<u8> = (0..MIB as u32).flat_map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let raw = image(16 * MIB, MIB, &numbers);
    let formatted = image(32 * MIB, 0, &[]);
    let slots = vec![disk(raw.path(), "raw"), disk(formatted.path(), "formatted"), Slot::Rng, Slot::Console];
    let mut guest = Guest::new(kernel(), slots);
    guest.boot();

    let answer = guest.run("echo the answer is $((6 * 7)) on $(uname -m)");
    assert!(answer.contains("the answer is 42 on riscv64"), "{answer}");

    let sum = guest.run("dd if=/dev/vda bs=1M skip=1 count=4 2>/dev/null | sha256sum");
    assert!(sum.contains(&sha256(&numbers)), "what the host wrote: {sum}");
    guest.run("dd if=/dev/urandom of=/tmp/random bs=64k count=64 2>/dev/null");
    let sum = guest.run("sha256sum /tmp/random");
    guest.run("dd if=/tmp/random of=/dev/vda bs=1M seek=8 conv=notrunc,fsync");

    guest.run("mke2fs /dev/vdb >/dev/null && mount -t ext4 /dev/vdb /mnt");
    guest.run("echo written by the guest: $((111 * 111)) >/mnt/note && umount /mnt");
    guest.assert_kernel_is_content();
    guest.power_off();

    let mut written = vec![0; 4 * MIB as usize];
    let mut file = raw.reopen().unwrap();
    file.seek(SeekFrom::Start(8 * MIB)).unwrap();
    file.read_exact(&mut written).unwrap();
    assert!(sum.contains(&sha256(&written)), "what the guest wrote");
    file.seek(SeekFrom::Start(MIB)).unwrap();
    file.read_exact(&mut written).unwrap();
    assert!(written == numbers, "what the guest did not write is as before");

    // The file's content begins a block of its file system.
    let file_system = std::fs::read(formatted.path()).unwrap();
    let content = b"written by the guest: 12321\n\0";
    assert!(file_system.chunks(1024).any(|block| block.starts_with(content)), "the file is not on the disk");
}

#[test]
fn an_idle_guest_rests_and_a_restarted_one_begins_anew() {
    let mut guest = Guest::new(kernel(), vec![Slot::Rng]);
    guest.boot();
    guest.run("touch /tmp/mark");

    let mut retired = || {
        guest.board.machine.pause().unwrap();
        let retired = guest.board.machine.cores()[0].hart.counts().retired;
        guest.board.machine.start().unwrap();
        retired
    };
    // Start-up work in the background is over sooner or later. A hart that does not wait in `wfi` retires some hundred
    // million instructions in each second.
    let seconds = std::iter::repeat_with(|| {
        let before = retired();
        std::thread::sleep(Duration::from_secs(1));
        retired() - before
    });
    let busy: Vec<u64> = seconds.take(30).take_while(|count| *count > 5_000_000).collect();
    assert!(busy.len() < 30, "never idle: instructions in each second: {busy:?}");

    // It starts again from what waited outside of memory.
    guest.board.put_away();
    guest.type_line("reboot");
    // The shell still prompts before that.
    guest.expect("reboot: Restarting system");
    guest.expect_power(PowerRequest::Reset);
    guest.board.reset();
    guest.boot();
    guest.run("test ! -e /tmp/mark");
    guest.assert_kernel_is_content();
    guest.power_off();
}
