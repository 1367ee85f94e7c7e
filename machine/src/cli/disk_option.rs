//! `--disk PATH[,OPTION]...`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::bail;
use clap::builder::TypedValueParser;
use devices::backend::disk::{self, Cache, Disk, Options};

/// A disk on the command line.
#[derive(Clone, Debug, Default)]
pub struct DiskOption {
    path: PathBuf,
    options: Options,
    serial: String,
}

/// Reads a [`DiskOption`]: paths need not be UTF-8.
#[derive(Clone, Debug)]
pub struct DiskParser;

impl TypedValueParser for DiskParser {
    type Value = DiskOption;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<DiskOption, clap::Error> {
        parse(value, |path| path.exists()).map_err(|reason| {
            let argument = argument.map_or_else(|| "--disk".to_owned(), ToString::to_string);
            let message = format!("invalid value '{}' for '{argument}': {reason}", value.to_string_lossy());
            clap::Error::raw(clap::error::ErrorKind::ValueValidation, message + "\n").with_cmd(command)
        })
    }
}

/// Options are taken from the end, so that a path may hold commas: what is no option belongs to the path, if there is
/// such a file.
fn parse(value: &OsStr, exists: impl Fn(&Path) -> bool) -> Result<DiskOption, String> {
    let Some(text) = value.to_str() else {
        return Ok(DiskOption { path: value.into(), ..DiskOption::default() });
    };
    let mut disk = DiskOption::default();
    let mut path = text;
    while !exists(Path::new(path))
        && let Some((rest, option)) = path.rsplit_once(',')
    {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, value) {
            ("readonly", "") | ("readonly", "on") => disk.options.read_only = true,
            ("readonly", "off") => disk.options.read_only = false,
            ("snapshot", "") | ("snapshot", "on") => disk.options.snapshot = true,
            ("snapshot", "off") => disk.options.snapshot = false,
            ("format", name) => disk.options.format = Some(name.parse()?),
            ("cache", "writeback") => disk.options.cache = Cache::Writeback,
            ("cache", "none") => disk.options.cache = Cache::None,
            ("cache", value) => return Err(format!("unknown cache mode \"{value}\": use writeback or none")),
            ("serial", value) if value.len() <= 20 && value.is_ascii() => disk.serial = value.into(),
            ("serial", value) => {
                return Err(format!("serial number \"{value}\": give at most 20 ASCII characters"));
            }
            _ => {
                let known = "format=raw|qcow2, readonly, serial=S, cache=writeback|none and snapshot";
                return Err(format!("unknown option \"{option}\": there are {known}"));
            }
        }
        path = rest;
    }
    if path.is_empty() {
        return Err("the path of a disk image is missing".into());
    }
    disk.path = path.into();
    Ok(disk)
}

impl DiskOption {
    /// Opens the image; the disk and its serial number.
    pub fn open(&self) -> anyhow::Result<(Arc<dyn Disk>, String)> {
        let (path, options) = (&self.path, &self.options);
        // The superuser may write what is marked otherwise; the mark was made for a reason.
        let marked = || std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().readonly());
        if !options.read_only && !options.snapshot && marked() {
            let path = path.display();
            bail!("disk image {path}: is read-only; change its permissions, or give --disk {path},readonly");
        }
        Ok((disk::open(path, options)?, self.serial.clone()))
    }
}

#[cfg(test)]
mod tests {
    use disk::Format;

    use super::*;

    fn nothing(text: &str) -> Result<DiskOption, String> {
        parse(OsStr::new(text), |_| false)
    }

    #[test]
    fn options_in_any_order() {
        let disk = nothing("a.img,serial=x y,snapshot,format=qcow2,cache=none,readonly").unwrap();
        assert_eq!((disk.path.to_str(), disk.serial.as_str()), (Some("a.img"), "x y"));
        assert!(disk.options.read_only && disk.options.snapshot);
        assert_eq!((disk.options.format, disk.options.cache), (Some(Format::Qcow2), Cache::None));
        let disk = nothing("a.img").unwrap();
        assert!(!disk.options.read_only && !disk.options.snapshot);
        assert_eq!((disk.options.format, disk.options.cache), (None, Cache::Writeback));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, said) in [
            ("a,frmat=raw", "unknown option \"frmat=raw\""),
            ("a,format=vmdk", "raw or qcow2"),
            ("a,cache=unsafe", "writeback or none"),
            ("a,serial=123456789012345678901", "20"),
            ("a,readonly=maybe", "readonly=maybe"),
            (",readonly", "path"),
            ("", "path"),
        ] {
            let message = nothing(text).unwrap_err();
            assert!(message.contains(said), "{text}: {message}");
        }
    }

    #[test]
    fn a_path_may_hold_commas() {
        let there = |text: &str| parse(OsStr::new(text), |path| path == Path::new("a,readonly,b")).unwrap();
        assert_eq!(there("a,readonly,b").path, Path::new("a,readonly,b"));
        let disk = there("a,readonly,b,readonly");
        assert_eq!((disk.path.as_path(), disk.options.read_only), (Path::new("a,readonly,b"), true));
    }
}
