//! How devices describe themselves in the device tree (Devicetree Specification 0.4).

pub use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// Where a device sits on its board: what it needs to know to describe itself, and only then.
#[derive(Clone, Debug, Default)]
pub struct Placement {
    /// Guest-physical address of the register window.
    pub base: u64,
    /// Size of the window in bytes.
    pub size: u64,
    /// The sources of the interrupt controller that its lines lead to, in the device's own order.
    pub interrupts: Vec<u32>,
    /// phandle of that controller.
    pub interrupt_parent: u32,
    /// phandle that other nodes use for this device; 0 if none does.
    pub phandle: u32,
    /// phandles of the harts' local interrupt controllers, by hart index.
    pub hart_interrupt_controllers: Vec<u32>,
}

impl Placement {
    /// A node "NAME@BASE" with the `reg` of the window (two address and two size cells) and, where there are any, its
    /// interrupts and phandle.
    pub fn node(&self, name: &str) -> Node {
        let mut node = Node::new(&format!("{name}@{:x}", self.base)).reg(&[(self.base, self.size)]);
        if !self.interrupts.is_empty() {
            node = node.cells("interrupts", &self.interrupts).cells("interrupt-parent", &[self.interrupt_parent]);
        }
        if self.phandle != 0 {
            node = node.cells("phandle", &[self.phandle]);
        }
        node
    }
}

/// A device-tree node under construction. Names are the program's own, so that a malformed one is a bug.
#[derive(Clone, Debug)]
pub struct Node(DeviceTreeNode);

impl Node {
    /// An empty node; `name` includes the unit address.
    pub fn new(name: &str) -> Self {
        Self(DeviceTreeNode::new_unchecked(name))
    }

    fn with(mut self, name: &str, value: Vec<u8>) -> Self {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, value));
        self
    }

    /// An empty property.
    pub fn flag(self, name: &str) -> Self {
        self.with(name, Vec::new())
    }

    /// A property of 32-bit cells.
    pub fn cells(self, name: &str, cells: &[u32]) -> Self {
        self.with(name, cells.iter().flat_map(|cell| cell.to_be_bytes()).collect())
    }

    /// A property of one 64-bit value (two cells).
    pub fn cell64(self, name: &str, value: u64) -> Self {
        self.with(name, value.to_be_bytes().to_vec())
    }

    /// A `reg` property of (address, size) pairs, two cells each.
    pub fn reg(self, windows: &[(u64, u64)]) -> Self {
        let bytes = windows.iter().flat_map(|(base, size)| [base.to_be_bytes(), size.to_be_bytes()]);
        self.with("reg", bytes.flatten().collect())
    }

    /// A string property.
    pub fn string(self, name: &str, value: &str) -> Self {
        self.strings(name, &[value])
    }

    /// A property of several strings.
    pub fn strings(self, name: &str, values: &[&str]) -> Self {
        let bytes = values.iter().flat_map(|value| value.bytes().chain([0]));
        self.with(name, bytes.collect())
    }

    /// A property of raw bytes.
    pub fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.with(name, value.to_vec())
    }

    /// Adds a child node.
    pub fn child(mut self, child: Node) -> Self {
        self.0.add_child(child.0);
        self
    }

    /// The finished node.
    pub fn into_inner(self) -> DeviceTreeNode {
        self.0
    }
}
