#!/bin/busybox sh
# The first program of the quick-start guest: it mounts what the kernel offers, loads the drivers of the devices that are
# there, has DHCP configure its network cards and starts a shell. Other modules (file systems, algorithms) come when the
# kernel asks for them.
# The shell's end, or BusyBox's poweroff, halt and reboot (SIGUSR2, SIGUSR1 and SIGTERM to this process), end the guest.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root PS1='\h:\w\$ '
# BusyBox's shell starts its own programs through /proc, so that only this one and the last need its name.
busybox mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /tmp

stop() {
    sync
    umount -a -r 2>/dev/null
    busybox "$1" -f
}
trap 'stop poweroff' USR2
trap 'stop halt' USR1
trap 'stop reboot' TERM

hostname -F /etc/hostname
modprobe virtio_mmio
for device in /sys/bus/virtio/devices/*/modalias; do
    if read -r alias <"$device"; then
        modprobe -q "$alias"
    fi
done
# The shell finds BusyBox's programs without links; other programs may not.
{
    busybox --install -s /bin
    ip link set lo up
    for interface in /sys/class/net/eth*; do
        [ -e "$interface" ] && udhcpc -b -i "${interface##*/}" -s /etc/udhcpc.script
    done
} >/dev/null 2>&1 &

cd /root
echo
echo "Linux $(uname -r) on $(uname -m), BusyBox shell. \"poweroff\" or Ctrl-D ends the machine."
setsid cttyhack sh </dev/console >/dev/console 2>&1 &
wait $!
stop poweroff
