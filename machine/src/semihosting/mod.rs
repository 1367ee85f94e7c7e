//! Semihosting: calls by which a bare-metal program uses the console, files, the clock and the command line of its host,
//! and ends with an exit code (RISC-V semihosting specification, which takes the calls over from Arm's "Semihosting for
//! AArch32 and AArch64", chapter "Semihosting operations"; the fields of parameter blocks are as wide as registers).
//!
//! A hart that makes a call stops ([`cpu::Stop::Semihosting`]), and its thread calls [`Semihosting::answer`]. Nothing here
//! waits: where a call has to, for input or for room on the console, the hart rests, and the call goes on where it was
//! ([`Call`]). So a hart can be paused in the middle, and then `pc` is at the call's `ebreak`. Files that are open are no part
//! of a machine's saved state.
//!
//! **Bounds.** Memory is read and written by the hart's own translation, in parts of `PART` bytes, between which others
//! are served; a name has at most `LONGEST_NAME` bytes. What goes wrong gives -1 (of reads and writes: what is left),
//! with a reason for `SYS_ERRNO`.

mod error;
mod files;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use bus::{Clock, PAGE_SIZE, TICKS_PER_SECOND};
use cpu::{Hart, HartShared, event};
use devices::backend::{CharacterBackend, Port};
use devices::rtc::host_wall_clock;

use error::Errno;
use files::{Files, Open};
pub use files::{Folder, FolderError};

/// Numbers of the calls.
mod operation {
    pub const OPEN: u32 = 0x01;
    pub const CLOSE: u32 = 0x02;
    pub const WRITEC: u32 = 0x03;
    pub const WRITE0: u32 = 0x04;
    pub const WRITE: u32 = 0x05;
    pub const READ: u32 = 0x06;
    pub const READC: u32 = 0x07;
    pub const ISERROR: u32 = 0x08;
    pub const ISTTY: u32 = 0x09;
    pub const SEEK: u32 = 0x0a;
    pub const FLEN: u32 = 0x0c;
    pub const TMPNAM: u32 = 0x0d;
    pub const REMOVE: u32 = 0x0e;
    pub const RENAME: u32 = 0x0f;
    pub const CLOCK: u32 = 0x10;
    pub const TIME: u32 = 0x11;
    pub const SYSTEM: u32 = 0x12;
    pub const ERRNO: u32 = 0x13;
    pub const GET_CMDLINE: u32 = 0x15;
    pub const HEAPINFO: u32 = 0x16;
    pub const EXIT: u32 = 0x18;
    pub const EXIT_EXTENDED: u32 = 0x20;
    pub const ELAPSED: u32 = 0x30;
    pub const TICKFREQ: u32 = 0x31;
}

/// Most bytes that are moved at once.
const PART: usize = 0x1_0000;
/// Longest name of a file, in bytes.
const LONGEST_NAME: u64 = 4096;
/// The reason of an exit that is the program's own wish; every other one is a failure.
const APPLICATION_EXIT: u64 = 0x2_0026;
/// `:semihosting-features`: the magic number, then `SH_EXT_EXIT_EXTENDED` and `SH_EXT_STDOUT_STDERR`.
const FEATURES: [u8; 5] = [b'S', b'H', b'F', b'B', 0b11];

/// What a guest is offered.
#[derive(Debug, Default)]
pub struct Settings {
    /// The folder with its files; without one it has none.
    pub folder: Option<Folder>,
    /// Whether U-mode may make calls, too.
    pub user_mode: bool,
    /// What `SYS_GET_CMDLINE` tells: the program's name and its arguments.
    pub command_line: String,
}

/// A call under way, which may have to wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// Bytes that it has moved.
    done: u64,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has been answered: the hart goes on behind it.
    Done,
    /// The hart rests until an event, and the call is answered again.
    Wait,
    /// The guest ends, with this exit code.
    Exit(u8),
}

