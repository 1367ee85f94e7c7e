//! `vervet disk`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, Subcommand};
use devices::backend::disk::info::{Chain, Info, Usage, inspect};
use devices::backend::disk::{Format, Image, Options, SECTOR_SIZE, create, image};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use super::{interrupt, print_line, size};
use crate::image::extent;

#[derive(Debug, Args)]
pub struct DiskCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an empty disk image, or one that holds the differences from another
    Create {
        /// The file to make
        file: PathBuf,

        /// Size of the disk, such as 8G; without a unit, MiB [default: that of the backing file]
        #[arg(value_parser = disk_size, required_unless_present = "backing")]
        size: Option<u64>,

        /// The image's format: qcow2, whose file takes only what was written, or raw, which other programs understand
        /// without knowing any format
        #[arg(long, value_name = "raw|qcow2", default_value = "qcow2")]
        format: Format,

        /// The image that the new one holds the differences from; it must not change any more. Its content tells its
        /// format if format= does not
        #[arg(long, value_name = "FILE[,format=raw|qcow2]", value_parser = ImageName::parser())]
        backing: Option<ImageName>,

        /// Replace a file that is there, unless somebody uses it
        #[arg(long)]
        force: bool,
    },
    /// Tell format, sizes and features of an image, who uses it, and what it stands on
    Info {
        /// The image; its content tells its format if format= does not
        #[arg(value_name = "FILE[,format=raw|qcow2]", value_parser = ImageName::parser())]
        image: ImageName,

        /// Write JSON: an array, the image first, then each one that it stands on
        #[arg(long)]
        json: bool,
    },
    /// Copy the disk in an image to an image that stands by itself, without what is zero
    Convert {
        /// The image to read, with all that it stands on; its content tells its format if format= does not
        #[arg(value_name = "SOURCE[,format=raw|qcow2]", value_parser = ImageName::parser())]
        source: ImageName,

        /// The file to make; it gets its name when it is whole
        target: PathBuf,

        /// Its format
        #[arg(long, value_name = "raw|qcow2", default_value = "qcow2")]
        format: Format,

        /// Replace a file that is there, unless somebody uses it
        #[arg(long)]
        force: bool,
    },
    /// Change the size of the disk in an image that nobody uses; partitions and file systems are the guest's to resize
    Resize {
        /// The image; its content tells its format if format= does not
        #[arg(value_name = "FILE[,format=raw|qcow2]", value_parser = ImageName::parser())]
        image: ImageName,

        /// The new size, such as 16G, or with + by how much it is to grow
        #[arg(value_name = "[+]SIZE", value_parser = NewSize::parse)]
        size: NewSize,

        /// Let it become smaller, if no partition, no file system and no data are lost that can be seen. The end of a
        /// GPT moves along; the file of a qcow2 image becomes no shorter
        #[arg(long)]
        shrink: bool,
    },
}

impl DiskCommand {
    pub fn execute(self) -> anyhow::Result<u8> {
        match self.action {
            Action::Create { file, size, format, backing, force } => create_image(&file, size, format, backing, force)?,
            Action::Info { image, json } => tell(&image, json)?,
            Action::Convert { source, target, format, force } => convert(&source, &target, format, force)?,
            Action::Resize { image, size, shrink } => resize(&image, size, shrink)?,
        }
        Ok(0)
    }
}

/// A size that a disk can have, in bytes.
fn disk_size(text: &str) -> Result<u64, String> {
    // Units are powers of 1024, so it is a number of sectors.
    size::parse(text).and_then(|bytes| if bytes == 0 { Err("a disk has some size".into()) } else { Ok(bytes) })
}

/// An image on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ImageName {
    path: PathBuf,
    format: Option<Format>,
}

