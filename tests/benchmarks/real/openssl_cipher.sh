#!/bin/sh
# AES-256 in counter mode over zeros.
key=000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
head -c $((80000000 / ${BENCHMARK_DIVISOR:-1})) /dev/zero |
    openssl enc -aes-256-ctr -K $key -iv 00000000000000000000000000000000 | md5sum
