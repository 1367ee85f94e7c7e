# Runs in the new system once its packages are configured; the host has put what it reads beside it.

cd /etc/vervet-finish
user=$(cat user)
if ! getent passwd "$user" >/dev/null; then
    useradd --create-home --shell /bin/bash --groups adm,sudo "$user"
fi
# Who sits at the console has the disk anyway. The network asks for a key: sshd refuses empty passwords.
passwd --delete "$user"
home=$(getent passwd "$user" | cut -d : -f 6)
install -d -m 700 -o "$user" -g "$user" "$home/.ssh"
install -m 600 -o "$user" -g "$user" keys "$home/.ssh/authorized_keys"
printf '%s ALL=(ALL:ALL) NOPASSWD: ALL\n' "$user" >/etc/sudoers.d/vervet
chmod 440 /etc/sudoers.d/vervet

update-initramfs -c -k all
if [ -d /etc/u-boot-menu ]; then
    u-boot-update
fi

# Where nobody's variables say what to boot, firmware takes the program of this one name.
if [ -e /etc/default/grub ]; then
    grub-install --target=riscv64-efi --efi-directory=/boot/efi --removable --no-nvram
    update-grub
fi

systemctl set-default multi-user.target
systemctl enable systemd-networkd.service vervet-host-key.service

# What systemd does at the first start after an upgrade has been done by the packages' scripts.
/usr/lib/systemd/systemd-update-done

# Each machine that comes of this disk gets a key and an identity of its own.
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id /var/lib/systemd/random-seed
: >/etc/machine-id
