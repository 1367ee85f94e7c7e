//! The device tree of a board (Devicetree Specification 0.4; the Linux kernel's bindings `riscv/cpus.yaml`,
//! `riscv/extensions.yaml`), and the little that is changed in a tree that the user brings.
//!
//! Devices write their own nodes ([`bus::Device::describe`]); the board says what the rest holds by filling in a
//! [`Board`]. phandles are given out by a fixed rule, so that a board can name the harts' interrupt controllers before
//! the tree exists.

use std::ops::Range;

use bus::TICKS_PER_SECOND;
use bus::device_tree::{DeviceTree, DeviceTreeNode, DeviceTreeProperty, Node};
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node as _, Property as _};

/// How a tree of the user's is no use.
#[derive(Debug, thiserror::Error)]
pub enum DeviceTreeError {
    /// It is no device tree blob, or a damaged one.
    #[error("{file}: is no flattened device tree (.dtb): {reason}")]
    Malformed {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// It is too large.
    #[error("{file}: a device tree of {size} bytes; a kernel takes {MAX_SIZE} at most")]
    TooLarge {
        /// The file.
        file: String,
        /// Bytes.
        size: usize,
    },
}

/// The largest tree: Linux maps two pages of 2 MiB, of which the tree may start anywhere in the first.
pub const MAX_SIZE: usize = 2 << 20;

/// The deepest nesting of nodes that is accepted from a user. Real trees have less than ten levels.
const MAX_DEPTH: usize = 64;

/// The phandle of hart `index`'s local interrupt controller ("riscv,cpu-intc").
pub const fn hart_interrupt_controller(index: u32) -> u32 {
    2 * index + 2
}

/// The phandle of hart `index` itself.
const fn hart(index: u32) -> u32 {
    2 * index + 1
}

/// The first phandle that a board with `harts` harts may give to a device.
pub const fn first_device_phandle(harts: u32) -> u32 {
    2 * harts + 1
}

/// What the tree says about each hart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpu {
    /// `riscv,isa-base`: "rv64i".
    pub isa_base: String,
    /// `riscv,isa-extensions`, in lower case: "i", "m", …, "zicsr", ….
    pub extensions: Vec<String>,
    /// The older `riscv,isa`: "rv64imafdc_zicsr_…".
    pub isa: String,
    /// `mmu-type`: "riscv,sv39", "riscv,sv48" or "riscv,sv57"; `None` for harts without translation.
    pub mmu_type: Option<String>,
    /// Bytes that `cbo.inval`, `cbo.clean` and `cbo.flush` work on, if there is Zicbom.
    pub cbom_block_size: Option<u32>,
    /// Bytes that `cbo.zero` works on, if there is Zicboz.
    pub cboz_block_size: Option<u32>,
    /// Bytes that a prefetch works on, if there is Zicbop.
    pub cbop_block_size: Option<u32>,
}

/// The run-time choices of `/chosen`.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// The kernel's command line; empty for none.
    pub bootargs: String,
    /// Where the initrd is, guest-physical.
    pub initrd: Option<Range<u64>>,
    /// Path of the console's node, with options as in "/soc/serial@10000000".
    pub stdout_path: Option<String>,
    /// Entropy for the kernel's random number generator, from the host.
    pub rng_seed: Option<[u8; 64]>,
}

/// All that a tree is made of.
#[derive(Clone, Debug, Default)]
pub struct Board {
    /// `model` of the root, shown by Linux as "Machine model".
    pub model: String,
    /// `compatible` of the root.
    pub compatible: Vec<String>,
    /// Base and size of each range of RAM, guest-physical.
    pub memory: Vec<(u64, u64)>,
    /// The number of harts.
    pub harts: u32,
    /// What they are.
    pub cpu: Cpu,
    /// Nodes of devices, for `/soc`.
    pub devices: Vec<Node>,
    /// Nodes directly below the root, such as [`syscon_poweroff`].
    pub root_nodes: Vec<Node>,
    /// `/aliases`: name and path.
    pub aliases: Vec<(String, String)>,
    /// `/chosen`.
    pub chosen: Chosen,
}

