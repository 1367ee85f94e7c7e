//! `fetch [--mirror URL] [--into FOLDER] [PACKAGE…]`: fetches packages with everything that they depend on and says where
//! they lie, or unpacks them into an empty folder; without names, makes the quick start.

use std::path::Path;
use std::process::ExitCode;

use packages::{Archive, Limits, Settings, quick_start, unpack_to_folder};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fetch: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> packages::Result<()> {
    let mut settings = Settings::default();
    let mut folder = None;
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--mirror" => settings.mirror = arguments.next(),
            "--into" => folder = arguments.next(),
            _ => names.push(argument),
        }
    }
    if names.is_empty() {
        let ready = quick_start(&settings)?;
        println!("{}\n{}", ready.kernel.display(), ready.initrd.display());
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let packages = Archive::open(&settings)?.fetch_closure(&names)?;
    for package in &packages {
        println!("{} {} {}", package.name, package.version, package.path.display());
    }
    if let Some(folder) = folder {
        let debs = packages.iter().map(|package| package.path.as_path());
        let tree = unpack_to_folder(debs, Path::new(&folder), &Limits::default())?;
        println!("{} files in {folder}", tree.iter().count());
    }
    Ok(())
}
