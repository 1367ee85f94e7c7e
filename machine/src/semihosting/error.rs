//! Errors as a guest's C library knows them: numbers of `errno`, which for these are the same in newlib, picolibc and
//! Linux.

use std::io::{self, ErrorKind};

/// A value of `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Errno(pub u8);

impl Errno {
    pub const BAD_HANDLE: Self = Self(9); // EBADF
    pub const NOT_ALLOWED: Self = Self(13); // EACCES
    pub const BAD_ADDRESS: Self = Self(14); // EFAULT
    pub const DIRECTORY: Self = Self(21); // EISDIR
    pub const INVALID: Self = Self(22); // EINVAL
    pub const TOO_MANY_FILES: Self = Self(24); // EMFILE
    pub const SPECIAL_FILE: Self = Self(29); // ESPIPE
    pub const READ_ONLY: Self = Self(30); // EROFS
    pub const NOT_SUPPORTED: Self = Self(88); // ENOSYS of newlib and picolibc
    const OTHER: Self = Self(5); // EIO
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self(match error.kind() {
            ErrorKind::NotFound => 2,
            ErrorKind::PermissionDenied => 13,
            ErrorKind::ResourceBusy => 16,
            ErrorKind::AlreadyExists => 17,
            ErrorKind::CrossesDevices => 18,
            ErrorKind::NotADirectory => 20,
            ErrorKind::IsADirectory => 21,
            ErrorKind::InvalidInput => 22,
            ErrorKind::FileTooLarge => 27,
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => 28,
            ErrorKind::NotSeekable => 29,
            ErrorKind::ReadOnlyFilesystem => 30,
            ErrorKind::TooManyLinks => 31,
            ErrorKind::DirectoryNotEmpty => 90, // ENOTEMPTY of newlib and picolibc
            ErrorKind::InvalidFilename => 91,   // ENAMETOOLONG of newlib and picolibc
            // A file that was opened for the other direction; the kind for it has no name yet.
            _ if error.raw_os_error() == Some(9) => 9,
            _ => return Self::OTHER,
        })
    }
}