impl ImageName {
    fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|value| Self::parse(value, Path::exists))
    }

    /// A path may hold commas: what is no option belongs to it, if there is such a file.
    fn parse(value: OsString, exists: impl Fn(&Path) -> bool) -> Result<Self, String> {
        let whole = PathBuf::from(&value);
        let option = value.to_str().and_then(|text| text.rsplit_once(',')).filter(|_| !exists(&whole));
        let Some((path, option)) = option else { return Ok(Self { path: whole, format: None }) };
        let Some(format) = option.strip_prefix("format=") else {
            return Err(format!("unknown option \"{option}\": there is format=raw|qcow2"));
        };
        Ok(Self { path: path.into(), format: Some(format.parse()?) })
    }

    fn open(&self, read_only: bool) -> anyhow::Result<Image> {
        // The superuser may write what is marked otherwise; the mark was made for a reason: others stand on it.
        let marked = || std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.permissions().readonly());
        if !read_only && marked() {
            bail!(
                "disk image {}: is read-only; change its permissions, if no other image stands on it",
                self.path.display()
            );
        }
        Ok(Image::open(&self.path, &Options { format: self.format, read_only, ..Options::default() })?)
    }
}

/// A size to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewSize {
    Whole(u64),
    More(u64),
}

impl NewSize {
    fn parse(text: &str) -> Result<Self, String> {
        match text.strip_prefix('+') {
            Some(more) => disk_size(more).map(NewSize::More),
            None => disk_size(text).map(NewSize::Whole),
        }
    }
}

fn create_image(
    file: &Path,
    size: Option<u64>,
    format: Format,
    backing: Option<ImageName>,
    force: bool,
) -> anyhow::Result<()> {
    packages::clear_leftovers(file)?;
    match (backing, size) {
        (Some(backing), _) if format != Format::Qcow2 => {
            bail!(
                "disk image {}: a raw image stands on no other ({}); leave --backing out, or make it a qcow2 image",
                file.display(),
                backing.path.display()
            );
        }
        (Some(backing), size) => create::overlay(file, &backing.path, backing.format, size, force)?,
        // The command line asks for one of them.
        (None, size) => create::image(file, format, size.unwrap_or_default(), force)?,
    }
    Ok(())
}

fn convert(source: &ImageName, target: &Path, format: Format, force: bool) -> anyhow::Result<()> {
    packages::clear_leftovers(target)?;
    let source = source.open(true)?;
    let stop = Arc::new(AtomicBool::new(false));
    interrupt::raise(&stop).context("signals cannot be caught")?;
    let bar = ProgressBar::new(source.disk().size());
    // A template that is refused would only cost the looks; without a terminal nothing is drawn.
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {binary_bytes:>10}/{binary_total_bytes:10} {eta:>4}") {
        bar.set_style(style);
    }
    let result = image::convert(&source, target, format, force, &mut |done| {
        bar.set_position(done);
        !stop.load(Ordering::Relaxed)
    });
    bar.finish_and_clear();
    Ok(result?)
}

fn resize(name: &ImageName, size: NewSize, shrink: bool) -> anyhow::Result<()> {
    let mut image = name.open(false)?;
    let old = image.disk().size();
    let size = match size {
        NewSize::Whole(size) => size,
        // More than any disk has is refused below.
        NewSize::More(more) => old.saturating_add(more) / SECTOR_SIZE * SECTOR_SIZE,
    };
    let path = name.path.display();
    // Before anything is written.
    image.check_resize(&name.path, size)?;
    if size < old {
        if !shrink {
            bail!(
                "disk image {path}: is larger ({}), and what lies past the new end would be lost; --shrink looks and does it",
                in_words(old)
            );
        }
        extent::prepare_end(&image, size).with_context(|| format!("disk image {path}"))?;
    }
    image.resize(&name.path, size)?;
    print_line(format_args!("{path}: {}, was {}", in_words(size), in_words(old)))
}

fn in_words(bytes: u64) -> String {
    format!("{} ({bytes} bytes)", BinaryBytes(bytes))
}

fn tell(name: &ImageName, json: bool) -> anyhow::Result<()> {
    let chain = inspect(&name.path, name.format)?;
    if json {
        let images: Vec<_> = chain.images.iter().map(|info| as_json(info, &chain)).collect();
        return print_line(format_args!("{:#}", Value::from(images)));
    }
    for (number, info) in chain.images.iter().enumerate() {
        if number != 0 {
            print_line("")?;
        }
        describe(info, &chain)?;
    }
    Ok(())
}

/// What keeps an image from being opened.
fn obstacle(info: &Info, chain: &Chain) -> Option<String> {
    let last = chain.images.last().is_some_and(|last| std::ptr::eq(last, info));
    let below = chain.broken.as_ref().filter(|_| last).map(ToString::to_string);
    info.obstacle.as_ref().map(ToString::to_string).or(below)
}

