//! `vervet disk`: images are made, described, converted and resized, and what would lose something is refused in a line.

use std::path::Path;
use std::process::Stdio;

use crate::command::{Folder, Outcome, run, vervet, wait};

/// Runs `vervet disk` in a folder.
fn disk(folder: &Folder, words: &[&str]) -> Outcome {
    let words: Vec<String> = words.iter().map(|word| word.replace("@", &format!("{}/", text(folder.path())))).collect();
    run(&[&["disk".to_owned()][..], &words].concat())
}

#[track_caller]
fn done(folder: &Folder, words: &[&str]) -> String {
    let outcome = disk(folder, words);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{words:?}");
    outcome.stdout
}

/// One line that holds all of `said`, and nothing has been changed.
#[track_caller]
fn refused(folder: &Folder, words: &[&str], said: &[&str]) {
    let before = files(folder);
    let outcome = disk(folder, words);
    assert_eq!(outcome.code, Some(1), "{words:?}: {}", outcome.stderr);
    assert!(outcome.stderr.starts_with("vervet: ") && outcome.stderr.lines().count() == 1, "{}", outcome.stderr);
    for part in said {
        assert!(outcome.stderr.contains(part), "{words:?}: no {part:?} in {}", outcome.stderr);
    }
    assert_eq!(outcome.stdout, "");
    assert!(files(folder) == before, "{words:?}");
}

/// The names and contents of all files.
fn files(folder: &Folder) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let entries = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(folder: &Folder, image: &str) -> serde_json::Value {
    serde_json::from_str(&done(folder, &["info", "--json", image])).unwrap()
}

#[test]
fn an_image_from_its_making_to_its_copy() {
    let folder = Folder::new();
    done(&folder, &["create", "@base.img", "8M", "--format", "raw"]);
    let mut content = vec![0; 8 << 20];
    content[..4].copy_from_slice(b"base");
    folder.file("base.img", &content);
    done(&folder, &["create", "@top", "--backing", "@base.img,format=raw"]);
    let chain = json(&folder, "@top");
    assert_eq!(chain.as_array().unwrap().len(), 2);
    assert_eq!((&chain[0]["format"], &chain[0]["virtual-size"]), (&"qcow2".into(), &(8 << 20).into()));
    assert_eq!((&chain[0]["cluster-size"], &chain[0]["version"]), (&65536.into(), &3.into()));
    assert_eq!((&chain[0]["backing-file"]["name"], &chain[0]["dirty"]), (&"base.img".into(), &false.into()));
    assert_eq!(
        (&chain[1]["format"], &chain[1]["in-use"], &chain[1]["obstacle"]),
        (&"raw".into(), &"no".into(), &serde_json::Value::Null)
    );
    let said = done(&folder, &["info", "@top"]);
    for part in ["qcow2, version 3", "8.00 MiB (8388608 bytes)", "base.img (raw)", "clean", "in use         nobody"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }

    let said = done(&folder, &["resize", "@top", "+1M"]);
    assert!(said.contains("9.00 MiB") && said.contains("8.00 MiB"), "{said}");
    content.resize(9 << 20, 0);
    done(&folder, &["convert", "@top", "@flat.img", "--format", "raw"]);
    assert!(std::fs::read(folder.path().join("flat.img")).unwrap() == content);
    done(&folder, &["convert", "@flat.img,format=raw", "@flat"]);
    done(&folder, &["convert", "@flat", "@again", "--format", "raw"]);
    assert!(std::fs::read(folder.path().join("again")).unwrap() == content);
    assert_eq!(json(&folder, "@flat").as_array().unwrap().len(), 1);
}

#[test]
fn what_would_lose_something_is_refused() {
    let folder = Folder::new();
    done(&folder, &["create", "@disk", "4M"]);
    folder.file("other", "somebody's");
    refused(&folder, &["create", "@disk", "8M"], &["disk", "exists already", "--force"]);
    refused(&folder, &["convert", "@disk", "@other"], &["other", "exists already", "--force"]);
    refused(&folder, &["convert", "@disk", "@disk", "--force"], &["disk", "in use"]);
    refused(&folder, &["resize", "@disk", "2M"], &["disk", "--shrink"]);
    done(&folder, &["resize", "@disk", "2M", "--shrink"]);
    folder.file("full.img", vec![1; 4 << 20]);
    refused(&folder, &["resize", "@full.img,format=raw", "2M", "--shrink"], &["full.img", "byte 2097152", "guest"]);
    let marked = folder.file("marked", vec![0; 4096]);
    let mut permissions = std::fs::metadata(&marked).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&marked, permissions).unwrap();
    refused(&folder, &["resize", "@marked,format=raw", "8M"], &["marked", "permissions"]);
    refused(&folder, &["create", "@marked", "8M", "--force"], &["marked", "permissions"]);
    done(&folder, &["create", "@other", "1M", "--force"]);
    assert_eq!(json(&folder, "@other")[0]["virtual-size"], 1 << 20);
}

