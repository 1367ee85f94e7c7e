//! `vervet test`: verdicts, limits, JUnit reports, signatures and traces.

use std::path::PathBuf;

use crate::command::{Folder, run};
use crate::elf::Elf;

/// A program that writes `value` to `tohost`, with a signature.
fn reports(value: &str) -> Elf {
    Elf::assemble(&format!(
        "       li      t0, {value}
                la      t1, tohost
                sd      t0, 0(t1)
        rest:   j       rest
                .balign 64
        tohost: .dword  0
        fromhost: .dword 0
        begin_signature: .dword 0x1122334455667788, 0x99aabbccddeeff00
        end_signature:"
    ))
}

fn silent() -> Elf {
    Elf::assemble("rest: j rest\n.balign 64\ntohost: .dword 0")
}

/// Runs `vervet test` with options, separated by spaces, and programs.
fn test(options: &str, programs: &[&PathBuf]) -> crate::command::Outcome {
    let programs = programs.iter().map(|path| path.display().to_string());
    let options = options.split_whitespace().map(str::to_owned);
    let outcome = run(&["test".to_owned()].into_iter().chain(options).chain(programs).collect::<Vec<_>>());
    assert!(!outcome.stderr.contains("panicked"), "{}", outcome.stderr);
    outcome
}

#[test]
fn a_line_per_program_and_a_summary() {
    let folder = Folder::new();
    let good = folder.file("good", reports("1").bytes());
    let bad = folder.file("bad", reports("7").bytes());
    let other = folder.file("other", reports("1").bytes());
    let outcome = test("", &[&good, &other]);
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""));
    assert!(outcome.stdout.contains(&format!("{}: passed", good.display())), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("2 passed, 0 failed\n"), "{}", outcome.stdout);

    let report = folder.path().join("report.xml");
    let outcome = test(&format!("--jobs 2 --junit {}", report.display()), &[&good, &bad, &other]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains(&format!("{}: FAILED: exit code 3", bad.display())), "{}", outcome.stdout);
    assert!(outcome.stdout.ends_with("2 passed, 1 failed\n"), "{}", outcome.stdout);
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("tests=\"3\" failures=\"1\""), "{report}");
    assert!(report.contains("<failure message=\"FAILED: exit code 3\">"), "{report}");
    assert_eq!(report.matches("<testcase ").count(), 3, "{report}");
}

#[test]
fn silence_is_a_failure() {
    let folder = Folder::new();
    let silent = folder.file("silent", silent().bytes());
    let waiting = Elf::assemble("rest: wfi\nj rest\n.balign 64\ntohost: .dword 0");
    let waiting = folder.file("waiting", waiting.bytes());
    for program in [&silent, &waiting] {
        let outcome = test("--timeout 1", &[program]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stdout.contains("time limit"), "{}", outcome.stdout);
    }
    let outcome = test("--instructions 1000", &[&silent]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("instruction limit"), "{}", outcome.stdout);
    let off = Elf::assemble("li t0, 0x100000\nli t1, 0x5555\nsw t1, 0(t0)\nrest: j rest\n.balign 64\ntohost: .dword 0");
    let outcome = test("", &[&folder.file("off", off.bytes())]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stdout.contains("powered off"), "{}", outcome.stdout);
}

#[test]
fn what_is_no_test_program_fails_by_name() {
    let folder = Folder::new();
    let nameless = Elf { symbols: Vec::new(), ..reports("1") };
    let outside = Elf { symbols: vec![("tohost".into(), 0x1000)], ..reports("1") };
    let cases = [
        (folder.file("nameless", nameless.bytes()), "no symbol 'tohost'"),
        (folder.file("outside", outside.bytes()), "not in RAM"),
        (folder.file("text", "text"), "accepted are"),
        (folder.path().join("missing"), "cannot be read"),
        (folder.path().to_owned(), ""),
    ];
    for (path, said) in cases {
        let outcome = test("", &[&path]);
        assert_eq!(outcome.code, Some(1), "{}", outcome.stdout);
        assert!(outcome.stdout.contains("FAILED: ") && outcome.stdout.contains(said), "{}", outcome.stdout);
        assert!(outcome.stdout.contains(&path.display().to_string()), "{}", outcome.stdout);
        assert!(outcome.stdout.ends_with("0 passed, 1 failed\n"), "{}", outcome.stdout);
    }
    let outcome = test("", &[]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("<ELF>"), "{}", outcome.stderr);
}

#[test]
fn signatures_and_traces() {
    let folder = Folder::new();
    let program = folder.file("program", reports("1").bytes());
    let (signature, trace) = (folder.path().join("signature"), folder.path().join("trace"));
    let dump = |granularity: &str| {
        let options = format!("--signature {} --signature-granularity {granularity}", signature.display());
        assert_eq!(test(&options, &[&program]).code, Some(0));
        std::fs::read_to_string(&signature).unwrap()
    };
    assert_eq!(dump("4"), "55667788\n11223344\nddeeff00\n99aabbcc\n");
    assert_eq!(dump("8"), "1122334455667788\n99aabbccddeeff00\n");
    assert_eq!(dump("16"), "99aabbccddeeff001122334455667788\n");
    assert_eq!(test("--signature-granularity 3", &[&program]).code, Some(2));

    assert_eq!(test(&format!("--trace {}", trace.display()), &[&program]).code, Some(0));
    let trace = std::fs::read_to_string(&trace).unwrap();
    // The reset vector is logged too; then comes the program: hart, privilege, address, word, what changed.
    let line =
        trace.lines().find(|line| line.contains(": 3 0x0000000080000000 ")).expect("the program's first instruction");
    assert!(
        line.starts_with("core   0: 3 0x0000000080000000 (0x") && line.ends_with("x5  0x0000000000000001"),
        "{line}"
    );
    let store = trace.lines().rfind(|line| line.contains(" mem ")).expect("the store");
    assert!(store.contains("mem 0x0000000080000040 0x0000000000000001"), "{store}");

    let nowhere = folder.path().join("no/folder");
    for option in ["--junit", "--signature", "--trace"] {
        let outcome = test(&format!("{option} {}", nowhere.display()), &[&program]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.stderr.contains(&nowhere.display().to_string()), "{}", outcome.stderr);
    }
    let outcome = test(&format!("--trace {}", signature.display()), &[&program, &program]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.stderr.contains("single program"), "{}", outcome.stderr);
}