impl Board {
    /// The flattened tree.
    pub fn to_dtb(&self) -> Vec<u8> {
        let compatible: Vec<&str> = self.compatible.iter().map(String::as_str).collect();
        let mut root = Node::new("")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .strings("compatible", &compatible)
            .string("model", &self.model)
            .child(self.chosen.node());
        if !self.aliases.is_empty() {
            let aliases = self.aliases.iter();
            root = root.child(aliases.fold(Node::new("aliases"), |node, (name, path)| node.string(name, path)));
        }
        for (base, size) in &self.memory {
            let memory = Node::new(&format!("memory@{base:x}")).string("device_type", "memory");
            root = root.child(memory.reg(&[(*base, *size)]));
        }
        root = root.child(self.cpus());
        let soc = Node::new("soc")
            .cells("#address-cells", &[2])
            .cells("#size-cells", &[2])
            .string("compatible", "simple-bus")
            .flag("ranges");
        root = root.child(self.devices.iter().cloned().fold(soc, Node::child));
        root = self.root_nodes.iter().cloned().fold(root, Node::child);
        let mut tree = DeviceTree::new();
        tree.root = root.into_inner();
        tree.to_dtb()
    }

    fn cpus(&self) -> Node {
        let cpus = Node::new("cpus")
            .cells("#address-cells", &[1])
            .cells("#size-cells", &[0])
            .cells("timebase-frequency", &[TICKS_PER_SECOND as u32]);
        let cpus = (0..self.harts).fold(cpus, |cpus, index| cpus.child(self.cpu.node(index)));
        let cores = (0..self.harts).fold(Node::new("cluster0"), |cluster, index| {
            cluster.child(Node::new(&format!("core{index}")).cells("cpu", &[hart(index)]))
        });
        cpus.child(Node::new("cpu-map").child(cores))
    }
}

impl Cpu {
    fn node(&self, index: u32) -> Node {
        let extensions: Vec<&str> = self.extensions.iter().map(String::as_str).collect();
        let mut node = Node::new(&format!("cpu@{index:x}"))
            .string("device_type", "cpu")
            .cells("reg", &[index])
            .string("status", "okay")
            .string("compatible", "riscv")
            .string("riscv,isa-base", &self.isa_base)
            .strings("riscv,isa-extensions", &extensions)
            .string("riscv,isa", &self.isa);
        if let Some(mmu_type) = &self.mmu_type {
            node = node.string("mmu-type", mmu_type);
        }
        let block_sizes = [
            ("riscv,cbom-block-size", self.cbom_block_size),
            ("riscv,cboz-block-size", self.cboz_block_size),
            ("riscv,cbop-block-size", self.cbop_block_size),
        ];
        for (name, size) in block_sizes {
            if let Some(size) = size {
                node = node.cells(name, &[size]);
            }
        }
        let interrupts = Node::new("interrupt-controller")
            .cells("#address-cells", &[0])
            .cells("#interrupt-cells", &[1])
            .flag("interrupt-controller")
            .string("compatible", "riscv,cpu-intc")
            .cells("phandle", &[hart_interrupt_controller(index)]);
        node.cells("phandle", &[hart(index)]).child(interrupts)
    }
}

impl Chosen {
    fn node(&self) -> Node {
        let mut node = Node::new("chosen");
        if let Some(path) = &self.stdout_path {
            node = node.string("stdout-path", path);
        }
        if !self.bootargs.is_empty() {
            node = node.string("bootargs", &self.bootargs);
        }
        if let Some(initrd) = &self.initrd {
            node = node.cell64("linux,initrd-start", initrd.start).cell64("linux,initrd-end", initrd.end);
        }
        if let Some(seed) = &self.rng_seed {
            node = node.bytes("rng-seed", seed);
        }
        node
    }
}

