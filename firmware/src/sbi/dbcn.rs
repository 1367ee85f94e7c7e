//! The debug console (§12).

use cpu::Hart;
use sbi_spec::binary::SbiRet;
use sbi_spec::dbcn::{CONSOLE_READ, CONSOLE_WRITE, CONSOLE_WRITE_BYTE};

use super::{Reply, Sbi, retry};

/// The most that one call moves; the specification lets a call do less than it was asked for.
const CHUNK: usize = 4096;

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    let [first, low, high, ..] = arguments;
    match function {
        CONSOLE_WRITE => write(sbi, hart, first, low, high).into(),
        CONSOLE_READ => read(sbi, hart, first, low, high).into(),
        CONSOLE_WRITE_BYTE => {
            if sbi.console.write(&[first as u8]) == 0 {
                return Reply::without_return(retry(hart));
            }
            SbiRet::success(0).into()
        }
        _ => SbiRet::not_supported().into(),
    }
}

/// The first bytes of the guest's buffer of `length` bytes; `None` if it is not all in RAM.
fn chunk(hart: &Hart, length: u64, low: u64, high: u64) -> Option<Vec<u8>> {
    if high != 0 || length != 0 && hart.bus().ram().offset(low, length).is_none() {
        return None;
    }
    Some(vec![0; length.min(CHUNK as u64) as usize])
}

fn write(sbi: &Sbi, hart: &Hart, length: u64, low: u64, high: u64) -> SbiRet<u64> {
    let Some(mut bytes) = chunk(hart, length, low, high) else {
        return SbiRet::invalid_param();
    };
    if bytes.is_empty() {
        return SbiRet::success(0);
    }
    match hart.bus().ram().read(low, &mut bytes) {
        Some(()) => SbiRet::success(sbi.console.write(&bytes) as u64),
        None => SbiRet::failed(),
    }
}

fn read(sbi: &Sbi, hart: &Hart, length: u64, low: u64, high: u64) -> SbiRet<u64> {
    let Some(mut bytes) = chunk(hart, length, low, high) else {
        return SbiRet::invalid_param();
    };
    let count = sbi.console.read(&mut bytes).min(bytes.len());
    if count == 0 {
        return SbiRet::success(0);
    }
    match hart.bus().ram().write(low, &bytes[..count]) {
        Some(()) => SbiRet::success(count as u64),
        None => SbiRet::failed(),
    }
}