/// The harts that wait for the console.
#[derive(Default)]
struct Waiting(Mutex<Vec<Arc<HartShared>>>);

impl Waiting {
    fn harts(&self) -> MutexGuard<'_, Vec<Arc<HartShared>>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn add(&self, hart: &Arc<HartShared>) {
        let mut harts = self.harts();
        if !harts.iter().any(|other| Arc::ptr_eq(other, hart)) {
            harts.push(hart.clone());
        }
    }

    fn wake(&self) {
        for hart in std::mem::take(&mut *self.harts()) {
            // It looks again after any event.
            hart.raise(event::REQUEST);
        }
    }
}

/// What answers the calls of a machine's harts.
pub struct Semihosting {
    files: Files,
    command_line: String,
    console: Arc<Port>,
    waiting: Arc<Waiting>,
    clock: Clock,
    /// RAM that no program uses, guest-physical.
    heap: Range<u64>,
    /// Each hart's `errno`.
    errors: Mutex<Vec<u8>>,
}

/// A call that cannot be answered.
enum Failure {
    /// For this reason.
    Errno(Errno),
    /// Yet.
    Wait,
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

/// A call's result, for `a0`.
type Answer = Result<u64, Failure>;

/// -1, the result of a call that failed.
const FAILED: u64 = u64::MAX;

impl Semihosting {
    /// Semihosting with its console at `console`. `heap` is what it tells of RAM that a program may use as it likes.
    pub fn new(settings: Settings, console: Arc<Port>, clock: &Clock, heap: Range<u64>) -> Self {
        let waiting = Arc::<Waiting>::default();
        let woken = waiting.clone();
        console.attach(Box::new(move || woken.wake()));
        Self {
            files: Files::new(settings.folder),
            command_line: settings.command_line,
            console,
            waiting,
            clock: clock.clone(),
            heap,
            errors: Mutex::default(),
        }
    }

    /// Closes all files: the guest starts again.
    pub fn reset(&self) {
        self.files.close_all();
        self.errors().clear();
    }

    fn errors(&self) -> MutexGuard<'_, Vec<u8>> {
        self.errors.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Answers the call that a hart is about to make, or a part of it.
    pub fn answer(&self, hart: &mut Hart, call: &mut Call) -> Outcome {
        // The number is a word, whatever is above it.
        let (number, parameter) = (hart.x(10) as u32, hart.x(11));
        let answer = match number {
            operation::EXIT | operation::EXIT_EXTENDED => match fields::<2>(hart, parameter) {
                // As for a process of the host, eight bits of it are left.
                Ok([APPLICATION_EXIT, code]) => return Outcome::Exit(code as u8),
                Ok([reason, _]) => {
                    tracing::warn!("semihosting: the guest ends because of {reason:#x}");
                    return Outcome::Exit(1);
                }
                Err(failure) => Err(failure),
            },
            operation::OPEN => self.open(hart, parameter),
            operation::CLOSE => {
                fields(hart, parameter).and_then(|[handle]| Ok(self.files.close(handle).map(|()| 0)?))
            }
            operation::WRITEC => self.write_to_console(hart, parameter, 1, call).map(|()| 0),
            operation::WRITE0 => self.write_string(hart, parameter, call),
            operation::WRITE => self.transfer(hart, parameter, call, Self::write),
            operation::READ => self.transfer(hart, parameter, call, Self::read),
            operation::READC => self.read_character(hart),
            operation::ISERROR => fields(hart, parameter).map(|[status]| u64::from((status as i64) < 0)),
            operation::ISTTY => fields(hart, parameter)
                .and_then(|[handle]| Ok(matches!(self.files.get(handle)?, Open::Input | Open::Output).into())),
            operation::SEEK => fields(hart, parameter)
                .and_then(|[handle, position]| Ok(self.files.seek(handle, position).map(|()| 0)?)),
            operation::FLEN => self.length(hart, parameter),
            operation::TMPNAM => temporary_name(hart, parameter),
            operation::REMOVE => self.remove(hart, parameter),
            operation::RENAME => self.rename(hart, parameter),
            operation::CLOCK => Ok((u128::from(self.clock.now()) * 100 / u128::from(TICKS_PER_SECOND)) as u64),
            operation::TIME => Ok(host_wall_clock() / 1_000_000_000),
            operation::ERRNO => Ok(self.errno(hart)),
            operation::GET_CMDLINE => self.command_line(hart, parameter),
            operation::HEAPINFO => self.heap_info(hart, parameter),
            operation::ELAPSED => put(hart, parameter, &[self.clock.now()]).map(|()| 0),
            operation::TICKFREQ => Ok(TICKS_PER_SECOND),
            operation::SYSTEM => {
                tracing::debug!("semihosting: a command for the host is refused");
                Err(Errno::NOT_SUPPORTED.into())
            }
            _ => {
                tracing::debug!("semihosting: there is no call {number:#x}");
                Err(Errno::NOT_SUPPORTED.into())
            }
        };
        let result = match answer {
            Ok(result) => result,
            Err(Failure::Wait) => return Outcome::Wait,
            Err(Failure::Errno(errno)) => {
                tracing::debug!("semihosting: call {number:#x} fails with {errno:?}");
                self.set_errno(hart, errno);
                FAILED
            }
        };
        hart.set_x(10, result);
        Outcome::Done
    }

