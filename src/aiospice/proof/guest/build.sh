#!/bin/sh
# Builds the guests in the folder given (default: beside this file): echo.S into echo.img and
# quiet.img (GNU as and ld), paint.* into paint.img (and gcc; Debian: gcc).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for image in echo:1 quiet:0; do
    as --32 --defsym RUNNING="${image#*:}" -o "$work/guest.o" "$here/echo.S"
    ld -m elf_i386 -e _start -Ttext 0x7c00 --oformat binary -o "$out/${image%:*}.img" "$work/guest.o"
done
as --32 -o "$work/start.o" "$here/paint.S"
for part in paint paint_scenes paint_qxl; do
    gcc -m32 -march=i686 -O2 -std=gnu11 -Wall -Wextra -Wno-main -ffreestanding -fno-builtin \
        -fno-tree-loop-distribute-patterns -fno-pic -fno-stack-protector \
        -fno-asynchronous-unwind-tables -fcf-protection=none -mgeneral-regs-only \
        -c -o "$work/$part.o" "$here/$part.c"
done
ld -m elf_i386 -T "$here/paint.ld" -nostdlib -o "$work/paint.elf" "$work"/start.o "$work"/paint*.o
objcopy -O binary -R .bss "$work/paint.elf" "$out/paint.img"
truncate -s %512 "$out/paint.img"
