//! The base extension (§4).

use cpu::Hart;
use sbi_spec::base::{
    EID_BASE, GET_MARCHID, GET_MIMPID, GET_MVENDORID, GET_SBI_IMPL_ID, GET_SBI_IMPL_VERSION, GET_SBI_SPEC_VERSION,
    PROBE_EXTENSION,
};
use sbi_spec::binary::SbiRet;
use sbi_spec::{dbcn, fwft, hsm, legacy, pmu, rfnc, spi, srst, susp, time};

use super::{Reply, as_machine, csr};

/// 3.0: the major version from bit 24 on.
const SPECIFICATION_VERSION: u64 = 3 << 24;

/// "verv": this implementation has no number in the specification's list.
const IMPLEMENTATION: u64 = 0x7665_7276;

/// What answers to a probe.
const EXTENSIONS: [usize; 19] = [
    EID_BASE,
    time::EID_TIME,
    spi::EID_SPI,
    rfnc::EID_RFNC,
    hsm::EID_HSM,
    srst::EID_SRST,
    dbcn::EID_DBCN,
    fwft::EID_FWFT,
    pmu::EID_PMU,
    susp::EID_SUSP,
    legacy::LEGACY_SET_TIMER,
    legacy::LEGACY_CONSOLE_PUTCHAR,
    legacy::LEGACY_CONSOLE_GETCHAR,
    legacy::LEGACY_CLEAR_IPI,
    legacy::LEGACY_SEND_IPI,
    legacy::LEGACY_REMOTE_FENCE_I,
    legacy::LEGACY_REMOTE_SFENCE_VMA,
    legacy::LEGACY_REMOTE_SFENCE_VMA_ASID,
    legacy::LEGACY_SHUTDOWN,
];

pub(super) fn call(hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    let mut machine_csr = |number| as_machine(hart, |hart| hart.read_csr(number).unwrap_or(0));
    let value = match function {
        GET_SBI_SPEC_VERSION => SPECIFICATION_VERSION,
        GET_SBI_IMPL_ID => IMPLEMENTATION,
        GET_SBI_IMPL_VERSION => implementation_version(),
        PROBE_EXTENSION => EXTENSIONS.iter().any(|extension| *extension as u64 == arguments[0]).into(),
        GET_MVENDORID => machine_csr(csr::MVENDORID),
        GET_MARCHID => machine_csr(csr::MARCHID),
        GET_MIMPID => machine_csr(csr::MIMPID),
        _ => return SbiRet::not_supported().into(),
    };
    SbiRet::success(value).into()
}

/// Major, minor and patch version in a byte each.
fn implementation_version() -> u64 {
    let parts = [env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"), env!("CARGO_PKG_VERSION_PATCH")];
    parts.iter().fold(0, |version, part| version << 8 | part.parse::<u64>().unwrap_or(0) & 0xff)
}
