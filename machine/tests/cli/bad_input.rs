//! Whatever is wrong with an argument or a file: one clear message, exit code 1 or 2, nothing else.

use std::path::Path;

use crate::command::{Folder, run};
use crate::elf::{Elf, RAM, Segment, echo};

/// A file is at fault: one line that holds all of `said`, exit code 1.
#[track_caller]
fn refused(arguments: &[&str], said: &[&str]) {
    let outcome = run(arguments);
    assert_eq!(outcome.code, Some(1), "{arguments:?}: {}", outcome.stderr);
    let line = outcome.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with("vervet: ") && !line.contains('\n'), "{arguments:?}: {}", outcome.stderr);
    for part in said {
        assert!(line.contains(part), "{arguments:?}: no {part:?} in: {line}");
    }
    if let Some((message, cause)) = line.rsplit_once(": ") {
        assert!(!message.contains(cause), "{arguments:?}: said twice: {line}");
    }
    assert_eq!(outcome.stdout, "", "{arguments:?}");
}

/// The command line is at fault: the parser's message, exit code 2.
#[track_caller]
fn misused(arguments: &[&str], said: &[&str]) {
    let outcome = run(arguments);
    assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.stderr);
    assert!(outcome.stderr.starts_with("error: "), "{arguments:?}: {}", outcome.stderr);
    assert!(!outcome.stderr.contains("panicked"), "{arguments:?}: {}", outcome.stderr);
    for part in said {
        assert!(outcome.stderr.contains(part), "{arguments:?}: no {part:?} in: {}", outcome.stderr);
    }
    assert_eq!(outcome.stdout, "", "{arguments:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A Linux `Image` header without a kernel that claims `size` bytes of memory.
fn linux_image(size: u64) -> Vec<u8> {
    let mut image = vec![0; 4096];
    image[8..16].copy_from_slice(&0x20_0000u64.to_le_bytes());
    image[16..24].copy_from_slice(&size.to_le_bytes());
    image[32..36].copy_from_slice(&2u32.to_le_bytes());
    image[48..53].copy_from_slice(b"RISCV");
    image[56..60].copy_from_slice(b"RSC\x05");
    image
}

#[test]
fn kernels_that_are_none() {
    let folder = Folder::new();
    let cases: [(&str, Vec<u8>, &[&str]); 9] = [
        ("empty", Vec::new(), &["empty", "accepted are"]),
        ("text", b"#!/bin/sh\n".repeat(10), &["accepted are"]),
        ("lz4", b"\x04\x22\x4d\x18".repeat(10), &["lz4", "gzip, xz or zstd"]),
        ("half", echo().bytes()[..100].to_vec(), &[]),
        ("gzip", b"\x1f\x8b\x08\0\0\0\0\0\0\x03abc".to_vec(), &["gzip", "damaged or truncated"]),
        ("elf32", Elf { class: 1, ..echo() }.bytes(), &["32", "accepted are"]),
        ("x86", Elf { machine: 62, ..echo() }.bytes(), &["accepted are"]),
        ("big", Elf { data: 2, ..echo() }.bytes(), &["accepted are"]),
        ("image", linux_image(3 << 30), &["-m"]),
    ];
    for (name, bytes, said) in cases {
        let path = folder.file(name, bytes);
        let said = [said, &[text(&path)]].concat();
        refused(&["run", "--kernel", text(&path)], &said);
        refused(&["run", "--bios", "none", "--kernel", text(&path)], &said);
    }
    let missing = folder.path().join("missing");
    refused(&["run", "--kernel", text(&missing)], &[text(&missing), "cannot be read"]);
    refused(&["run", "--kernel", text(folder.path())], &[text(folder.path())]);
    refused(&["run", "--bios", text(&missing)], &[text(&missing), "cannot be read"]);
    refused(&["run", "--bios", text(folder.path())], &[text(folder.path())]);
    refused(&["run", "--bios", "none"], &["--kernel"]);
}

#[test]
fn programs_that_do_not_fit() {
    let folder = Folder::new();
    let with = |change: &dyn Fn(&mut Elf)| {
        let mut elf = echo();
        change(&mut elf);
        elf.bytes()
    };
    let segment = |address, memory_size| Segment { address, bytes: vec![1; 16], memory_size };
    let cases = [
        ("overlap", with(&|elf| elf.segments.push(segment(RAM + 4, 16))), "overlap"),
        ("beyond", with(&|elf| elf.segments.push(segment(RAM + (1 << 30) - 8, 16))), "not in RAM"),
        ("below", with(&|elf| elf.segments.push(segment(0x1000, 16))), "not in RAM"),
        ("huge", with(&|elf| elf.segments[0].memory_size = 1 << 62), ""),
        ("wraps", with(&|elf| elf.segments.push(segment(u64::MAX - 8, 16))), ""),
        ("shrinks", with(&|elf| elf.segments[0].memory_size = 4), ""),
        ("entry", with(&|elf| elf.entry = RAM - 4), "entry point"),
        ("nothing", with(&|elf| elf.segments.clear()), ""),
    ];
    for (name, bytes, said) in cases {
        let path = folder.file(name, bytes);
        refused(&["run", "--bios", "none", "--kernel", text(&path)], &[said, text(&path)]);
    }
    let truncated = |length: usize| folder.file("truncated", &echo().bytes()[..length]);
    for length in [1, 4, 16, 63, 64, 100, 130] {
        let path = truncated(length);
        refused(&["run", "--bios", "none", "--kernel", text(&path)], &[text(&path)]);
    }
    let program = folder.file("program", echo().bytes());
    let large = folder.file("large", vec![0; 3 << 20]);
    let arguments = ["run", "-m", "4", "--initrd", text(&large), "--kernel", text(&program)];
    refused(&arguments, &["no room", "-m"]);
    let arguments = ["run", "-m", "2", "--initrd", text(&large), "--kernel", text(&program)];
    refused(&arguments, &[text(&large), "-m"]);
    let image = folder.file("image", linux_image(8 << 20));
    refused(&["run", "-m", "1", "--kernel", text(&image)], &[text(&image), "-m"]);
    refused(&["run", "--kernel", text(&program), "--initrd", text(folder.path())], &["cannot be read"]);
    refused(&["run", "--kernel", text(&program), "--dtb", text(&large)], &["larger than any device tree"]);
    let dtb = folder.file("dtb", b"no device tree");
    refused(&["run", "--kernel", text(&program), "--dtb", text(&dtb)], &[text(&dtb)]);
    let nowhere = folder.path().join("no/folder");
    refused(&["run", "--kernel", text(&program), "--dump-dtb", text(&nowhere)], &["cannot be written"]);
}

#[test]
fn disks_that_are_none() {
    let folder = Folder::new();
    let program = folder.file("program", echo().bytes());
    let run = |disks: &[&str], said: &[&str]| {
        let disks = disks.iter().flat_map(|disk| ["--disk", disk]);
        let arguments: Vec<&str> = ["run", "--kernel", text(&program)].into_iter().chain(disks).collect();
        refused(&arguments, said);
    };
    let missing = folder.path().join("missing");
    run(&[text(&missing)], &[text(&missing), "does not exist"]);
    run(&[text(folder.path())], &[text(folder.path()), "is no file"]);
    let empty = folder.file("empty", "");
    run(&[text(&empty)], &[text(&empty), "is empty"]);
    let disk = folder.file("disk", [0; 4096]);
    let raw = format!("{},format=raw", text(&disk));
    run(&[&raw, &raw], &[text(&disk), "in use"]);
    run(&[&raw, &format!("{raw},snapshot")], &[text(&disk), "in use"]);
    run(&[&format!("{},format=qcow2", text(&disk))], &[text(&disk), "no qcow2 image", "format=raw"]);
    // A qcow2 header, version 3, that asks for an incompatible feature.
    for (feature, said) in
        [(1, "qemu-img check -r all"), (4, "external data file"), (8, "compression"), (16, "extended L2")]
    {
        let mut header = [0; 4096];
        header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        header[79] = feature;
        let image = folder.file("image", header);
        run(&[text(&image)], &[text(&image), said]);
    }
    let mut header = [0xff; 4096];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    header[32..36].fill(0);
    let image = folder.file("image", header);
    run(&[text(&image)], &[text(&image), "qemu-img check"]);
    // What is at fault is not the disk's own file.
    let mut command = crate::command::vervet();
    command.args(["run", "--kernel", text(&program), "--disk", &format!("{raw},snapshot")]).env("TMPDIR", &missing);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(!cfg!(unix) || said.contains(&format!("temporary file in {}", text(&missing))), "{said}");
    let option = |option: &str, said: &str| {
        misused(&["run", "--kernel", text(&program), "--disk", &format!("{},{option}", text(&missing))], &[said]);
    };
    option("frmat=raw", "unknown option \"frmat=raw\"");
    option("format=vmdk", "raw or qcow2");
    option("cache=unsafe", "writeback or none");
    option("serial=123456789012345678901", "20");
    let mut permissions = std::fs::metadata(&disk).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&disk, permissions).unwrap();
    run(&[text(&disk)], &[text(&disk), "permissions", ",readonly"]);
    let readonly = format!("{},readonly", text(&disk));
    let tree = folder.path().join("tree");
    let arguments = ["run", "--kernel", text(&program), "--disk", &readonly, "--dump-dtb", text(&tree)];
    assert_eq!(crate::command::run(&arguments).code, Some(0), "read-only, as was asked for");
}