    fn errno(&self, hart: &Hart) -> u64 {
        self.errors().get(hart.shared().id() as usize).copied().unwrap_or(0).into()
    }

    fn set_errno(&self, hart: &Hart, errno: Errno) {
        let (mut errors, index) = (self.errors(), hart.shared().id() as usize);
        if errors.len() <= index {
            errors.resize(index + 1, 0);
        }
        errors[index] = errno.0;
    }

    fn open(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [name, mode, length] = fields(hart, parameter)?;
        let name = text(hart, name, length)?;
        Ok(self.files.open(&name, mode)?)
    }

    fn remove(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [name, length] = fields(hart, parameter)?;
        let name = text(hart, name, length)?;
        Ok(self.files.remove(&name).map(|()| 0)?)
    }

    fn rename(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [from, from_length, to, to_length] = fields(hart, parameter)?;
        let (from, to) = (text(hart, from, from_length)?, text(hart, to, to_length)?);
        Ok(self.files.rename(&from, &to).map(|()| 0)?)
    }

    fn length(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [handle] = fields(hart, parameter)?;
        match self.files.get(handle)? {
            Open::Input | Open::Output => Err(Errno::SPECIAL_FILE.into()),
            Open::Features(_) => Ok(FEATURES.len() as u64),
            Open::File(file) => Ok(files::length(&file)?),
        }
    }

    /// `SYS_WRITE` and `SYS_READ`: the number of bytes that were not moved, in case of an error too.
    fn transfer(
        &self,
        hart: &mut Hart,
        parameter: u64,
        call: &mut Call,
        transfer: fn(&Self, &mut Hart, [u64; 3], &mut Call) -> Result<(), Failure>,
    ) -> Answer {
        let fields: [u64; 3] = fields(hart, parameter)?;
        match transfer(self, hart, fields, call) {
            Err(Failure::Errno(errno)) => self.set_errno(hart, errno),
            Err(Failure::Wait) => return Err(Failure::Wait),
            Ok(()) => {}
        }
        Ok(fields[2].saturating_sub(call.done))
    }

