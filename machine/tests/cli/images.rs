//! Disk images and the machines made of them: what can be said without making one.

use std::path::Path;
use std::process::Stdio;

use crate::command::{Folder, drain, vervet, wait};

/// Runs `vervet` with folders of its own, which hold nothing, and a mirror that is not there.
fn run(home: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = vervet();
    command.args(arguments).env("VERVET_CACHE", home.join("cache")).env("VERVET_DATA", home.join("data"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = drain(child.stderr.take().unwrap());
    let code = wait(&mut child).code();
    (code, said.join().unwrap())
}

#[test]
fn what_cannot_be_built_is_said_in_a_line() {
    let folder = Folder::new();
    let private = folder.file("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n");
    let private = private.to_str().unwrap();
    let build = ["image", "build", "debian", "--mirror", "/absent"];
    let cases: [(&[&str], &str); 5] = [
        (&["--size", "1G"], "--size 8G"),
        (&["--user", "A B"], "begins with a lower-case letter"),
        (&["--ssh-key", private], "private key"),
        (&["--ssh-key", "/absent.pub"], "/absent.pub: cannot read"),
        // No mirror, or no keyring to check it by.
        (&[], "--"),
    ];
    for (arguments, said) in cases {
        let (code, message) = run(folder.path(), &[&build[..], arguments].concat());
        assert_eq!(code, Some(1), "{arguments:?}: {message}");
        assert!(message.contains(said), "{arguments:?}: {message}");
        assert!(message.starts_with("vervet: ") && message.lines().count() == 1, "{arguments:?}: {message}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("cache/images")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_machine_that_does_not_run_is_not_reached() {
    let folder = Folder::new();
    let (code, message) = run(folder.path(), &["ssh", "ls", "-l"]);
    assert_eq!((code, message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("vervet run debian"), "{message}");
}

#[test]
fn a_disk_needs_a_boot_loader() {
    let folder = Folder::new();
    let disk = folder.file("disk", [0; 4096]);
    let disk = disk.to_str().unwrap();
    let (code, message) = run(folder.path(), &["run", "--disk", &format!("{disk},format=raw"), "--mirror", "/absent"]);
    assert_eq!((code, message.lines().count()), (Some(1), 1), "{message}");
    assert!(message.contains("--loader FILE"), "{message}");
    let (code, message) = run(folder.path(), &["run", "--disk", disk, "--loader", disk]);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("accepted are"), "{message}");
    let (code, message) = run(folder.path(), &["run", "debian", "--kernel", disk]);
    assert_eq!(code, Some(2), "{message}");
}
