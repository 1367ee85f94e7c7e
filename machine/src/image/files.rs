//! The configuration of a new system that is ours: what build.sh puts onto the disk before packages are configured, and
//! what finish.sh reads afterwards.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use packages::FileTree;
use ssh_key::PublicKey;
use uuid::Uuid;

use super::{BootLoader, Debian, Error, Result};

/// The name of a user of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName(String);

impl UserName {
    /// Takes what useradd takes, without its looser forms: the name stands in files with rules of their own.
    pub fn new(name: &str) -> Result<Self> {
        let first = |c: char| c.is_ascii_lowercase() || c == '_';
        let rest = |c: char| first(c) || c.is_ascii_digit() || c == '-';
        let valid = name.len() <= 32 && name.starts_with(first) && name.chars().all(rest);
        if valid { Ok(Self(name.into())) } else { Err(Error::User(name.into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a machine that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineName(String);

impl MachineName {
    /// Takes what host names are made of: the name is one of a folder, too.
    pub fn new(name: &str) -> Result<Self> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let inside = name.chars().all(|c| valid(c) || c == '-');
        let fits = name.len() <= 32 && name.starts_with(valid) && name.ends_with(valid);
        if inside && fits { Ok(Self(name.into())) } else { Err(Error::MachineName(name.into())) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for MachineName {
    fn default() -> Self {
        Self("debian".into())
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for MachineName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

/// Public keys that may log in, as sshd's `authorized_keys` has them (sshd(8)), without options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizedKeys(String);

impl AuthorizedKeys {
    /// Reads the text of a file: a key on each line. `origin` names it in messages.
    pub fn parse(origin: &str, text: &str) -> Result<Self> {
        let refused = |reason: &str| Error::Key { origin: origin.into(), reason: reason.into() };
        if text.contains("PRIVATE KEY") {
            return Err(refused("it holds a private key"));
        }
        let mut keys = String::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let key = PublicKey::from_openssh(line).map_err(|e| refused(&format!("a line is no public key ({e})")))?;
            let line = key.to_openssh().map_err(|e| refused(&e.to_string()))?;
            keys.push_str(&line);
            keys.push('\n');
        }
        if keys.is_empty() {
            return Err(refused("there is no key in it"));
        }
        Ok(Self(keys))
    }

    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        Self::parse(&path.display().to_string(), &text)
    }
}

/// What the shell scripts of the build are told.
pub(super) struct Plan<'a> {
    pub(super) debian: &'a Debian,
    /// Identity of the root file system.
    pub(super) root: Uuid,
    /// Identity of the EFI system partition's volume, if there is one.
    pub(super) system: Option<u32>,
    /// The mirror that the system asks for packages later on.
    pub(super) mirror: Option<&'a str>,
    /// Places of the packages on the disk of packages: those that are needed first, and how many there are.
    pub(super) required: usize,
    /// All of them.
    pub(super) packages: usize,
}

/// The label of the root file system.
const LABEL: &str = "debian";

/// The host name. Each user may have many machines: it is not unique, only short.
const HOST_NAME: &str = "debian";

/// Drivers in the initramfs: what virtual machines have their root file system on. The whole set would make it ten
/// times as long to load and to unpack.
const DRIVERS: [&str; 9] =
    ["virtio_mmio", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "nvme", "ahci", "ext4", "crc32c_generic"];

/// The console; page tables of four levels, since programs that generate code (OpenJDK 21) refuse to run where the
/// kernel uses five; and no waiting: who wants another kernel interrupts U-Boot before.
const EXTLINUX: &str = "U_BOOT_PARAMETERS=\"console=ttyS0 quiet no5lvl\"\nU_BOOT_PROMPT=\"0\"\n";
const GRUB: &str = "\
GRUB_DEFAULT=0
GRUB_TIMEOUT=1
GRUB_DISTRIBUTOR=Debian
GRUB_TERMINAL=console
GRUB_CMDLINE_LINUX=\"console=ttyS0 quiet no5lvl\"
GRUB_DISABLE_OS_PROBER=true
";

/// systemd's limits are made for hardware. On a busy host an emulated system may take longer, and a device that is not
/// there after 90 seconds (the console) would be given up.
const PATIENCE: &str = "[Manager]\nDefaultTimeoutStartSec=15min\nDefaultDeviceTimeoutSec=15min\n";

/// Makes the host key of this machine: images have none, so that machines made of one image do not share it.
const HOST_KEY_UNIT: &str = "\
[Unit]
Description=Make this machine's SSH host key
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -q -t ed25519 -N \"\" -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target
";

/// The files under `/etc/vervet` of the machine that builds: `files/` goes onto the disk as it is.
pub(super) fn tree(plan: &Plan<'_>) -> Result<FileTree> {
    let mut tree = FileTree::new();
    let list = |range: std::ops::Range<usize>| -> String {
        range.map(|index| super::package_disk::name(index) + "\n").collect()
    };
    tree.file("build", format!("label={LABEL}\nuuid={}\n", plan.root), 0o644)?;
    tree.file("required", list(0..plan.required), 0o644)?;
    tree.file("others", list(plan.required..plan.packages), 0o644)?;

    let mut file = |path: &str, text: &str, mode: u32| tree.file(&format!("files/etc/{path}"), text, mode);
    let root = plan.root;
    let mut fstab = format!("UUID={root} / ext4 defaults,errors=remount-ro 0 1\n");
    if let Some(id) = plan.system {
        fstab.push_str(&format!("UUID={:04X}-{:04X} /boot/efi vfat umask=0077 0 1\n", id >> 16, id & 0xffff));
    }
    file("fstab", &fstab, 0o644)?;
    file("hostname", &format!("{HOST_NAME}\n"), 0o644)?;
    file("hosts", &format!("127.0.0.1 localhost\n127.0.1.1 {HOST_NAME}\n::1 localhost ip6-localhost\n"), 0o644)?;
    file("default/locale", "LANG=C.UTF-8\n", 0o644)?;
    match plan.debian.boot_loader {
        BootLoader::Extlinux => file("u-boot-menu/conf.d/vervet.conf", EXTLINUX, 0o644)?,
        BootLoader::Grub => file("default/grub", GRUB, 0o644)?,
    }
    file("initramfs-tools/conf.d/vervet", "MODULES=list\n", 0o644)?;
    file("initramfs-tools/modules", &(DRIVERS.join("\n") + "\n"), 0o644)?;
    file("systemd/network/80-dhcp.network", "[Match]\nType=ether\n\n[Network]\nDHCP=yes\n", 0o644)?;
    file("systemd/system.conf.d/vervet.conf", PATIENCE, 0o644)?;
    file("systemd/system/vervet-host-key.service", HOST_KEY_UNIT, 0o644)?;
    file("apt/sources.list.d/debian.sources", &sources(plan), 0o644)?;
    file("vervet-finish/run", include_str!("finish.sh"), 0o644)?;
    file("vervet-finish/user", plan.debian.user.as_str(), 0o644)?;
    file("vervet-finish/keys", &plan.debian.keys.0, 0o644)?;
    Ok(tree)
}

/// Where apt looks for packages: the mirror from which the system was made, if the guest can reach one of its kind.
fn sources(plan: &Plan<'_>) -> String {
    match plan.mirror {
        Some(mirror) if mirror.starts_with("http://") || mirror.starts_with("https://") => {
            let suite = &plan.debian.packages.suite;
            format!(
                "Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\n\
                 Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
            )
        }
        _ => "# The mirror that this system was made from is a folder of another machine: name one here.\n".into(),
    }
}

#[cfg(test)]
mod tests {
    use packages::Kind;

    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti a key";

    fn plan_of(mirror: Option<&str>, check: impl FnOnce(FileTree)) {
        let debian = Debian {
            packages: packages::Settings::default(),
            add: Vec::new(),
            size: super::super::SMALLEST,
            boot_loader: BootLoader::Grub,
            user: UserName::new("user").unwrap(),
            keys: AuthorizedKeys::parse("here", KEY).unwrap(),
        };
        let root = Uuid::from_u128(1);
        check(tree(&Plan { debian: &debian, root, system: Some(0x12ab), mirror, required: 2, packages: 5 }).unwrap());
    }

    fn text(tree: &FileTree, path: &str) -> String {
        match &tree.get(path).unwrap_or_else(|| panic!("{path}")).kind {
            Kind::File(content) => String::from_utf8(content.bytes().unwrap().into_owned()).unwrap(),
            kind => panic!("{path}: {kind:?}"),
        }
    }

    #[test]
    fn the_scripts_find_what_they_read() {
        plan_of(Some("http://mirror.test/debian"), |tree| {
            assert_eq!(text(&tree, "required"), "00000.deb\n00001.deb\n");
            assert_eq!(text(&tree, "others"), "00002.deb\n00003.deb\n00004.deb\n");
            let uuid = "00000000-0000-0000-0000-000000000001";
            assert!(text(&tree, "build").contains(&format!("uuid={uuid}\n")));
            let fstab = text(&tree, "files/etc/fstab");
            assert!(fstab.starts_with(&format!("UUID={uuid} / ext4 ")), "{fstab}");
            assert!(fstab.contains("\nUUID=0000-12AB /boot/efi vfat "), "{fstab}");
            assert!(text(&tree, "files/etc/vervet-finish/keys").starts_with("ssh-ed25519 AAAA"));
            let sources = text(&tree, "files/etc/apt/sources.list.d/debian.sources");
            assert!(sources.contains("URIs: http://mirror.test/debian\nSuites: trixie\n"), "{sources}");
        });
        for folder in [None, Some("/srv/debian"), Some("file:///srv/debian")] {
            plan_of(folder, |tree| {
                assert!(!text(&tree, "files/etc/apt/sources.list.d/debian.sources").contains("URIs"));
            });
        }
    }

    #[test]
    fn names_and_keys_are_checked() {
        for name in ["a", "_x", "user-1", &"a".repeat(32)] {
            assert_eq!(UserName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "1a", "-a", "A", "a b", "a;b", "a/b", "ä", "a\n", &"a".repeat(33)] {
            assert!(UserName::new(name).is_err(), "{name:?}");
        }
        for name in ["a", "2", "web-1", &"a".repeat(32)] {
            assert_eq!(MachineName::new(name).unwrap().as_str(), name);
        }
        for name in ["", "-a", "a-", "A", "a.b", "..", "a/b", "a b", "ä", &"a".repeat(33)] {
            assert!(MachineName::new(name).is_err(), "{name:?}");
        }
        let keys = AuthorizedKeys::parse("f", &format!("# mine\n\n{KEY}\n  {KEY}\n")).unwrap();
        assert_eq!(keys.0.lines().collect::<Vec<_>>(), [KEY, KEY]);
        let error = |text: &str| AuthorizedKeys::parse("f", text).unwrap_err().to_string();
        assert!(error("-----BEGIN OPENSSH PRIVATE KEY-----\n").contains("private key"));
        assert!(error("").contains("no key"));
        for wrong in ["ssh-ed25519", "ssh-ed25519 AAAA", "hello", "ssh-rsa !"] {
            assert!(error(wrong).contains("no public key"), "{wrong}");
        }
    }
}
