//! The power key: how a guest is asked to shut down, and what becomes of one that does not.

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::command::{Folder, vervet};
use crate::pseudo_terminal::{Session, send};

/// Loads the key's driver and shows each event's type, code and value. The first press ends it, unless `stubborn` is on
/// the kernel's command line.
const INIT: &str = "#!/bin/busybox sh
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
busybox mkdir -p /dev /proc
busybox mount -t devtmpfs devtmpfs /dev
busybox mount -t proc proc /proc
for module in virtio_mmio virtio_input evdev; do busybox modprobe $module; done
exec 3</dev/input/event0
echo listening
while busybox dd bs=24 count=1 <&3 2>/dev/null | busybox od -A n -t u2 -j 16; do
    busybox grep -q stubborn /proc/cmdline || busybox poweroff -f
done
";

/// Kernel and initramfs.
fn guest() -> &'static (Folder, PathBuf, PathBuf) {
    static FILES: OnceLock<(Folder, PathBuf, PathBuf)> = OnceLock::new();
    FILES.get_or_init(|| {
        let folder = Folder::new();
        let init = folder.file("init", INIT);
        let initrd = folder.path().join("key.cpio");
        let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
        run(vervet().args(["packages", "quick-start"]).arg(folder.path()));
        let mut command = vervet();
        command.args(["packages", "initramfs", "busybox-static", "--init"]).arg(init).arg("-o").arg(&initrd);
        for module in ["virtio_mmio", "virtio_input", "evdev"] {
            command.args(["--module", module]);
        }
        run(&mut command);
        let kernel = folder.path().join("Image");
        (folder, kernel, initrd)
    })
}

/// A guest that listens to its power key.
fn start(append: &str, options: &[&str]) -> Session {
    let (_, kernel, initrd) = guest();
    let mut command = vervet();
    command.arg("run").arg("--kernel").arg(kernel).arg("--initrd").arg(initrd);
    command.args(["--append", &format!("console=ttyS0 quiet {append}")]).args(options);
    let mut session = Session::start(&mut command);
    session.expect("listening");
    session
}

/// A key event: type 1, code 116, value 1.
const PRESSED: &str = "1   116     1";

#[test]
fn sigterm_and_the_escape_key_let_the_guest_shut_down() {
    let mut session = start("", &[]);
    send(&session.child, Signal::TERM);
    session.expect("asked to shut down");
    session.expect(PRESSED);
    assert_eq!(session.end().code(), Some(0));
    let mut session = start("", &[]);
    session.type_keys(b"\x01p");
    session.expect(PRESSED);
    assert_eq!(session.end().code(), Some(0));
    let mut session = start("", &[]);
    // The terminal's driver and the shell both tell it.
    send(&session.child, Signal::HUP);
    session.expect("asked");
    send(&session.child, Signal::HUP);
    session.expect(PRESSED);
    assert_eq!(session.end().code(), Some(0));
}

#[test]
fn a_guest_that_does_not_shut_down_is_ended() {
    let mut session = start("stubborn", &["--grace", "2"]);
    let asked = Instant::now();
    send(&session.child, Signal::TERM);
    session.expect(PRESSED);
    session.expect("has not shut down within 2 s");
    assert_eq!(session.end().signal(), Some(Signal::TERM.as_raw()));
    assert!(asked.elapsed() >= Duration::from_secs(2));
    let mut session = start("stubborn", &["--grace", "100000000000000000"]);
    session.type_keys(b"\x01p");
    session.expect(PRESSED);
    session.type_keys(b"\x01p");
    assert_eq!(session.end().code(), Some(0), "asked twice");
    let mut session = start("stubborn", &[]);
    send(&session.child, Signal::TERM);
    session.expect(PRESSED);
    session.type_keys(b"\x01x");
    assert_eq!(session.end().signal(), Some(Signal::TERM.as_raw()));
}
