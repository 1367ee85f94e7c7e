//! Files that a user names: kernels, firmware, device trees, packages. The first byte says which.
#![no_main]

use std::io::Write;

use bus::Ram;
use firmware::device_tree::{Chosen, amend};
use firmware::image::{ImageError, Program, Room, firmware_from_bytes, kernel_from_bytes};
use libfuzzer_sys::fuzz_target;
use packages::{FileTree, Initramfs, Limits};

const BASE: u64 = 0x8000_0000;
const SIZE: u64 = 4 << 20;

fuzz_target!(|data: &[u8]| {
    let Some((kind, bytes)) = data.split_first() else { return };
    let room = Room { ram: BASE..BASE + SIZE, lowest: BASE + (2 << 20) };
    match kind {
        b'k' => check(kernel_from_bytes("kernel", bytes.to_vec(), &room), &room),
        b'f' => check(firmware_from_bytes("firmware", bytes.to_vec(), &room), &room),
        b'd' => device_tree(bytes),
        b'p' => package(bytes),
        _ => {}
    }
});

fn one_line(message: &str) {
    assert!(!message.is_empty() && !message.contains(char::is_control) && message.len() < 2000, "{message:?}");
}

fn check(program: Result<Program, ImageError>, room: &Room) {
    let program = match program {
        Ok(program) => program,
        Err(error) => return one_line(&error.to_string()),
    };
    let range = program.range();
    assert!(room.ram.start <= range.start && range.end <= room.ram.end, "{range:x?}");
    assert!(range.contains(&program.entry()) && program.entry().is_multiple_of(2));
    let _ = program.symbol("tohost");
    program.place(&Ram::new(BASE, SIZE).expect("memory"));
    // Another machine's RAM, which is too small.
    program.place(&Ram::new(BASE, SIZE / 2).expect("memory"));
}

fn device_tree(bytes: &[u8]) {
    let chosen = Chosen {
        bootargs: "console=ttyS0".into(),
        initrd: Some(0x8100_0000..0x8200_0000),
        stdout_path: Some("/soc/serial@10000000".into()),
        rng_seed: Some([7; 64]),
    };
    match amend("tree", bytes, &chosen) {
        Ok(amended) => {
            let again = amend("tree", &amended, &chosen).expect("what was written can be read");
            assert_eq!(again, amended, "the same amendment changes nothing");
        }
        Err(error) => one_line(&error.to_string()),
    }
}

fn package(bytes: &[u8]) {
    let limits = Limits { entries: 100, bytes: 4 << 20 };
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("room on the disk");
    let mut tree = FileTree::new();
    match packages::unpack(file.path(), &mut tree, &limits) {
        Ok(()) => {
            let mut archive = Initramfs::new();
            archive.tree().merge(&tree).expect("what unpacks can be packed");
            let packed = archive.to_bytes().expect("what unpacks can be packed");
            assert!(packed.len() as u64 <= 2 * limits.bytes);
        }
        Err(error) => one_line(&error.to_string()),
    }
}
