//! `--semihosting` as its users see it.

use crate::command::{Folder, run};
use crate::elf::Elf;

/// A program that writes its command line to the console and to the file `out`, reads a character and ends with its
/// code, or 9 at the end of the input.
fn program() -> Elf {
    Elf::assemble(
        "       csrr    t0, mhartid
        park:   bnez    t0, park
                li      a0, 0x15
                la      a1, line
                call    semihost
                li      a0, 4
                la      a1, text
                call    semihost
                li      a0, 1
                la      a1, open
                call    semihost
                la      a1, write
                sd      a0, 0(a1)
                la      t0, line
                ld      t0, 8(t0)
                sd      t0, 16(a1)
                li      a0, 5
                call    semihost
                li      a0, 7
                call    semihost
                la      a1, exit
                bgez    a0, 1f
                li      a0, 9
        1:      sd      a0, 8(a1)
                li      a0, 0x18
                call    semihost
                .balign 16
        semihost: slli  zero, zero, 0x1f
                ebreak
                srai    zero, zero, 7
                ret
                .balign 8
        line:   .dword  text, 1000
        open:   .dword  name, 4, 3
        name:   .asciz  \"out\"
                .balign 8
        write:  .dword  0, text, 0
        exit:   .dword  0x20026, 0
        text:   .space  1000",
    )
}

#[test]
fn a_program_uses_its_host_and_ends_with_its_code() {
    let folder = Folder::new();
    let file = folder.file("program", program().bytes());
    let file = file.to_str().unwrap();
    let files = Folder::new();
    let option = format!("--semihosting=folder={}", files.path().display());
    let outcome = run(&["run", "--bios", "none", "--kernel", file, &option, "--append", "one two"]);
    let expected = format!("{file} one two");
    // There is no input: the run ends by itself, too.
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(9), expected.as_str()), "{}", outcome.stderr);
    assert_eq!(std::fs::read_to_string(files.path().join("out")).unwrap(), expected);

    std::fs::write(files.path().join("out"), "kept").unwrap();
    let read_only = format!("{option},readonly");
    let outcome = run(&["run", "--bios", "none", "--kernel", file, &read_only]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(9), file));
    // Without a folder there are no files.
    let outcome = run(&["run", "--bios", "none", "--kernel", file, "--semihosting"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(9), file));
    assert_eq!(std::fs::read_to_string(files.path().join("out")).unwrap(), "kept");
}

#[test]
fn options_that_are_none_are_refused() {
    for (option, reason) in [
        ("--semihosting=folder=/nonexistent", "/nonexistent"),
        ("--semihosting=readonly", "folder=PATH"),
        ("--semihosting=everything", "userspace=on"),
    ] {
        let outcome = run(&["run", option]);
        assert!(matches!(outcome.code, Some(1 | 2)) && outcome.stderr.contains(reason), "{option}: {}", outcome.stderr);
    }
}
