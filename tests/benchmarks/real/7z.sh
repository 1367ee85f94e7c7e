#!/bin/sh
# LZMA, compressed and decompressed. 7-Zip's own benchmark does the same, but a pass of it is some 50 G instructions.
cat /usr/lib/python3*/[a-m]*.py | head -c $((3000000 / ${BENCHMARK_DIVISOR:-1})) >/tmp/7z.sample
rm -f /tmp/sample.7z
7z a -mx=5 -mmt=1 -bd -bso0 /tmp/sample.7z /tmp/7z.sample || exit
for pass in 1 2 3 4; do
    7z x -mmt=1 -bd -so /tmp/sample.7z | md5sum
done