#[test]
fn a_disk_in_use_is_not_touched() {
    let folder = Folder::new();
    done(&folder, &["create", "@disk", "4M"]);
    let path = folder.path().join("disk");
    let user = std::fs::File::open(&path).unwrap();
    user.lock().unwrap();
    refused(&folder, &["resize", "@disk", "8M"], &["disk", "in use"]);
    refused(&folder, &["convert", "@disk", "@copy"], &["disk", "in use"]);
    refused(&folder, &["create", "@disk", "8M", "--force"], &["disk", "in use"]);
    refused(&folder, &["create", "@top", "--backing", "@disk"], &["disk", "in use"]);
    assert_eq!(json(&folder, "@disk")[0]["in-use"], "written");
    // Others may read what nobody writes.
    user.unlock().unwrap();
    user.lock_shared().unwrap();
    done(&folder, &["convert", "@disk", "@copy"]);
    refused(&folder, &["resize", "@disk", "8M"], &["disk", "in use"]);
    assert_eq!(json(&folder, "@disk")[0]["in-use"], "read");
}

#[test]
fn images_that_are_none() {
    let folder = Folder::new();
    folder.file("text", "no image");
    refused(&folder, &["info", "@absent"], &["absent", "does not exist", "vervet disk create"]);
    refused(&folder, &["info", "@text,format=qcow2"], &["text", "no qcow2 image"]);
    refused(&folder, &["convert", "@text,format=qcow2", "@copy"], &["text", "no qcow2 image"]);
    refused(&folder, &["create", "@no/disk", "1M"], &["/no: cannot read"]);
    refused(&folder, &["create", "@disk", "1M", "--backing", "@absent"], &["absent", "does not exist"]);
    refused(&folder, &["create", "@raw", "1M", "--format", "raw", "--backing", "@text"], &["raw", "--backing"]);
    refused(&folder, &["create", "@huge", "16000000T"], &["huge", "smaller size"]);
    refused(&folder, &["resize", "@text,format=raw", "16000000T"], &["text", "smaller size"]);
    for (words, said) in [
        (&["create", "@x"][..], "<SIZE>"),
        (&["create", "@x", "0"], "some size"),
        (&["create", "@x", "1M", "--format", "vmdk"], "raw or qcow2"),
        (&["create", "@x", "1M", "--backing", "@text,readonly"], "format=raw|qcow2"),
        (&["resize", "@x", "-1M"], ""),
    ] {
        let outcome = disk(&folder, words);
        assert_eq!(outcome.code, Some(2), "{words:?}: {}", outcome.stderr);
        assert!(outcome.stderr.contains(said), "{words:?}: {}", outcome.stderr);
    }

    // A feature that is not supported is told, with what to do; so is a missing backing file.
    done(&folder, &["create", "@image", "1M"]);
    let sound = std::fs::read(folder.path().join("image")).unwrap();
    let cases = [
        (35, 2, "encryption", "luks"),
        (79, 1, "dirty", "not closed properly"),
        (79, 2, "corrupt", "damaged"),
        (79, 8, "compression", "compression type"),
        (79, 4, "external data file", "features       external data file"),
        (79, 16, "extended L2", "extended L2 entries"),
        (72, 1, "unknown", "unknown incompatible feature 56"),
        (23, 40, "clusters of 2^40", "1.00 TiB"),
    ];
    for (at, value, obstacle, said) in cases {
        let mut image = sound.clone();
        image[at] = value;
        folder.file("image", image);
        let told = done(&folder, &["info", "@image"]);
        assert!(told.contains(said) && told.contains("cannot be used") && told.contains(obstacle), "{told}");
        assert!(json(&folder, "@image")[0]["obstacle"].as_str().unwrap().contains(obstacle));
        refused(&folder, &["convert", "@image", "@copy"], &["image", obstacle]);
        refused(&folder, &["resize", "@image", "2M"], &["image", obstacle]);
    }
    folder.file("image", sound);
    done(&folder, &["create", "@top", "--backing", "@image"]);
    std::fs::remove_file(folder.path().join("image")).unwrap();
    let told = done(&folder, &["info", "@top"]);
    assert!(told.contains("cannot be used") && told.contains("image: does not exist"), "{told}");
    refused(&folder, &["convert", "@top", "@copy"], &["top: stands on another", "image: does not exist"]);
}

#[cfg(unix)]
#[test]
fn a_conversion_that_is_interrupted_leaves_nothing() {
    let folder = Folder::new();
    // Data that take long enough to be caught at it.
    let source = std::fs::File::create(folder.path().join("source")).unwrap();
    source.set_len(64 << 30).unwrap();
    for at in 0..2000 {
        std::os::unix::fs::FileExt::write_at(&source, b"x", at * (32 << 20)).unwrap();
    }
    let mut command = vervet();
    let (from, to) = (folder.path().join("source"), folder.path().join("target"));
    command.args(["disk", "convert", &format!("{},format=raw", text(&from)), text(&to)]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = crate::command::drain(child.stderr.take().unwrap());
    // It has begun once there is a second file.
    while std::fs::read_dir(folder.path()).unwrap().count() < 2 && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    let pid = rustix::process::Pid::from_child(&child);
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
    let code = wait(&mut child).code();
    let said = said.join().unwrap();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    // However quick it was: a whole image under its name, or nothing.
    match code {
        Some(0) => assert_eq!(left.len(), 2, "{left:?}"),
        Some(1) => assert!(left.len() == 1 && said.contains("interrupted"), "{left:?}: {said}"),
        _ => panic!("{code:?}: {said}"),
    }
}
