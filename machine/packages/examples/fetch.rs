//! Fetches packages with everything that they depend on and says where they lie; without names, makes the quick start.

use packages::{Archive, Settings, quick_start};

fn main() -> packages::Result<()> {
    let names: Vec<String> = std::env::args().skip(1).collect();
    let settings = Settings::default();
    if names.is_empty() {
        let ready = quick_start(&settings)?;
        println!("{}\n{}", ready.kernel.display(), ready.initrd.display());
        return Ok(());
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for package in Archive::open(&settings)?.fetch_closure(&names)? {
        println!("{} {} {}", package.name, package.version, package.path.display());
    }
    Ok(())
}
