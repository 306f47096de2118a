#!/bin/sh
# interface.sh PROGRAM: what the program of interface.awk prints is what abi/interface.txt keeps.
here=$(cd "$(dirname "$0")" && pwd)
"$1" | diff "$here/interface.txt" - || {
    echo "The public interface is another one. If a program built before still runs right (something was added), accept it:"
    echo "  $1 > abi/interface.txt; docs/CHANGING.md, \"The public interface\"."
    exit 1
}
echo "$(grep -c '(' "$here/interface.txt") functions and $(grep -c '^struct' "$here/interface.txt") structs as promised"
