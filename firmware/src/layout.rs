//! Where the initrd and the device tree go in RAM, beside the programs that are there already.
//!
//! The device tree goes high: to the last 2 MiB boundary that leaves room for it, below 3 GiB so that it stays in reach
//! of 32-bit firmware. The initrd goes to half of the RAM but at most 512 MiB into it, or right behind the kernel where
//! that does not fit: a kernel's memory grows behind its end (an `Image` occupies more than its file), and OpenSBI's
//! `fw_jump` moves the device tree to 34 MiB.

use std::ops::Range;

use crate::quantity::Bytes;

/// What does not fit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LayoutError {
    /// Two programs claim the same RAM.
    #[error(
        "{first} ({:#x}..{:#x}) and {second} ({:#x}..{:#x}) overlap in memory; link one of them elsewhere",
        .first_range.start, .first_range.end, .second_range.start, .second_range.end
    )]
    Overlap {
        /// Name of one.
        first: String,
        /// Its addresses.
        first_range: Range<u64>,
        /// Name of the other.
        second: String,
        /// Its addresses.
        second_range: Range<u64>,
    },
    /// There is no room left.
    #[error(
        "no room for {what} of {}: {} of the {} of RAM are free in one piece; give the guest more with -m",
        Bytes(*.size), Bytes(*.free), Bytes(*.ram)
    )]
    NoRoom {
        /// "an initrd" or "a device tree".
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The largest free part of RAM in bytes.
        free: u64,
        /// Size of RAM in bytes.
        ram: u64,
    },
}

/// The places of what comes beside the programs, guest-physical.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The initrd, page-aligned.
    pub initrd: Option<Range<u64>>,
    /// Start of the device tree.
    pub device_tree: u64,
}

const PAGE: u64 = 4096;
/// The kernel maps its device tree by two pages of this size.
const MEGAPAGE: u64 = 2 << 20;
/// The tree stays below this address, if RAM starts below it.
const DEVICE_TREE_LIMIT: u64 = 3 << 30;

/// Plans where an initrd of `initrd_size` bytes and a device tree of `device_tree_size` bytes go in `ram` beside
/// `programs`, given with their names.
pub fn plan(
    ram: &Range<u64>,
    programs: &[(&str, Range<u64>)],
    initrd_size: Option<u64>,
    device_tree_size: u64,
) -> Result<Layout, LayoutError> {
    let mut programs = programs.to_vec();
    programs.sort_by_key(|(_, range)| range.start);
    for pair in programs.windows(2) {
        let [(first, first_range), (second, second_range)] = pair else {
            continue;
        };
        if first_range.end > second_range.start {
            return Err(LayoutError::Overlap {
                first: (*first).into(),
                first_range: first_range.clone(),
                second: (*second).into(),
                second_range: second_range.clone(),
            });
        }
    }
    let mut free = Free::new(ram, programs.iter().map(|(_, range)| range));
    let no_room = |free: &Free, what, size| LayoutError::NoRoom {
        what,
        size,
        free: free.0.iter().map(|gap| gap.end - gap.start).max().unwrap_or(0),
        ram: ram.end - ram.start,
    };
    let limit = if ram.start < DEVICE_TREE_LIMIT { DEVICE_TREE_LIMIT } else { u64::MAX };
    let device_tree = free
        .highest(device_tree_size, MEGAPAGE, limit)
        .or_else(|| free.highest(device_tree_size, PAGE, limit))
        .ok_or_else(|| no_room(&free, "a device tree", device_tree_size))?;
    free.take(&(device_tree..device_tree + device_tree_size));
    let initrd = match initrd_size {
        None => None,
        Some(size) => {
            let kernel_end = programs.last().map_or(ram.start, |(_, range)| range.end);
            let middle = ram.start + ((ram.end - ram.start) / 2).min(512 << 20);
            let start = free
                .lowest(size, PAGE, middle.max(kernel_end))
                .or_else(|| free.lowest(size, PAGE, kernel_end))
                .ok_or_else(|| no_room(&free, "an initrd", size))?;
            Some(start..start + size)
        }
    };
    Ok(Layout { initrd, device_tree })
}

/// The free parts of RAM, by address.
struct Free(Vec<Range<u64>>);

