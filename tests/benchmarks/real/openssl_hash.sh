#!/bin/sh
# PBKDF2, that is HMAC by SHA-512. `openssl speed` does as much as it can in a time; these jobs do what they are told.
openssl kdf -keylen 64 -kdfopt digest:SHA512 -kdfopt pass:vervet -kdfopt salt:benchmark \
    -kdfopt iter:$((300000 / ${BENCHMARK_DIVISOR:-1})) PBKDF2
