# The start of the guest that paints (paint.c): loads the rest, takes the BIOS's font along and
# goes into 32-bit mode with every address reachable and an interrupt table that only wakes.
#
# Assembled and linked by build.sh: this sector at 0x7c00, what follows behind it; the
# addresses that are used here (font, loaded, sectors, bss_start, bss_end) are given by paint.ld.

        .section .boot, "ax"
        .code16
        .globl  _start
_start: ljmp    $0, $begin
begin:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x4ff0, %sp
        cld
        sti

        movw    $packet, %si            # BIOS: read by block number
        movb    $0x42, %ah
        movb    $0x80, %dl
        int     $0x13
        jc      stuck

        movw    $0x1130, %ax            # BIOS: where the font of 8 x 16 is (es:bp)
        movb    $6, %bh
        int     $0x10
        pushw   %es
        popw    %ds
        movw    %bp, %si
        xorw    %ax, %ax
        movw    %ax, %es
        movw    $font, %di
        movw    $2048, %cx
        rep     movsw
        movw    %ax, %ds

        cli
        inb     $0x92, %al              # address line 20
        orb     $2, %al
        outb    %al, $0x92
        lgdtl   gdt_at
        movl    %cr0, %eax
        orb     $1, %al
        movl    %eax, %cr0
        ljmpl   $8, $flat
stuck:  hlt
        jmp     stuck

        .code32
flat:   movw    $16, %ax
        movw    %ax, %ds
        movw    %ax, %es
        movw    %ax, %ss
        movl    $0x90000, %esp
        movl    $bss_start, %edi        # C expects zeros
        movl    $bss_end, %ecx
        subl    %edi, %ecx
        xorl    %eax, %eax
        rep     stosb

        movl    $idt, %edi              # every interrupt: acknowledge and go on
        movl    $256, %ecx
1:      movl    $wake, %eax
        cmpl    $256 - 0x20, %ecx       # the timer's counts
        jne     2f
        movl    $timer, %eax
2:      movw    %ax, (%edi)
        movw    $8, 2(%edi)
        movw    $0x8e00, 4(%edi)
        shrl    $16, %eax
        movw    %ax, 6(%edi)
        addl    $8, %edi
        loop    1b
        lidtl   idt_at
        call    main
3:      hlt
        jmp     3b

timer:  incl    ticks
wake:   pushl   %eax
        movb    $0x20, %al
        outb    %al, $0xa0
        outb    %al, $0x20
        popl    %eax
        iret

        .balign 4
gdt:    .quad   0
        .quad   0x00cf9a000000ffff      # 8: code, everything
        .quad   0x00cf92000000ffff      # 16: data, everything
gdt_at: .word   23
        .long   gdt
idt_at: .word   2047
        .long   idt
        .balign 4
packet: .byte   16, 0
        .word   sectors                 # from the linker
        .word   loaded, 0
        .quad   1

        .org    510
        .word   0xaa55

        .bss
        .balign 8
idt:    .skip   2048
        .globl  ticks
ticks:  .skip   4

        .section .note.GNU-stack, "", @progbits
