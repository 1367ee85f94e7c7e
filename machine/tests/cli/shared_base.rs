//! Several guests at once, each on an overlay of its own over one base: what becomes of one is nothing to the others.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::command::{Folder, run, vervet};
use crate::pseudo_terminal::Session;

const PROMPT: &str = "vervet:~# ";
const SIZE: usize = 16 << 20;
/// Where a guest writes first, and then; in MiB.
const FIRST: usize = 4;
const SECOND: usize = 9;

#[track_caller]
fn done(words: &[&str]) {
    let outcome = run(words);
    assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Has the shell run a command, which has to succeed.
fn command(session: &mut Session, line: &str) -> String {
    // The echo of the command does not hold what the shell makes of it.
    session.type_keys(format!("{line}; echo \"<$?>\"\r").as_bytes());
    let output = session.expect(PROMPT);
    assert!(output.contains("<0>"), "{line}: {output}");
    output
}

/// Has a guest fill a MiB of its disk with its number.
fn write(session: &mut Session, number: usize, place: usize) {
    let byte = char::from(b'0' + number as u8);
    let fill = format!("tr '\\0' {byte} </dev/zero | dd of=/dev/vda bs=64k count=16 iflag=fullblock");
    command(session, &format!("{fill} seek={} conv=notrunc,fsync 2>/dev/null", place * 16));
}

#[test]
fn killing_one_harms_no_other() {
    let folder = Folder::new();
    let at = |name: &str| folder.path().join(name);
    done(&["packages", "quick-start", text(folder.path())]);
    let content: Vec<u8> = (0..SIZE as u32 / 4).flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    let base = folder.file("base", &content);
    let start = |number: usize| {
        let mut command = vervet();
        command.args(["run", "-m", "128M", "--net", "none", "--append", "console=ttyS0 quiet"]);
        command.arg("--kernel").arg(at("Image")).arg("--initrd").arg(at("initrd.cpio"));
        command.args(["--disk", text(&at(&format!("disk{number}")))]);
        Session::start(&mut command)
    };
    for number in 1..=3 {
        let backing = format!("{},format=raw", text(&base));
        done(&["disk", "create", text(&at(&format!("disk{number}"))), "--backing", &backing]);
    }
    let mut guests: Vec<Session> = (1..=3).map(start).collect();
    for (number, guest) in (1..).zip(&mut guests) {
        guest.expect(PROMPT);
        write(guest, number, FIRST);
    }
    // The base cannot be pulled away from under them.
    let outcome = run(&["disk", "resize", text(&base), "1M", "--shrink"]);
    assert!(outcome.code == Some(1) && outcome.stderr.contains("in use"), "{}", outcome.stderr);

    let mut killed = guests.remove(1);
    killed.child.kill().unwrap();
    killed.child.wait().unwrap();
    for (number, guest) in [1, 3].into_iter().zip(&mut guests) {
        write(guest, number, SECOND);
    }
    // What was killed starts again, and finds what it had synced.
    let mut again = start(2);
    again.expect(PROMPT);
    let found = command(
        &mut again,
        &format!("dd if=/dev/vda bs=64k count=1 skip={} 2>/dev/null | tr -d 2 | wc -c", FIRST * 16),
    );
    assert!(found.lines().any(|line| line.trim() == "0"), "{found}");
    write(&mut again, 2, SECOND);
    guests.insert(1, again);
    for mut guest in guests {
        guest.type_keys(b"poweroff\r");
        assert_eq!(guest.end().code(), Some(0));
    }

    assert!(std::fs::read(&base).unwrap() == content, "the base is as it was");
    for number in 1..=3 {
        let flat = at("flat");
        done(&["disk", "convert", text(&at(&format!("disk{number}"))), text(&flat), "--format", "raw", "--force"]);
        let mut expected = std::io::Cursor::new(content.clone());
        for place in [FIRST, SECOND] {
            expected.seek(SeekFrom::Start((place << 20) as u64)).unwrap();
            expected.write_all(&vec![b'0' + number as u8; 1 << 20]).unwrap();
        }
        assert!(std::fs::read(&flat).unwrap() == expected.into_inner(), "disk {number}");
    }
}