#[test]
fn options_that_are_none() {
    let folder = Folder::new();
    let program = folder.file("program", echo().bytes());
    let program = text(&program);
    misused(&["run", "--nonsense"], &["--nonsense"]);
    misused(&["nonsense"], &["nonsense"]);
    misused(&["run", "-m", "10E"], &["10E", "unknown unit 'E'"]);
    misused(&["run", "-m", "-5"], &[]);
    misused(&["run", "-m", "99999999999T"], &["99999999999T"]);
    misused(&["run", "--cpu", "z80"], &["z80"]);
    misused(&["run", "--cpu", "max,nonsense=on"], &["nonsense"]);
    misused(&["run", "--engine", "magic"], &["magic", "interpreter"]);
    misused(&["run", "--initrd", program], &["--kernel"]);
    misused(&["run", "--smp", "many", "--kernel", program], &["many"]);
    refused(&["run", "--smp", "0", "--kernel", program], &["0 harts"]);
    refused(&["run", "--smp", "513", "--kernel", program], &["513 harts"]);
    refused(&["run", "-m", "0", "--kernel", program], &[]);
    refused(&["run", "--lockstep", "--engine", "jit", "--smp", "2", "--kernel", program], &["2 harts", "--smp 1"]);
    refused(&["run", "--lockstep", "--engine", "interpreter", "--kernel", program], &["--engine jit"]);
    // More than a host's address space has.
    refused(&["run", "-m", "1000000T", "--bios", "none", "--kernel", program], &["RAM"]);
}
