#!/usr/bin/env bash
# Builds the rv64 programs of riscv-tests (environments p and v) and runs them with `vervet test`.
#
#   riscv-tests.sh [--sources DIR] [--build-only] [--jobs N] [--vervet FILE] [ENGINE...]
#
#   --sources DIR   a checkout of riscv-tests with riscv-test-env in DIR/env. Without it, the sources that the
#                   PyPI package pythondata-cpu-ibex carries are downloaded; they are older and lack Zb* and Zicond.
#   --build-only    stop after building
#   --jobs N        programs at a time (default: the host's processors)
#   --vervet FILE   the program under test (default: target/release/vervet)
#   ENGINE          interpreter (the default), jit, jit:N (threshold N), baseline (that alone, from the start), or qemu (the
#                   judge: qemu-system-riscv64)
#
# The programs end up in target/riscv-tests/{newest,packaged}/isa. Needs a riscv64 cross compiler; tests/install-peers
# installs all that is needed. Exits non-zero when any program fails on any engine.
set -euo pipefail

root=$(cd "$(dirname "$0")/../.." && pwd)
jobs=$(nproc)
sources='' build_only='' vervet=${CARGO_TARGET_DIR:-$root/target}/release/vervet
engines=()
while [ $# -gt 0 ]; do
    case $1 in
        --sources) sources=${2:?--sources takes a folder}; shift ;;
        --build-only) build_only=yes ;;
        --jobs) jobs=${2:?--jobs takes a number}; shift ;;
        --vervet) vervet=${2:?--vervet takes a file}; shift ;;
        -h | --help) sed -n '2,/^set/{s/^# \{0,1\}//p}' "$0"; exit 0 ;;
        -*) echo "riscv-tests.sh: unknown option $1" >&2; exit 2 ;;
        *) engines+=("$1") ;;
    esac
    shift
done
[ ${#engines[@]} -gt 0 ] || engines=(interpreter)
for engine in "${engines[@]}"; do
    [[ $engine =~ ^(interpreter|jit|baseline|jit:[0-9]+|qemu)$ ]] || { echo "riscv-tests.sh: unknown engine $engine" >&2; exit 2; }
done

# Needs the draft P extension, which Vervet does not offer. (The hypervisor/ folders, which need H, are not rv64*.)
unsupported='^rv64up-'

# --- sources -----------------------------------------------------------------------------------------------------
base=${CARGO_TARGET_DIR:-$root/target}/riscv-tests
if [ -n "$sources" ]; then
    [ -f "$sources/isa/Makefile" ] || { echo "riscv-tests.sh: $sources/isa/Makefile: not found" >&2; exit 2; }
    [ -f "$sources/env/p/riscv_test.h" ] || { echo "riscv-tests.sh: $sources/env: put riscv-test-env there" >&2; exit 2; }
    work=$base/newest
    mkdir -p "$work"
    # Sources only: whatever the checkout has built itself stays behind.
    (cd "$sources" && find -L isa env -name .git -prune -o -type f \( -name '*.[Sch]' -o -name '*.ld' -o -name 'Make*' \) -print0 |
        tar --null --dereference -T - -c) | tar -x -C "$work"
else
    work=$base/packaged
    if [ ! -f "$work/complete" ]; then
        rm -rf "$work"
        mkdir -p "$work/download"
        python3 -m pip download --quiet --no-deps --dest "$work/download" pythondata-cpu-ibex
        python3 - "$work" <<'PY'
import pathlib, sys, zipfile
work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("download/*.whl")
folders = {"riscv-tests/isa/": "isa/", "riscv-test-env/": "env/", "patches/riscv_test_env/": "patches/"}
with zipfile.ZipFile(wheel) as archive:
    for name in archive.namelist():
        for prefix, folder in folders.items():
            _, found, rest = name.partition("/vendor/" + prefix)
            if found and rest and not rest.endswith("/") and ".." not in rest:
                target = work / folder / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(archive.read(name))
PY
        # The package adapts the environment to a core without HTIF or S-mode, and carries the patch that did so.
        patch --quiet --reverse --strip=1 --directory "$work/env" <"$work/patches/changes.patch"
        # One page of stack beside the last data page is too small: the copy back of that page overwrites live frames,
        # and the atomics never end. Later sources give the stack four pages.
        sed -i 's/^#define STACK_TOP (_end + 4096)/#define STACK_TOP (_end + 4 * 4096)/' "$work/env/v/entry.S"
        touch "$work/complete"
    fi
fi

# --- build -------------------------------------------------------------------------------------------------------
gcc=${RISCV_GCC:-riscv64-linux-gnu-gcc}
command -v "$gcc" >/dev/null || { echo "riscv-tests.sh: $gcc: not found; run tests/install-peers" >&2; exit 2; }
clang=$(compgen -c clang- | grep -E '^clang-[0-9]+$' | sort -t- -k2 -rn | head -n 1 || true)

# A compiler for the suite's own Makefile: GCC first, Clang for the extensions that this GCC's assembler lacks. The ABI
# is always lp64d, since Debian's C headers exist for no other; programs without floating point do not notice.
cat >"$work/cc" <<CC
#!/usr/bin/env bash
set -- "\${@/#-mabi=lp64/-mabi=lp64d}"
set -- "\${@/#-mabi=lp64dd/-mabi=lp64d}"
common=(-fno-stack-protector -fno-pic -no-pie -w)
errors=\$($gcc "\${common[@]}" -Wl,--build-id=none -Wl,--no-warn-rwx-segments "\$@" 2>&1) && exit 0
[ -n "$clang" ] && exec $clang --target=riscv64-unknown-elf -fuse-ld="\$(command -v riscv64-linux-gnu-ld)" -isystem /usr/riscv64-linux-gnu/include "\${common[@]}" "\$@"
echo "\$errors" >&2
exit 1
CC
chmod +x "$work/cc"
make -C "$work/isa" --keep-going --jobs="$jobs" XLEN=64 RISCV_PREFIX=riscv64-linux-gnu- RISCV_GCC="$work/cc" \
    RISCV_OBJDUMP=true >"$work/build.log" 2>&1 || { echo "some programs were not built; see $work/build.log" >&2; }
rm -f "$work"/isa/*.dump

programs=()
for program in "$work"/isa/rv64*-[pv]-*; do
    [[ -f $program && ! ${program##*/} =~ $unsupported ]] && programs+=("$program")
