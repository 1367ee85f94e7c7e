#!/bin/sh
# Arithmetic of large integers: whether 2^2203 - 1 and 2^1279 - 1 are primes.
digits=319
[ "${BENCHMARK_DIVISOR:-1}" -gt 1 ] || digits=550
openssl prime -hex 7$(printf "%0${digits}d" 0 | tr 0 F) | tail -c 9