fn usage(info: &Info) -> &'static str {
    match info.usage {
        Usage::Free => "nobody",
        Usage::Read => "read by somebody",
        Usage::Written => "written by somebody",
        Usage::Unknown => "unknown (the host has no locks there)",
    }
}

fn describe(info: &Info, chain: &Chain) -> anyhow::Result<()> {
    let row = |name: &str, value: &dyn std::fmt::Display| print_line(format_args!("{name:<14} {value}"));
    row("image", &info.path.display())?;
    match &info.header {
        Some(header) => row("format", &format_args!("qcow2, version {}", header.version))?,
        None => row("format", &info.format.name())?,
    }
    row("disk size", &in_words(info.size))?;
    row("takes", &in_words(info.allocated))?;
    row("in use", &usage(info))?;
    if let Some(header) = &info.header {
        if let Some(cluster) = 1u64.checked_shl(header.cluster_bits) {
            row("cluster size", &in_words(cluster))?;
        }
        let state = match () {
            () if header.is_corrupt() => "damaged",
            () if header.is_dirty() => "not closed properly",
            () => "clean",
        };
        row("state", &state)?;
        row("encryption", &header.encryption_name())?;
        row("compression", &header.compression_name())?;
        row("snapshots", &header.snapshots)?;
        let features = header.features();
        row("features", &if features.is_empty() { "none".to_owned() } else { features.join(", ") })?;
    }
    if let Some(backing) = &info.backing {
        let format = backing.format.as_deref().unwrap_or("told by its content");
        row("backing file", &format_args!("{} ({format})", backing.name))?;
    }
    if let Some(reason) = obstacle(info, chain) {
        row("cannot be used", &reason)?;
    }
    Ok(())
}

/// The same for programs. Names are those of the qcow2 specification where it has one.
fn as_json(info: &Info, chain: &Chain) -> Value {
    let mut value = json!({
        "file": info.path.display().to_string(),
        "format": info.format.name(),
        "virtual-size": info.size,
        "allocated-size": info.allocated,
        "in-use": match info.usage {
            Usage::Free => json!("no"),
            Usage::Read => json!("read"),
            Usage::Written => json!("written"),
            Usage::Unknown => Value::Null,
        },
        "obstacle": obstacle(info, chain),
    });
    if let Some(header) = &info.header {
        value["version"] = json!(header.version);
        value["cluster-size"] = json!(1u64.checked_shl(header.cluster_bits));
        value["refcount-bits"] = json!(1u64.checked_shl(header.refcount_order));
        value["dirty"] = json!(header.is_dirty());
        value["corrupt"] = json!(header.is_corrupt());
        value["encryption"] = json!(header.encryption_name());
        value["compression"] = json!(header.compression_name());
        value["snapshots"] = json!(header.snapshots);
        value["features"] = json!(header.features());
    }
    if let Some(backing) = &info.backing {
        value["backing-file"] = json!({ "name": backing.name, "format": backing.format });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_their_formats() {
        let parse = |text: &str, there: &str| ImageName::parse(text.into(), |path| path == Path::new(there));
        let name = |path: &str, format| Ok(ImageName { path: path.into(), format });
        assert_eq!(parse("a.img", ""), name("a.img", None));
        assert_eq!(parse("a.img,format=raw", ""), name("a.img", Some(Format::Raw)));
        assert_eq!(parse("a,b", "a,b"), name("a,b", None));
        assert_eq!(parse("a,b,format=qcow2", "a,b"), name("a,b", Some(Format::Qcow2)));
        assert!(parse("a,readonly", "").unwrap_err().contains("format=raw|qcow2"));
        assert!(parse("a,format=vmdk", "").unwrap_err().contains("raw or qcow2"));
    }

    #[test]
    fn sizes_and_steps() {
        assert_eq!(NewSize::parse("2G"), Ok(NewSize::Whole(2 << 30)));
        assert_eq!(NewSize::parse("+512M"), Ok(NewSize::More(512 << 20)));
        for wrong in ["", "0", "+0", "+", "-1G", "big"] {
            assert!(NewSize::parse(wrong).is_err(), "{wrong}");
        }
    }
}
