//! System reset (§10).

use bus::PowerRequest;
use sbi_spec::binary::SbiRet;
use sbi_spec::srst::{
    RESET_REASON_SYSTEM_FAILURE, RESET_TYPE_COLD_REBOOT, RESET_TYPE_SHUTDOWN, RESET_TYPE_WARM_REBOOT, SYSTEM_RESET,
};

use super::{Outcome, Reply};

/// Exit code of a guest that shuts down because its system failed.
const FAILURE: u8 = 1;

pub(super) fn call(function: usize, [kind, reason, ..]: [u64; 6]) -> Reply {
    /// First type that belongs to vendors and platforms.
    const VENDOR_TYPES: u32 = 0xf000_0000;
    /// First reason that belongs to implementations, vendors and platforms.
    const OTHER_REASONS: u32 = 0xe000_0000;
    if function != SYSTEM_RESET {
        return SbiRet::not_supported().into();
    }
    let (Ok(kind), Ok(reason)) = (u32::try_from(kind), u32::try_from(reason)) else {
        return SbiRet::invalid_param().into();
    };
    if reason > RESET_REASON_SYSTEM_FAILURE && reason < OTHER_REASONS {
        return SbiRet::invalid_param().into();
    }
    let request = match kind {
        RESET_TYPE_SHUTDOWN if reason == RESET_REASON_SYSTEM_FAILURE => PowerRequest::Off(FAILURE),
        RESET_TYPE_SHUTDOWN => PowerRequest::Off(0),
        RESET_TYPE_COLD_REBOOT | RESET_TYPE_WARM_REBOOT => PowerRequest::Reset,
        VENDOR_TYPES.. => return SbiRet::not_supported().into(),
        _ => return SbiRet::invalid_param().into(),
    };
    Reply::without_return(Outcome::Power(request))
}