done
[ ${#programs[@]} -gt 0 ] || { echo "riscv-tests.sh: nothing was built; see $work/build.log" >&2; exit 1; }
printf '%s\n' "${programs[@]##*/}" | sed -E 's/-([pv])-.*/ \1/' | sort | uniq -c |
    awk '{ count[$2] = count[$2] " " $3 ":" $1; total += $1 } END { for (s in count) print s count[s] | "sort"; close("sort"); print total " programs" }'
# A suite of which nothing was built would otherwise look like a pass.
missing=0
for folder in "$work"/isa/rv64*/; do
    suite=$(basename "$folder")
    [[ $suite- =~ $unsupported ]] && continue
    compgen -G "$work/isa/$suite-p-*" >/dev/null || { echo "not built by any compiler here: $suite" >&2; missing=1; }
done
[ -z "$build_only" ] || exit $missing

# --- run ---------------------------------------------------------------------------------------------------------
# QEMU's spike board answers HTIF: exit status 0 for a pass, the test's number otherwise.
judge() {
    printf '%s\0' "$@" | xargs -0 -n 1 -P "$jobs" bash -c '
        timeout 20 qemu-system-riscv64 -M spike -cpu max -display none -serial none -monitor none -bios none -kernel "$0" </dev/null >/dev/null 2>&1 ||
            { echo "FAIL ${0##*/} ($?)"; exit 1; }'
}

failed=$missing
for engine in "${engines[@]}"; do
    echo "== $engine"
    case $engine in
        qemu) judge "${programs[@]}" || failed=1 ;;
        baseline) "$vervet" test --jobs "$jobs" --engine jit --jit-baseline 1 --jit-threshold 4294967295 "${programs[@]}" || failed=1 ;;
        jit:*) "$vervet" test --jobs "$jobs" --engine jit --jit-threshold "${engine#jit:}" "${programs[@]}" || failed=1 ;;
        *) "$vervet" test --jobs "$jobs" --engine "$engine" "${programs[@]}" || failed=1 ;;
    esac
done
[ $failed = 0 ] && echo "riscv-tests: all ${#programs[@]} programs pass on: ${engines[*]}"
exit $failed