    fn write(&self, hart: &mut Hart, fields: [u64; 3], call: &mut Call) -> Result<(), Failure> {
        let [handle, address, length] = fields;
        match self.files.get(handle)? {
            Open::Input | Open::Features(_) => Err(Errno::BAD_HANDLE.into()),
            Open::Output => self.write_to_console(hart, address, length, call),
            Open::File(file) => {
                let mut buffer = vec![0; length.min(PART as u64) as usize];
                while call.done < length {
                    let part = &mut buffer[..(length - call.done).min(PART as u64) as usize];
                    let from = address.wrapping_add(call.done);
                    hart.read_virtual(from, part).ok_or(Errno::BAD_ADDRESS)?;
                    let written = files::write(&file, part)?;
                    if written == 0 {
                        break;
                    }
                    call.done += written as u64;
                    pass_on(hart, call.done < length)?;
                }
                Ok(())
            }
        }
    }

    fn write_to_console(&self, hart: &mut Hart, address: u64, length: u64, call: &mut Call) -> Result<(), Failure> {
        let mut buffer = vec![0; length.min(PART as u64) as usize];
        while call.done < length {
            let part = &mut buffer[..(length - call.done).min(PART as u64) as usize];
            hart.read_virtual(address.wrapping_add(call.done), part).ok_or(Errno::BAD_ADDRESS)?;
            self.put_out(hart, part, call)?;
            pass_on(hart, call.done < length)?;
        }
        Ok(())
    }

    /// Writes to the console; what there is no room for waits.
    fn put_out(&self, hart: &Hart, bytes: &[u8], call: &mut Call) -> Result<(), Failure> {
        let mut written = self.console.write(bytes);
        if written < bytes.len() {
            self.waiting.add(hart.shared());
            // There may be room again since.
            written += self.console.write(&bytes[written..]);
        }
        call.done += written as u64;
        if written < bytes.len() { Err(Failure::Wait) } else { Ok(()) }
    }

    /// `SYS_WRITE0`: up to a byte of zero, never reading beyond its page.
    fn write_string(&self, hart: &mut Hart, address: u64, call: &mut Call) -> Answer {
        loop {
            let from = address.wrapping_add(call.done);
            let mut buffer = [0; PAGE_SIZE as usize];
            let page = &mut buffer[..(PAGE_SIZE - from % PAGE_SIZE) as usize];
            hart.read_virtual(from, page).ok_or(Errno::BAD_ADDRESS)?;
            let end = page.iter().position(|byte| *byte == 0);
            self.put_out(hart, &page[..end.unwrap_or(page.len())], call)?;
            if end.is_some() {
                return Ok(0);
            }
            pass_on(hart, true)?;
        }
    }

    fn read(&self, hart: &mut Hart, fields: [u64; 3], call: &mut Call) -> Result<(), Failure> {
        let [handle, address, length] = fields;
        let mut buffer = vec![0; length.min(PART as u64) as usize];
        match self.files.get(handle)? {
            Open::Output => Err(Errno::BAD_HANDLE.into()),
            Open::Input => {
                if length == 0 {
                    return Ok(());
                }
                // Whether it can be stored is found out before input is taken: what is there is stored again.
                let there = &mut buffer[..1];
                hart.read_virtual(address, there).ok_or(Errno::BAD_ADDRESS)?;
                hart.write_virtual(address, there).ok_or(Errno::BAD_ADDRESS)?;
                let count = self.take_input(hart, &mut buffer)?;
                hart.write_virtual(address, &buffer[..count]).ok_or(Errno::BAD_ADDRESS)?;
                call.done = count as u64;
                Ok(())
            }
            Open::Features(position) => {
                let rest = usize::try_from(position).ok().and_then(|at| FEATURES.get(at..)).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                hart.write_virtual(address, &rest[..count]).ok_or(Errno::BAD_ADDRESS)?;
                self.files.set_features_position(handle, position + count as u64);
                call.done = count as u64;
                Ok(())
            }
            Open::File(file) => {
                while call.done < length {
                    let part = &mut buffer[..(length - call.done).min(PART as u64) as usize];
                    let count = files::read(&file, part)?;
                    if count == 0 {
                        break;
                    }
                    let to = address.wrapping_add(call.done);
                    hart.write_virtual(to, &part[..count]).ok_or(Errno::BAD_ADDRESS)?;
                    call.done += count as u64;
                    pass_on(hart, call.done < length)?;
                }
                Ok(())
            }
        }
    }

