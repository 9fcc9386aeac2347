# A guest of 512 bytes: a boot sector that echoes its serial port and shows what happens.
#
# Assembled by build.sh (GNU as and ld) into two images that differ in one byte:
#   echo.img   the counter runs, so the screen changes 18 times a second
#   quiet.img  the counter stands until F10 is pressed, so the screen settles
#
# Screen (80 x 25 text, cursor hidden):
#   rows 0-21   every byte received on COM1, as a character, wrapping around
#   row  22     bytes of the PS/2 mouse, in hexadecimal, wrapping around
#   row  23     scancodes of the keyboard, in hexadecimal, wrapping around
#   row  24     the counter, in hexadecimal; F10 starts and stops it
#
# It sleeps (hlt) until an interrupt arrives and then polls every device until none has
# anything left. So an idle guest costs no processor time, and an interrupt that was lost in
# a migration is made good by the next tick of the timer.

        .code16
        .globl  _start

        .set    COM1,   0x3f8
        .set    ATTR,   0x1f            # white on blue
        .set    ROW,    160             # bytes of text memory a row
        .set    TEXT_END, 22 * ROW
        .set    MOUSE_ROW, 22 * ROW
        .set    KEY_ROW, 23 * ROW
        .set    HEX_SPAN, 26 * 6        # 26 numbers of two digits and a blank
        .set    COUNTER, 24 * ROW + 144
        .set    F10,    0x44
        .set    READY,  0x500           # here stands 0x6b6f ("ok") once bytes are echoed; before
                                        # that the serial port may lose them

        .ifndef RUNNING
        .set    RUNNING, 1
        .endif

_start: ljmp    $0, $begin
begin:  cli
        xorw    %ax, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        movw    $0x7000, %sp
        cld

        movw    $3, %ax                 # BIOS: 80 x 25 text, cleared
        int     $0x10
        movb    $1, %ah                 # BIOS: hide the cursor, whose blinking changes pixels
        movw    $0x2000, %cx
        int     $0x10
        cli
        movw    $0xb800, %ax
        movw    %ax, %es

        movw    $uart, %si              # UART: pairs of register offset and value
        movw    $(uart_end - uart) / 2, %cx
1:      lodsw
        movw    $COM1, %dx
        addb    %al, %dl
        movb    %ah, %al
        outb    %al, %dx
        loop    1b

        movw    $timer, 0x08 * 4        # interrupts: the handlers only wake the loop below
        movw    $wake, %ax
        movw    %ax, 0x09 * 4
        movw    %ax, 0x0c * 4
        movw    %ax, 0x74 * 4
        xorw    %ax, %ax
        movw    %ax, 0x08 * 4 + 2
        movw    %ax, 0x09 * 4 + 2
        movw    %ax, 0x0c * 4 + 2
        movw    %ax, 0x74 * 4 + 2
        movb    $0xe8, %al              # timer, keyboard, cascade, COM1
        outb    %al, $0x21
        movb    $0xef, %al              # mouse
        outb    %al, $0xa1

        movb    $0xa8, %al              # mouse on: enable the port, then reporting
        call    command
        movb    $0x60, %al              # interrupts of both, scancodes translated to set 1
        call    command
        movb    $0x47, %al
        call    data
        movb    $0xd4, %al
        call    command
        movb    $0xf4, %al
        call    data

        xorw    %di, %di
        call    show_counter
        movw    $0x6b6f, READY

# Serve every device until all are empty, then sleep.
serve:  movw    $COM1 + 5, %dx
        inb     %dx, %al
        testb   $1, %al                 # receiver: a byte is there
        jz      keys
        movw    $COM1, %dx
        inb     %dx, %al
        movb    $ATTR, %ah
        movw    %ax, %es:(%di)
        movb    %al, %bl
        incw    %di
        incw    %di
        cmpw    $TEXT_END, %di
        jb      1f
        xorw    %di, %di
1:      movw    $COM1 + 5, %dx
2:      inb     %dx, %al
        testb   $0x20, %al              # transmitter: room for a byte
        jz      2b
        movb    %bl, %al
        movw    $COM1, %dx
        outb    %al, %dx
        jmp     serve

keys:   inb     $0x64, %al
        testb   $1, %al                 # output buffer full
        jz      idle
        movw    $key_at, %si
        testb   $0x20, %al              # ... by the mouse
        jz      1f
        movw    $mouse_at, %si
1:      inb     $0x60, %al
        cmpw    $key_at, %si
        jne     2f
        cmpb    $F10, %al
        jne     2f
        xorb    $1, running
2:      movw    (%si), %bp
        call    hex_byte
        addw    $6, (%si)
        movw    2(%si), %bp             # end of the row
        cmpw    %bp, (%si)
        jb      serve
        subw    $HEX_SPAN, (%si)
        jmp     serve

idle:   sti                             # takes effect after hlt has begun: no wake-up is missed
        hlt
        cli
        cmpb    $0, ticked
        je      serve
        movb    $0, ticked
        testb   $1, running
        jz      serve
        incw    count
        pushw   $serve

show_counter:
        movw    $COUNTER, %bp
        movb    count + 1, %al
        call    hex_byte
        movw    $COUNTER + 4, %bp
        movb    count, %al

# Write %al in hexadecimal at text offset %bp.
hex_byte:
        pushw   %ax
        shrb    $4, %al
        call    1f
        popw    %ax
        incw    %bp
        incw    %bp
        andb    $15, %al
1:      addb    $'0', %al
        cmpb    $'9', %al
        jbe     2f
        addb    $'a' - '9' - 1, %al
2:      movb    $ATTR, %ah
        movw    %ax, %es:(%bp)
        ret

# Write %al to the keyboard controller's command or data port once it takes it.
command:
        movw    $0x64, %dx
        jmp     1f
data:   movw    $0x60, %dx
1:      movb    %al, %ah
2:      inb     $0x64, %al
        testb   $2, %al
        jnz     2b
        movb    %ah, %al
        outb    %al, %dx
        ret

# Interrupts: acknowledge, and let the loop look at the devices.
timer:  movb    $1, %cs:ticked
wake:   pushw   %ax
        movb    $0x20, %al
        outb    %al, $0xa0
        outb    %al, $0x20
        popw    %ax
        iret

uart:   .byte   3, 0x80                 # divisor latch
        .byte   0, 1                    # 115200 baud
        .byte   1, 0
        .byte   3, 3                    # 8 data bits, no parity, 1 stop bit
        .byte   2, 0xc7                 # FIFOs on and empty, wake at 14 bytes or a pause
        .byte   4, 0x0b                 # DTR, RTS, interrupt line on
        .byte   1, 1                    # interrupt when bytes are there
uart_end:

key_at: .word   KEY_ROW, KEY_ROW + HEX_SPAN
mouse_at: .word MOUSE_ROW, MOUSE_ROW + HEX_SPAN
count:  .word   0
ticked: .byte   0
running: .byte  RUNNING

        .org    510
        .word   0xaa55
