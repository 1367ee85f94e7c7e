#!/bin/sh
# zstd's own benchmark: levels 3 and 12, each compressed and decompressed once. What it prints are sizes and speeds; it
# compares checksums itself.
cat /usr/lib/python3*/[a-m]*.py | head -c $((6000000 / ${BENCHMARK_DIVISOR:-1})) >/tmp/zstd.sample
for level in 3 12; do
    zstd -q -b$level -i0 /tmp/zstd.sample >/tmp/zstd || exit
    sed 's/(.*//' /tmp/zstd
done