    fn read_character(&self, hart: &mut Hart) -> Answer {
        let mut byte = [0];
        match self.take_input(hart, &mut byte)? {
            0 => Ok(FAILED),
            _ => Ok(byte[0].into()),
        }
    }

    /// Takes what there is of the console's input, one byte at least, or none at its end.
    fn take_input(&self, hart: &Hart, bytes: &mut [u8]) -> Result<usize, Failure> {
        self.console.claim();
        // Looked at first: what came before the end is there.
        for is_noted in [false, true] {
            let ended = self.console.has_ended();
            let count = self.console.read(bytes);
            if count > 0 || ended {
                return Ok(count);
            }
            if !is_noted {
                self.waiting.add(hart.shared());
            }
        }
        Err(Failure::Wait)
    }

    /// `SYS_GET_CMDLINE`: a buffer and its length in, the length of the string out.
    fn command_line(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [buffer, length] = fields(hart, parameter)?;
        let bytes = [self.command_line.as_bytes(), &[0]].concat();
        if (bytes.len() as u64) > length {
            return Err(Errno::INVALID.into());
        }
        hart.write_virtual(buffer, &bytes).ok_or(Errno::BAD_ADDRESS)?;
        put(hart, parameter.wrapping_add(8), &[bytes.len() as u64 - 1])?;
        Ok(0)
    }

    /// `SYS_HEAPINFO`: base and limit of the heap, which grows up, and of the stack, which grows down in the same room.
    fn heap_info(&self, hart: &mut Hart, parameter: u64) -> Answer {
        let [block] = fields(hart, parameter)?;
        let Range { start, end } = self.heap;
        put(hart, block, &[start, end, end, start])?;
        Ok(0)
    }
}

/// The fields of a parameter block.
fn fields<const N: usize>(hart: &mut Hart, address: u64) -> Result<[u64; N], Failure> {
    let mut block = [0; N];
    for (index, field) in block.iter_mut().enumerate() {
        let mut bytes = [0; 8];
        hart.read_virtual(address.wrapping_add(8 * index as u64), &mut bytes).ok_or(Errno::BAD_ADDRESS)?;
        *field = u64::from_le_bytes(bytes);
    }
    Ok(block)
}

/// Writes doublewords.
fn put(hart: &mut Hart, address: u64, values: &[u64]) -> Result<(), Failure> {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Ok(hart.write_virtual(address, &bytes).ok_or(Errno::BAD_ADDRESS)?)
}

/// A string whose length is given.
fn text(hart: &mut Hart, address: u64, length: u64) -> Result<String, Failure> {
    if length > LONGEST_NAME {
        return Err(Errno::INVALID.into());
    }
    let mut bytes = vec![0; length as usize];
    hart.read_virtual(address, &mut bytes).ok_or(Errno::BAD_ADDRESS)?;
    Ok(String::from_utf8(bytes).map_err(|_| Errno::INVALID)?)
}

/// `SYS_TMPNAM`: a name that belongs to a number from 0 to 255.
fn temporary_name(hart: &mut Hart, parameter: u64) -> Answer {
    let [buffer, number, length] = fields(hart, parameter)?;
    let name = format!("semihosting-{number:02x}.tmp\0");
    if number > 255 || (name.len() as u64) > length {
        return Err(Errno::INVALID.into());
    }
    hart.write_virtual(buffer, name.as_bytes()).ok_or(Errno::BAD_ADDRESS)?;
    Ok(0)
}

/// In the middle of a long call: has it interrupted if somebody wants something of the hart.
fn pass_on(hart: &Hart, more: bool) -> Result<(), Failure> {
    if more && hart.shared().events() != 0 { Err(Failure::Wait) } else { Ok(()) }
}
