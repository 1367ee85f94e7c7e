use bus::Placement;
use dtoolkit::fdt::FdtNode;

use super::*;

fn board() -> Board {
    let serial = Placement {
        base: 0x1000_0000,
        size: 0x100,
        interrupts: vec![10],
        interrupt_parent: first_device_phandle(2),
        ..Placement::default()
    };
    Board {
        model: "vervet,virt".into(),
        compatible: vec!["riscv-virtio".into()],
        memory: vec![(0x8000_0000, 1 << 30)],
        harts: 2,
        cpu: Cpu {
            isa_base: "rv64i".into(),
            extensions: ["i", "m", "zicbom"].map(String::from).to_vec(),
            isa: "rv64im_zicbom".into(),
            mmu_type: Some("riscv,sv57".into()),
            cbom_block_size: Some(64),
            ..Cpu::default()
        },
        devices: vec![serial.node("serial").string("compatible", "ns16550a")],
        root_nodes: vec![syscon_poweroff(9, 0x5555), syscon_reboot(9, 0x7777), boot_delay(3)],
        aliases: vec![("serial0".into(), "/soc/serial@10000000".into())],
        chosen: Chosen {
            bootargs: "console=ttyS0 root=/dev/vda".into(),
            initrd: Some(0xa000_0000..0xa012_3456),
            stdout_path: Some("/soc/serial@10000000".into()),
            rng_seed: Some([7; 64]),
        },
    }
}

fn node<'a>(fdt: &Fdt<'a>, path: &str) -> FdtNode<'a> {
    fdt.find_node(path).unwrap_or_else(|| panic!("no {path}"))
}

fn value(fdt: &Fdt<'_>, path: &str, name: &str) -> Vec<u8> {
    let property = node(fdt, path).properties().find(|property| property.name() == name);
    property.unwrap_or_else(|| panic!("no {path}/{name}")).value().to_vec()
}

#[test]
fn the_tree_reads_back() {
    let dtb = board().to_dtb();
    let fdt = Fdt::new(&dtb).unwrap();
    assert_eq!(value(&fdt, "/", "model"), b"vervet,virt\0");
    assert_eq!(value(&fdt, "/chosen", "bootargs"), b"console=ttyS0 root=/dev/vda\0");
    assert_eq!(value(&fdt, "/chosen", "linux,initrd-end"), 0xa012_3456_u64.to_be_bytes());
    assert_eq!(value(&fdt, "/chosen", "rng-seed"), [7; 64]);
    assert_eq!(
        value(&fdt, "/memory@80000000", "reg"),
        [0x8000_0000_u64.to_be_bytes(), (1_u64 << 30).to_be_bytes()].concat()
    );
    assert_eq!(value(&fdt, "/cpus", "timebase-frequency"), 10_000_000_u32.to_be_bytes());
    assert_eq!(value(&fdt, "/cpus/cpu@1", "reg"), [0, 0, 0, 1]);
    assert_eq!(value(&fdt, "/cpus/cpu@1", "riscv,isa-extensions"), b"i\0m\0zicbom\0");
    assert_eq!(value(&fdt, "/cpus/cpu@0", "mmu-type"), b"riscv,sv57\0");
    assert_eq!(value(&fdt, "/cpus/cpu@0", "riscv,cbom-block-size"), [0, 0, 0, 64]);
    assert!(!node(&fdt, "/cpus/cpu@0").properties().any(|property| property.name() == "riscv,cboz-block-size"));
    assert_eq!(value(&fdt, "/poweroff", "value"), 0x5555_u32.to_be_bytes());
    assert_eq!(value(&fdt, "/aliases", "serial0"), b"/soc/serial@10000000\0");
    assert_eq!(value(&fdt, "/soc/serial@10000000", "interrupt-parent"), [0, 0, 0, 5]);
    assert_eq!(value(&fdt, "/soc", "ranges"), b"");
    assert_eq!(value(&fdt, "/config", "bootdelay"), 3u32.to_be_bytes());
}

