//! `--semihosting`.

use std::path::PathBuf;
use std::str::FromStr;

use crate::semihosting::{Folder, FolderError, Settings};

/// The option's value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SemihostingOption {
    folder: Option<PathBuf>,
    readonly: bool,
    user_mode: bool,
}

impl FromStr for SemihostingOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut option = Self::default();
        for part in text.split(',').filter(|_| !text.is_empty()) {
            match part.split_once('=').unwrap_or((part, "")) {
                ("folder", path) if !path.is_empty() => option.folder = Some(path.into()),
                ("folder", _) => return Err("folder=: expected the path of a folder".into()),
                ("readonly", "") => option.readonly = true,
                ("userspace", "on") => option.user_mode = true,
                ("userspace", "off") => option.user_mode = false,
                ("userspace", value) => return Err(format!("userspace={value}: expected on or off")),
                _ => return Err(format!("unknown option \"{part}\": use folder=PATH, readonly or userspace=on")),
            }
        }
        if option.readonly && option.folder.is_none() {
            return Err("readonly: there is no folder; folder=PATH names one".into());
        }
        Ok(option)
    }
}

impl SemihostingOption {
    /// What a guest with this command line is offered.
    pub fn settings(&self, command_line: String) -> Result<Settings, FolderError> {
        let folder = self.folder.as_deref().map(|path| Folder::open(path, self.readonly)).transpose()?;
        Ok(Settings { folder, user_mode: self.user_mode, command_line })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_as_users_write_them() {
        let parse = str::parse::<SemihostingOption>;
        assert_eq!(parse(""), Ok(SemihostingOption::default()));
        let all = SemihostingOption { folder: Some("a b=c".into()), readonly: true, user_mode: true };
        assert_eq!(parse("folder=a b=c,readonly,userspace=on"), Ok(all));
        assert_eq!(parse("userspace=on,userspace=off"), Ok(SemihostingOption::default()));
        for wrong in
            [",", "folder", "folder=", "readonly", "readonly=on", "userspace", "userspace=yes", "on", "files=x"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
