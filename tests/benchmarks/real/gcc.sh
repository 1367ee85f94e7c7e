#!/bin/sh
# Some of the benchmarks' own programs, compiled.
programs="huffman hash_table switch_interpreter n_body"
[ "${BENCHMARK_DIVISOR:-1}" -eq 1 ] || programs=huffman
for program in $programs; do
    gcc -std=gnu11 -D_GNU_SOURCE -O2 -c -o /tmp/$program.o sources/$program.c || exit
    md5sum </tmp/$program.o
done