/// A node that says how to power off: write `value` to the register at offset 0 of the system controller `regmap`.
pub fn syscon_poweroff(regmap: u32, value: u32) -> Node {
    syscon("poweroff", "syscon-poweroff", regmap, value)
}

/// A node that says how to restart, as [`syscon_poweroff`].
pub fn syscon_reboot(regmap: u32, value: u32) -> Node {
    syscon("reboot", "syscon-reboot", regmap, value)
}

/// A node that says how many seconds U-Boot waits for a key before it boots (its `doc/device-tree-bindings/config.txt`).
pub fn boot_delay(seconds: u32) -> Node {
    Node::new("config").cells("bootdelay", &[seconds])
}

fn syscon(name: &str, compatible: &str, regmap: u32, value: u32) -> Node {
    Node::new(name)
        .string("compatible", compatible)
        .cells("regmap", &[regmap])
        .cells("offset", &[0])
        .cells("value", &[value])
}

/// Bytes that [`with_room`] adds: as many as U-Boot claims for its own additions.
const ROOM: usize = 0x3000;

/// Makes room at the end of a blob for what a boot loader adds to it. One that hands the tree on where it lies
/// (U-Boot's `fdt_high` of all ones) takes it for granted, and would write over what follows.
pub fn with_room(mut dtb: Vec<u8>) -> Vec<u8> {
    dtb.resize(dtb.len() + ROOM, 0);
    // Devicetree Specification §5.2: `totalsize` is the second big-endian word.
    if let (Ok(size), Some(field)) = (u32::try_from(dtb.len()), dtb.get_mut(4..8)) {
        field.copy_from_slice(&size.to_be_bytes());
    }
    dtb
}

/// Puts what the user asked for into `/chosen` of a tree of the user's: `bootargs` if there are any, an initrd if there
/// is one, a seed and a console path only where `chosen` has them. All else stays as it is. `file` is the tree's name,
/// for messages.
pub fn amend(file: &str, dtb: &[u8], chosen: &Chosen) -> Result<Vec<u8>, DeviceTreeError> {
    let mut tree = parse(file, dtb)?;
    let additions = chosen.node().into_inner();
    if tree.find_node("/chosen").is_none() {
        tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
    }
    if let Some(node) = tree.find_node_mut("/chosen") {
        for property in additions.properties() {
            node.add_property(DeviceTreeProperty::new_unchecked(property.name(), property.value().to_vec()));
        }
    }
    Ok(tree.to_dtb())
}

/// Reads a tree from outside.
fn parse(file: &str, dtb: &[u8]) -> Result<DeviceTree, DeviceTreeError> {
    let malformed = |reason: String| DeviceTreeError::Malformed { file: file.into(), reason };
    if dtb.is_empty() {
        return Err(malformed("the file is empty".into()));
    }
    // Files may be longer than the tree: some tools leave room for additions.
    let total = dtb.get(4..8).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes) as usize);
    let dtb = total.and_then(|total| dtb.get(..total)).unwrap_or(dtb);
    if dtb.len() > MAX_SIZE {
        return Err(DeviceTreeError::TooLarge { file: file.into(), size: dtb.len() });
    }
    let fdt = Fdt::new(dtb).map_err(|error| malformed(error.to_string()))?;
    if !is_shallow(&fdt) {
        return Err(malformed(format!("nodes are nested more than {MAX_DEPTH} deep")));
    }
    Ok(DeviceTree::from_fdt(&fdt))
}

/// Whether recursion over the tree is safe.
fn is_shallow(fdt: &Fdt<'_>) -> bool {
    let mut level = vec![fdt.root()];
    for _ in 0..MAX_DEPTH {
        level = level.iter().flat_map(|node| node.children()).collect();
        if level.is_empty() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests;
