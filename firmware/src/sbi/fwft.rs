//! Firmware features (§18). All features are local to a hart.

use cpu::Hart;
use cpu::csr::envcfg;
use cpu::extension::Extension;
use sbi_spec::binary::SbiRet;
use sbi_spec::fwft::feature_type::{
    DOUBLE_TRAP, LANDING_PAD, MISALIGNED_EXC_DELEG, POINTER_MASKING_PMLEN, PTE_AD_HW_UPDATING, SHADOW_STACK,
};
use sbi_spec::fwft::{GET, SET, flags::SetFlags};

use super::{Reply, Sbi, as_machine, csr};

/// The features that the harts of this machine have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feature {
    /// Misaligned accesses that trap are the supervisor's: there is nobody else to take them. Loads and stores work
    /// misaligned, so that these are atomics.
    MisalignedDelegation = MISALIGNED_EXC_DELEG as isize,
    /// `menvcfg.ADUE` (Svadu).
    HardwareUpdating = PTE_AD_HW_UPDATING as isize,
    /// `menvcfg.PMM` (Smnpm): the number of bits that S-mode's loads and stores ignore.
    PointerMasking = POINTER_MASKING_PMLEN as isize,
}

/// Bits that are ignored, by PMM. Its value 1 is reserved, and never there.
const PMLEN: [u64; 4] = [0, 0, 7, 16];
const LONGEST_PMLEN: u64 = 16;

impl Feature {
    /// The feature with this number, or the error of the specification's tables.
    fn of(number: u64, hart: &Hart) -> Result<Self, SbiRet<u64>> {
        let Ok(number) = usize::try_from(number) else {
            return Err(SbiRet::denied());
        };
        match number {
            MISALIGNED_EXC_DELEG => Ok(Self::MisalignedDelegation),
            PTE_AD_HW_UPDATING if hart.has(Extension::Svadu) => Ok(Self::HardwareUpdating),
            POINTER_MASKING_PMLEN if hart.has(Extension::Smnpm) => Ok(Self::PointerMasking),
            // Known to the specification, but the extension behind it is missing.
            LANDING_PAD | SHADOW_STACK | DOUBLE_TRAP | PTE_AD_HW_UPDATING | POINTER_MASKING_PMLEN => {
                Err(SbiRet::not_supported())
            }
            // Reserved, or of other platforms.
            _ => Err(SbiRet::denied()),
        }
    }

    fn lock_bit(self) -> u32 {
        1 << self as u32
    }
}

pub(super) fn call(sbi: &Sbi, hart: &mut Hart, function: usize, arguments: [u64; 6]) -> Reply {
    let [number, value, flags, ..] = arguments;
    if function != SET && function != GET {
        return SbiRet::not_supported().into();
    }
    let feature = match Feature::of(number, hart) {
        Ok(feature) => feature,
        Err(error) => return error.into(),
    };
    match function {
        GET => SbiRet::success(get(hart, feature)).into(),
        _ => set(sbi, hart, feature, value, flags).into(),
    }
}

fn get(hart: &Hart, feature: Feature) -> u64 {
    match feature {
        Feature::MisalignedDelegation => 1,
        Feature::HardwareUpdating => envcfg::ADUE.get(hart.csrs().menvcfg),
        Feature::PointerMasking => PMLEN[envcfg::PMM.get(hart.csrs().menvcfg) as usize],
    }
}

fn set(sbi: &Sbi, hart: &mut Hart, feature: Feature, value: u64, flags: u64) -> SbiRet<u64> {
    let lock = SetFlags::LOCK.bits() as u64;
    let is_valid = match feature {
        Feature::PointerMasking => value <= LONGEST_PMLEN,
        _ => value <= 1,
    };
    if flags & !lock != 0 || !is_valid {
        return SbiRet::invalid_param();
    }
    let Some(own) = sbi.own(hart) else {
        return SbiRet::failed();
    };
    if own.lock().locked_features & feature.lock_bit() != 0 {
        return SbiRet::denied_locked();
    }
    match feature {
        Feature::MisalignedDelegation if value == 0 => return SbiRet::denied(),
        Feature::MisalignedDelegation => {}
        Feature::HardwareUpdating => {
            let environment = envcfg::ADUE.set(hart.csrs().menvcfg, value);
            as_machine(hart, |hart| hart.write_csr(csr::MENVCFG, environment));
        }
        Feature::PointerMasking => {
            // The least that is enough.
            let pmm = PMLEN.iter().position(|bits| *bits >= value).unwrap_or_default();
            let environment = envcfg::PMM.set(hart.csrs().menvcfg, pmm as u64);
            as_machine(hart, |hart| hart.write_csr(csr::MENVCFG, environment));
        }
    }
    if flags & lock != 0 {
        own.lock().locked_features |= feature.lock_bit();
    }
    SbiRet::success(0)
}
