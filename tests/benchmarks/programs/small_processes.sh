#!/bin/sh
# A shell script of many small processes, as a build or a boot script is.
#   small_processes.sh ROUNDS
rounds=$((${1:-40} / ${BENCHMARK_DIVISOR:-1}))
folder=/tmp/small_processes.$$
mkdir -p "$folder"
i=0
total=0
while [ $i -lt "$rounds" ]; do
    echo "line $i of some text" >"$folder/$i"
    words=$(cat "$folder/$i" | wc -w)
    found=$(grep -c text "$folder/$i")
    name=$(basename "$folder/$i")
    total=$(expr $total + $words + $found + $name)
    i=$((i + 1))
done
count=$(ls "$folder" | wc -l)
sorted=$(cat "$folder"/* | sort -r | head -n 1 | cut -d ' ' -f 2)
rm -r "$folder"
echo "small_processes $total-$count-$sorted"
