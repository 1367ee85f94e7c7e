//! Runs the conformance programs on QEMU, as an independent judge, or writes their sources.
use std::path::PathBuf;
fn main() {
    let directory = PathBuf::from(std::env::args().nth(1).expect("directory"));
    for program in tests::conformance::programs() {
        std::fs::write(directory.join(format!("{}.s", program.name)), program.source()).unwrap();
    }
}
