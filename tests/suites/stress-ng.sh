#!/usr/bin/env bash
# Runs Debian's stress-ng with verification in Linux on several harts: its classes for CPU, memory, futex, pipe, mutex,
# mmap, fork and signal, one after the other.
#
#   stress-ng.sh [--minutes N] [--harts N] [--vervet FILE] [ENGINE...]
#
#   --minutes N     minutes in all for each engine (default 5)
#   --harts N       harts (default 4)
#   --vervet FILE   the program under test (default: target/release/vervet)
#   ENGINE          interpreter and jit (the default is both)
#
# Exits non-zero when a stressor fails, the guest does not come to its end in twice the time, or the kernel complains of
# a stall, a lockup or a hung task.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
minutes=5 harts=4 vervet=${CARGO_TARGET_DIR:-$root/target}/release/vervet
engines=()
while [ $# -gt 0 ]; do
    case $1 in
        --minutes) minutes=${2:?--minutes takes a number}; shift ;;
        --harts) harts=${2:?--harts takes a number}; shift ;;
        --vervet) vervet=${2:?--vervet takes a file}; shift ;;
        -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        -*) echo "stress-ng.sh: unknown option $1" >&2; exit 2 ;;
        *) engines+=("$1") ;;
    esac
    shift
done
[ ${#engines[@]} -gt 0 ] || engines=(interpreter jit)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$vervet" packages quick-start "$work" >/dev/null
classes=(cpu vm memcpy atomic futex pipe mutex mmap fork signal)
seconds=$((minutes * 60 / ${#classes[@]}))

{
    cat <<'INIT'
#!/bin/busybox sh
export PATH=/usr/bin:/bin:/usr/sbin:/sbin
/bin/busybox mkdir -p /proc /sys /dev /tmp
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
cd /tmp
INIT
    for class in "${classes[@]}"; do
        echo "echo \"== $class\""
        options="--$class $harts"
        [ "$class" = vm ] && options="--vm $harts --vm-bytes 64m"
        [ "$class" = mmap ] && options="--mmap $harts --mmap-bytes 32m"
        echo "stress-ng $options --timeout ${seconds}s --verify --metrics-brief && echo \"PASSED $class\""
    done
    cat <<'INIT'
/bin/busybox dmesg | /bin/busybox grep -iE 'stall|lockup|hung task|BUG:|WARNING:|Oops' && echo "KERNEL COMPLAINS"
echo "THE END"
/bin/busybox poweroff -f
INIT
} >"$work/init"
chmod +x "$work/init"
"$vervet" packages initramfs busybox-static stress-ng --init "$work/init" --output "$work/stress.cpio"

failed=0
for engine in "${engines[@]}"; do
    log=$work/$engine.log
    echo "== engine $engine, $harts harts, ${#classes[@]} classes of $seconds s each"
    timeout -k 5 $((minutes * 120 + 120)) \
        "$vervet" run --engine "$engine" --smp "$harts" -m 1G --kernel "$work/Image" --initrd "$work/stress.cpio" \
        --append "console=ttyS0 quiet" </dev/null | tee "$log" |
        grep -aE --line-buffered '^== |PASSED|FAILED|fail:|metrc|THE END|KERNEL|panic' || true
    passed=$(grep -ac '^PASSED' "$log" || true)
    if [ "$passed" -ne ${#classes[@]} ] || ! grep -aq 'THE END' "$log" || grep -aq 'KERNEL COMPLAINS' "$log"; then
        echo "engine $engine: FAILED; $passed of ${#classes[@]} classes passed"
        tail -n 30 "$log"
        failed=1
    else
        echo "engine $engine: all ${#classes[@]} classes passed"
    fi
done
exit $failed
