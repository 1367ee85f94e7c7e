#!/bin/sh
rows=$((120000 / ${BENCHMARK_DIVISOR:-1}))
{ echo ".parameter set :rows $rows"; cat sqlite.sql; } | sqlite3 :memory:
