//! Debian's OpenSBI runs in M-mode and starts the kernel that the built-in SBI starts otherwise.

use std::sync::Arc;

use firmware::image;
use machine::board::virt::{self, Boot};
use packages::{Archive, FileTree, Kind};

use crate::guest::{COMMAND_LINE, Guest, MEMORY, quick_start, settings};

/// Boots the kernel by a firmware file of the package to the shell, uses that, and powers off.
fn boots(name: &str) {
    let package = Archive::open(&settings()).unwrap().fetch_one("opensbi").unwrap();
    let mut tree = FileTree::new();
    package.unpack(&mut tree).unwrap();
    let path = format!("usr/lib/riscv64-linux-gnu/opensbi/generic/{name}");
    let node = tree.follow(&path).unwrap_or_else(|| panic!("{path} is not in the package"));
    let Kind::File(content) = &node.kind else { panic!("{path} is no file") };
    let bytes = content.bytes().unwrap().into_owned();
    let firmware = image::firmware_from_bytes(name, bytes, &virt::bare_room(MEMORY)).unwrap();
    let (kernel, initrd) = quick_start();
    let mut guest = Guest::new(
        Boot::Firmware {
            firmware: Arc::new(firmware),
            kernel: Some(kernel),
            initrd: Some(initrd),
            command_line: COMMAND_LINE.into(),
        },
        Vec::new(),
    );
    let greeting = guest.boot();
    assert!(greeting.contains("OpenSBI v1."), "{greeting}");
    let log = guest.run("dmesg");
    assert!(log.contains("SBI implementation ID=0x1 "), "the kernel found another SBI: {log}");
    guest.assert_kernel_is_content();
    guest.power_off();
}

#[test]
fn fw_dynamic_boots_linux() {
    boots("fw_dynamic.bin");
}

#[test]
fn fw_jump_boots_linux() {
    boots("fw_jump.elf");
}
