#!/bin/busybox sh
# The first program of the quick-start guest: it mounts what the kernel offers, loads the modules and starts a shell.
# The shell's end, or BusyBox's poweroff, halt and reboot (SIGUSR2, SIGUSR1 and SIGTERM to this process), end the guest.

export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs devtmpfs /dev
busybox mkdir -p /dev/pts /dev/shm
busybox mount -t devpts devpts /dev/pts
busybox mount -t tmpfs tmpfs /run
busybox mount -t tmpfs -o mode=1777 tmpfs /tmp

stop() {
    busybox sync
    busybox umount -a -r 2>/dev/null
    busybox "$1" -f
}
trap 'stop poweroff' USR2
trap 'stop halt' USR1
trap 'stop reboot' TERM

busybox hostname -F /etc/hostname
while read -r module; do
    busybox insmod "$module"
done </etc/modules.load
busybox --install -s /bin 2>/dev/null

cd /root
export PS1='\h:\w\$ '
echo
echo "Linux $(busybox uname -r) on $(busybox uname -m), BusyBox shell. \"poweroff\" or Ctrl-D ends the machine."
busybox setsid busybox cttyhack sh </dev/console >/dev/console 2>&1 &
wait $!
stop poweroff
