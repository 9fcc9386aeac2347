#!/bin/sh
# Assembles echo.S into echo.img and quiet.img in the folder given (default: beside this file).
# Needs GNU as and ld (Debian: binutils).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for image in echo:1 quiet:0; do
    as --32 --defsym RUNNING="${image#*:}" -o "$work/guest.o" "$here/echo.S"
    ld -m elf_i386 -e _start -Ttext 0x7c00 --oformat binary -o "$out/${image%:*}.img" "$work/guest.o"
done