#[test]
fn phandles_are_unique_and_lead_to_their_nodes() {
    let dtb = board().to_dtb();
    let fdt = Fdt::new(&dtb).unwrap();
    let handle = |path: &str| value(&fdt, path, "phandle");
    assert_eq!(value(&fdt, "/cpus/cpu-map/cluster0/core1", "cpu"), handle("/cpus/cpu@1"));
    assert_eq!(handle("/cpus/cpu@1/interrupt-controller"), hart_interrupt_controller(1).to_be_bytes());
    let mut all: Vec<Vec<u8>> = ["/cpus/cpu@0", "/cpus/cpu@1"]
        .iter()
        .flat_map(|cpu| [handle(cpu), handle(&format!("{cpu}/interrupt-controller"))])
        .chain([first_device_phandle(2).to_be_bytes().to_vec()])
        .collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 5);
}

#[test]
fn a_users_tree_changes_only_where_asked() {
    let dtb = board().to_dtb();
    let same = amend("board.dtb", &dtb, &Chosen::default()).unwrap();
    assert_eq!(same, dtb);
    let chosen = Chosen { bootargs: "quiet".into(), ..Chosen::default() };
    let quiet = amend("board.dtb", &dtb, &chosen).unwrap();
    let fdt = Fdt::new(&quiet).unwrap();
    assert_eq!(value(&fdt, "/chosen", "bootargs"), b"quiet\0");
    assert_eq!(value(&fdt, "/chosen", "linux,initrd-end"), 0xa012_3456_u64.to_be_bytes());

    let mut bare = DeviceTree::new();
    bare.root.add_child(DeviceTreeNode::new_unchecked("soc"));
    let mut padded = bare.to_dtb();
    padded.extend([0; 100]);
    let added = amend("board.dtb", &padded, &chosen).unwrap();
    assert_eq!(value(&Fdt::new(&added).unwrap(), "/chosen", "bootargs"), b"quiet\0");
}

#[test]
fn memory_reservations_survive() {
    let mut tree = DeviceTree::new();
    tree.memory_reservations.push(dtoolkit::memreserve::MemoryReservation::new(0x8000_0000, 0x1000));
    let dtb = tree.to_dtb();
    let amended = amend("board.dtb", &dtb, &Chosen::default()).unwrap();
    let fdt = Fdt::new(&amended).unwrap();
    assert_eq!(fdt.memory_reservations().collect::<Vec<_>>(), tree.memory_reservations);
}

#[test]
fn damaged_trees_are_refused() {
    let dtb = board().to_dtb();
    let refusal = |bytes: &[u8]| amend("board.dtb", bytes, &Chosen::default()).expect_err("a refusal").to_string();
    assert!(refusal(b"").contains("the file is empty"));
    assert!(refusal(b"\x7fELF and so on, long enough for a header............").contains("magic"));
    for length in 1..dtb.len() {
        assert!(refusal(&dtb[..length]).starts_with("board.dtb: is no flattened device tree (.dtb): "), "{length}");
    }
    let nested = (0..1000).fold(DeviceTreeNode::new_unchecked("n"), |child, _| {
        let mut node = DeviceTreeNode::new_unchecked("n");
        node.add_child(child);
        node
    });
    let mut deep = DeviceTree::new();
    deep.root.add_child(nested);
    assert!(refusal(&deep.to_dtb()).contains("nested more than 64 deep"));
    let mut large = DeviceTree::new();
    large.root.add_property(DeviceTreeProperty::new_unchecked("large", vec![0_u8; MAX_SIZE]));
    assert!(refusal(&large.to_dtb()).contains("a kernel takes"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 2000, failure_persistence: None, ..Default::default() })]

    /// Whatever is in a tree: no panic.
    #[test]
    fn any_tree_is_read_or_refused(
        changes in proptest::collection::vec((0..2000_usize, proptest::prelude::any::<u8>()), 1..8),
    ) {
        let mut dtb = board().to_dtb();
        for (place, value) in changes {
            let place = place % dtb.len();
            dtb[place] = value;
        }
        let _ = amend("board.dtb", &dtb, &board().chosen);
    }
}

#[test]
fn room_is_part_of_the_blob_and_not_of_the_tree() {
    let dtb = board().to_dtb();
    let roomy = with_room(dtb.clone());
    assert_eq!(roomy.len(), dtb.len() + 0x3000);
    assert_eq!(u32::from_be_bytes(roomy[4..8].try_into().unwrap()) as usize, roomy.len());
    // Read back and written anew, it is as it was.
    assert_eq!(
        amend("board.dtb", &roomy, &Chosen::default()).unwrap(),
        amend("board.dtb", &dtb, &Chosen::default()).unwrap()
    );
}
