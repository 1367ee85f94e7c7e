//! Lists of harts as arguments (§3.1, "Hart list parameter").

use sbi_spec::binary::SbiRet;

use super::{Sbi, SbiHart};

/// `hart_mask_base` that stands for all harts.
const ALL: u64 = u64::MAX;

impl Sbi {
    /// The harts that `mask` and `base` name; `SBI_ERR_INVALID_PARAM` if one of them does not exist.
    pub(super) fn hart_set(&self, mask: u64, base: u64) -> Result<impl Iterator<Item = &SbiHart>, SbiRet<u64>> {
        let count = self.harts.len() as u64;
        let (mask, base) = match base {
            ALL => (None, 0),
            // The highest hart named must exist, the base even if it names none.
            _ if base >= count || u64::from(64 - mask.leading_zeros()) > count - base => {
                return Err(SbiRet::invalid_param());
            }
            _ => (Some(mask), base),
        };
        Ok(self
            .harts
            .iter()
            .enumerate()
            .filter(move |(index, _)| {
                let bit = (*index as u64).wrapping_sub(base);
                mask.is_none_or(|mask| bit < 64 && mask >> bit & 1 != 0)
            })
            .map(|(_, hart)| hart))
    }
}