impl Free {
    fn new<'a>(ram: &Range<u64>, taken: impl Iterator<Item = &'a Range<u64>>) -> Self {
        let mut free = Self(vec![ram.clone()]);
        for range in taken {
            free.take(range);
        }
        free
    }

    fn take(&mut self, taken: &Range<u64>) {
        let parts = |gap: &Range<u64>| [gap.start..gap.end.min(taken.start), gap.start.max(taken.end)..gap.end];
        self.0 = self.0.iter().flat_map(parts).filter(|gap| gap.start < gap.end).collect();
    }

    /// The highest aligned place for `size` bytes that ends at `limit` or below.
    fn highest(&self, size: u64, alignment: u64, limit: u64) -> Option<u64> {
        self.0.iter().rev().find_map(|gap| {
            let start = gap.end.min(limit).checked_sub(size)? / alignment * alignment;
            (start >= gap.start).then_some(start)
        })
    }

    /// The lowest aligned place for `size` bytes at `from` or above.
    fn lowest(&self, size: u64, alignment: u64, from: u64) -> Option<u64> {
        self.0.iter().find_map(|gap| {
            let start = gap.start.max(from).checked_next_multiple_of(alignment)?;
            (start < gap.end && size <= gap.end - start).then_some(start)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const BASE: u64 = 0x8000_0000;

    fn ram(mib: u64) -> Range<u64> {
        BASE..BASE + mib * MIB
    }

    /// Debian's kernel: 29.7 MiB of file, 30.4 MiB of memory.
    fn kernel() -> (&'static str, Range<u64>) {
        ("kernel", BASE + 2 * MIB..BASE + 2 * MIB + 0x1e6_b000)
    }

    #[test]
    fn with_much_ram_the_tree_is_high_and_the_initrd_in_the_middle() {
        let plan = plan(&ram(1024), &[kernel()], Some(10 * MIB + 5), 9000).unwrap();
        assert_eq!(
            plan,
            Layout { initrd: Some(BASE + 512 * MIB..BASE + 522 * MIB + 5), device_tree: BASE + 1022 * MIB }
        );
    }

    #[test]
    fn the_tree_stays_below_three_gibibytes() {
        let plan = plan(&ram(8192), &[kernel()], None, 9000).unwrap();
        assert_eq!(plan, Layout { initrd: None, device_tree: 0xc000_0000 - 2 * MIB });
    }

    #[test]
    fn ram_above_three_gibibytes_is_used_to_its_end() {
        let ram = 1 << 32..(1 << 32) + 64 * MIB;
        assert_eq!(plan(&ram, &[], None, 9000).unwrap().device_tree, ram.end - 2 * MIB);
    }

    #[test]
    fn with_little_ram_all_is_packed_and_nothing_overlaps() {
        for mib in 33..80 {
            let (_, kernel_range) = kernel();
            let plan = plan(&ram(mib), &[kernel()], Some(MIB + 1), 9000);
            assert_eq!(plan.is_ok(), mib >= 34, "{mib}");
            let Ok(Layout { initrd: Some(initrd), device_tree }) = plan else {
                continue;
            };
            let parts = [kernel_range, initrd.clone(), device_tree..device_tree + 9000];
            for (index, one) in parts.iter().enumerate() {
                assert!(one.start >= BASE && one.end <= BASE + mib * MIB, "{mib}");
                assert!(
                    parts[index + 1..].iter().all(|other| one.end <= other.start || other.end <= one.start),
                    "{mib}"
                );
            }
            assert_eq!(initrd.start % PAGE, 0);
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_its_cure() {
        let error = plan(&ram(40), &[kernel()], Some(10 * MIB), 9000).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no room for an initrd of 10 MiB: 5.6 MiB of the 40 MiB of RAM are free in one piece; give the guest more with -m"
        );
        let full = ("kernel", ram(4));
        assert!(matches!(plan(&ram(4), &[full], None, 9000), Err(LayoutError::NoRoom { what: "a device tree", .. })));
        assert!(plan(&ram(4), &[], Some(u64::MAX), 9000).is_err());
    }

    #[test]
    fn firmware_and_kernel_may_not_overlap() {
        let firmware = ("firmware", BASE..BASE + 3 * MIB);
        let error = plan(&ram(128), &[kernel(), firmware], None, 9000).unwrap_err();
        assert!(error.to_string().starts_with("firmware (0x80000000..0x80300000) and kernel"), "{error}");
    }
}
