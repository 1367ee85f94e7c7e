#!/bin/sh
# The first program of the machine that builds a Debian disk. Around it is an initramfs of Debian's required packages
# (unpacked, not configured); /dev/vda is the disk with its partition table written, /dev/vdb holds all packages, and
# /etc/vervet/build tells the rest. What it has to say to the host are lines that begin with "@"; the last is "@done".

set -e
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
packages=/run/packages
target=/run/target

# Whatever happens, the machine ends.
trap 'status=$?; [ $status = 0 ] || echo "@failed $status"; exec busybox poweroff -f' EXIT

stage() {
    echo "@stage $1"
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
while read -r module; do
    busybox insmod "$module"
done </etc/modules.load
. /etc/vervet/build

stage format
# The disk is new: what has not been written reads as zero.
mke2fs -q -t ext4 -L "$label" -U "$uuid" -E nodiscard,assume_storage_prezeroed=1 /dev/vda1
mkdir $target $packages
# Nobody needs a disk whose building was interrupted, so nothing has to be durable before the end.
mount -t ext4 -o noatime,nobarrier,data=writeback /dev/vda1 $target
mount -t vfat -o ro,codepage=437,iocharset=utf8 /dev/vdb $packages

# dpkg runs in the new system, so that first needs the files of what dpkg and the packages' scripts take for granted.
# base-files stands first in the list: it makes /bin, /lib and /sbin the links that they are.
stage extract
while read -r file; do
    dpkg-deb --fsys-tarfile "$packages/$file" | tar -x -p -C $target
    echo "@one"
done </etc/vervet/required

mkdir -p $target/packages
mount --bind $packages $target/packages
mount -t proc proc $target/proc
mount -t sysfs sysfs $target/sys
mount -t devtmpfs devtmpfs $target/dev
mkdir -p $target/dev/pts
mount -t devpts devpts $target/dev/pts
mount -t tmpfs tmpfs $target/run
mount -t tmpfs tmpfs $target/tmp

# No package's script may start a service: no systemd runs.
printf '#!/bin/sh\nexit 101\n' >$target/usr/sbin/policy-rc.d
chmod 755 $target/usr/sbin/policy-rc.d
: >$target/var/lib/dpkg/status
cp -a /etc/vervet/files/. $target/
if [ -e /dev/vda2 ]; then
    mkdir -p $target/boot/efi
    mount -t vfat -o codepage=437,iocharset=utf8 /dev/vda2 $target/boot/efi
fi

# Paths behind the name of a list, as the new system sees them.
listed() {
    sed 's,^,/packages/,' "/etc/vervet/$1"
}

# Configuration files that are there already are ours. Dependencies are met in the end, not at each step. The descriptor
# of the status lines is another than 1, for the packages' scripts do not inherit it.
run_dpkg() {
    chroot $target dpkg --status-fd 3 --force-depends --force-confdef --force-confold --force-unsafe-io "$@" 3>&1
}

stage essential
run_dpkg --install $(listed required)
stage unpack
run_dpkg --unpack $(listed others)
stage configure
# The kernel's initramfs is made once, in the end, instead of for each package that has a say in it.
export INITRD=No
run_dpkg --configure --pending
unset INITRD

stage finish
chroot $target /bin/sh -e /etc/vervet-finish/run
rm -r $target/etc/vervet-finish $target/usr/sbin/policy-rc.d
broken=$(chroot $target dpkg --audit)
if [ -n "$broken" ]; then
    echo "$broken"
    exit 1
fi

[ ! -e /dev/vda2 ] || umount $target/boot/efi
umount $target/tmp $target/run $target/dev/pts $target/dev $target/sys $target/proc $target/packages
rmdir $target/packages
umount $target
e2fsck -f -n /dev/vda1
echo "@done"
