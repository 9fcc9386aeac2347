/* A guest without an operating system that paints what it is told to.
 *
 * Started by paint.S in 32-bit mode; sets its screen modes through the registers of QEMU's VGA
 * (docs/specs/standard-vga.rst in QEMU), so any size will do. Begins in 1024x768, 32 bits, black.
 *
 * Commands come on COM2, a line each; numbers are decimal or 0x... Each is answered with one line,
 * "ok" or "error: ...", once it is painted. COM1 is echoed. Colours are 0xRRGGBB. The last number
 * is a seed: the same one gives the same pixels.
 *
 *   mode W H BITS          a new screen, black; BITS is 8, 15, 16, 24 or 32
 *   qxl N W H BITS         the same on the N-th QXL device (0 is the first), with draw commands of
 *                          its own; BITS is 15, 16 or 32 (a client that connects while it is 16,
 *                          5-6-5, ends spice-server 0.15.1). `mode` goes back to the VGA
 *   on N                   what follows goes to that QXL device, which is open already
 *   heads N                the QXL screen is shown by N monitors side by side, at most 4; QEMU
 *                          needs "-global qxl-vga.max_outputs=4"
 *   fill X Y W H RGB       one colour
 *   xor X Y W H RGB        exclusive or with one colour
 *   photo X Y W H SEED     smooth colours with a little noise
 *   noise X Y W H SEED     every pixel by chance
 *   stamp X Y W H SEED     the same as photo; with QXL an image that is to be cached
 *   image X Y W H F SEED   with QXL: an image of bitmap format F (2: 1 bit, 4: 4, 5: 8, with
 *                          palettes; 6: 16, 7: 24, 8: 32, 9: RGBA; of 1 and 3, whose bits are the
 *                          other way round, spice-server 0.15.1 dies)
 *   video X Y W H FRAME    one picture of a moving one
 *   page SEED              the screen full of text
 *   scroll SEED            up by one line of text, a new one at the end
 *   type SEED              one letter, at the SEED-th place
 *   desktop SEED           windows, icons, buttons, a bar
 *   drag STEP              a window at its next place; what it leaves is painted again
 *   rects SEED             a hundred small boxes of one colour
 *   gallery SEED           the screen full of small photos
 *   repeat N T COMMAND     N times, T hundredths of a second apart; its last number grows by one
 *   every T COMMAND        the same in the background, until `stop` (or another `every`)
 *   stop                   answers "ok COUNT": how often it was done
 *   wait T                 answers T hundredths of a second later
 *   spin N                 N million turns of a loop, for whoever needs a busy guest
 *   tell N                 writes N to COM1, 8 bytes, high byte first, and fills a box
 */
#include "paint.h"

#define COM1 0x3f8
#define COM2 0x2f8
#define LINE 200
#define NUMBERS 8
#define MOST 4095 /* of places and sizes */

typedef struct {
    char word[12];
    u32 numbers[NUMBERS];
    int count;
} Command;

extern volatile u16 ready; /* see paint.ld */
static Command background;
static u32 period, due, done;
static u8 has_echo, has_commands, going_on;
static u32 vga_memory;
static const char far[] = "places and sizes are below 4096";

static void go_on(void);

/* -- devices ---------------------------------------------------------------------------- */

u32 pci_read(u32 device, u32 at) {
    outl(0xcf8, 0x80000000u | device << 11 | at);
    return inl(0xcfc);
}

static u8 uart_open(u16 port) {
    outb(port + 7, 0x5a); /* without a device every bit reads as one */
    if (inb(port + 7) != 0x5a) return 0;
    outb(port + 3, 0x80);
    outb(port, 1); /* 115200 baud */
    outb(port + 1, 0);
    outb(port + 3, 3);
    outb(port + 2, 0xc7);
    outb(port + 4, 0x0b);
    outb(port + 1, 1);
    return 1;
}

static void uart_write(u16 port, u8 byte) {
    while (!(inb(port + 5) & 0x20)) {}
    outb(port, byte);
}

static void say(const char *text) {
    while (*text) uart_write(COM2, *text++);
}

static void say_number(u32 number) {
    char digits[11], *at = digits + 10;
    *at = 0;
    do *--at = '0' + number % 10;
    while (number /= 10);
    say(at);
}

/* Sleep until an interrupt; without interrupts between, so that none is missed. */
static void sleep(void) { __asm__ volatile("sti; hlt; cli" ::: "memory"); }

/* What goes on in the background goes on. */
void wait(u32 hundredths) {
    for (u32 end = ticks + hundredths; (int)(end - ticks) > 0;) {
        go_on();
        sleep();
    }
}

static void interrupts(void) {
    static const u8 setup[][2] = {{0x20, 0x11}, {0xa0, 0x11}, {0x21, 0x20}, {0xa1, 0x28},
                                  {0x21, 4},    {0xa1, 2},    {0x21, 1},    {0xa1, 1},
                                  {0x21, 0xe6}, {0xa1, 0xff}}; /* timer, COM2, COM1 */
    for (u32 i = 0; i < sizeof setup / 2; i++) outb(setup[i][0], setup[i][1]);
    outb(0x43, 0x34);
    outb(0x40, 11932 & 255); /* 100 Hz */
    outb(0x40, 11932 >> 8);
}

/* -- screen modes ----------------------------------------------------------------------- */

static void vga(u16 index, u16 value) {
    outw(0x1ce, index);
    outw(0x1cf, value);
}

static void palette(void) {
    outb(0x3c6, 255);
    outb(0x3c8, 0);
    for (u32 i = 0; i < 256; i++) {
        outb(0x3c9, (i >> 5) * 9);
        outb(0x3c9, (i >> 2 & 7) * 9);
        outb(0x3c9, (i & 3) * 21);
    }
}

static const char *mode(u32 width, u32 height, u32 bits) {
    if (bits != 8 && bits != 15 && bits != 16 && bits != 24 && bits != 32) return "bits";
    if (width < 64 || width > 2560 || width % 8 || height < 64 || height > 1600) return "size";
    if (!vga_memory) return "no VGA";
    if (driven) qxl_close();
    vga(4, 0);
    vga(1, width);
    vga(2, height);
    vga(3, bits);
    vga(4, 0x41); /* on, linear, cleared */
    if (bits == 8) palette();
    outb(0x3c0, 0x20);
    screen = (Screen){(u8 *)vga_memory, width, height, bits, width * ((bits + 7) / 8)};
    return 0;
}

static void find_vga(void) {
    for (u32 device = 0; device < 32 && !vga_memory; device++)
        if (pci_read(device, 8) >> 16 == 0x0300) vga_memory = pci_read(device, 0x10) & ~15u;
}

/* -- commands --------------------------------------------------------------------------- */

static int same(const char *a, const char *b) {
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static const char *word(const char *at, char *to, int room) {
    while (*at == ' ') at++;
    while (*at > ' ' && room > 1) *to++ = *at++, room--;
    *to = 0;
    return at;
}

/* Reads numbers up to a word that isn't one, at most `limit`. */
static const char *numbers(const char *at, u32 *to, int limit, int *count) {
    for (*count = 0; *count < limit; ++*count) {
        while (*at == ' ') at++;
        if (*at < '0' || *at > '9') break;
        u32 value = 0, base = at[0] == '0' && at[1] == 'x' ? 16 : 10;
        if (base == 16) at += 2;
        for (;; at++) {
            u32 digit = (u32)(*at >= '0' && *at <= '9' ? *at - '0' : (*at | 32) - 'a' + 10);
            if (*at < '0' || digit >= base) break;
            value = value * base + digit;
        }
        to[*count] = value;
    }
    return at;
}

static void parse(const char *line, Command *command) {
    line = word(line, command->word, sizeof command->word);
    numbers(line, command->numbers, NUMBERS, &command->count);
}

typedef struct { const char *name; void (*paint)(u32); } Scene;
static const Scene scenes[] = {{"page", page}, {"scroll", scroll}, {"type", type},
                               {"desktop", desktop}, {"drag", drag}, {"rects", rects},
                               {"gallery", gallery}};

typedef struct { const char *name; void (*paint)(int, int, int, int, u32); } Area;
static const Area areas[] = {{"fill", fill}, {"photo", photo}, {"noise", noise}, {"video", video},
                              {"stamp", stamp}, {"xor", invert}};

static void spin(u32 millions) {
    for (volatile u32 i = 0; i < millions * 1000000u;) i++;
}

typedef struct { const char *name; int numbers; const char *(*act)(const u32 *); } Order;

static const char *order_mode(const u32 *n) { return mode(n[0], n[1], n[2]); }
static const char *order_qxl(const u32 *n) { return qxl_open(n[0], n[1], n[2], n[3]); }
static const char *order_on(const u32 *n) { return qxl_choose(n[0]); }
static const char *order_heads(const u32 *n) { return qxl_heads(n[0]); }
static const char *order_wait(const u32 *n) { return wait(n[0]), (char *)0; }
static const char *order_spin(const u32 *n) { return spin(n[0]), (char *)0; }
static const char *order_tell(const u32 *n) {
    if (!has_echo) return "no COM1";
    for (u32 i = 0; i < 8; i++) uart_write(COM1, i < 4 ? 0 : n[0] >> 8 * (7 - i));
    fill(0, 0, 64, 64, n[0] * 0x010305);
    return 0;
}
static const char *order_image(const u32 *n) {
    if (n[0] > MOST || n[1] > MOST || n[2] > MOST || n[3] > MOST) return far;
    return qxl_image((Box){n[0], n[1], n[0] + n[2], n[1] + n[3]}, n[4], n[5]);
}

static const Order orders[] = {{"mode", 3, order_mode}, {"qxl", 4, order_qxl}, {"on", 1, order_on},
                               {"heads", 1, order_heads}, {"image", 6, order_image},
                               {"wait", 1, order_wait}, {"spin", 1, order_spin},
                               {"tell", 1, order_tell}};

static const char *act(const Command *command) {
    const u32 *n = command->numbers;
    for (u32 i = 0; i < sizeof scenes / sizeof *scenes; i++)
        if (same(command->word, scenes[i].name)) {
            if (command->count != 1) return "it takes 1 number";
            scenes[i].paint(n[0]);
            return 0;
        }
    for (u32 i = 0; i < sizeof areas / sizeof *areas; i++)
        if (same(command->word, areas[i].name)) {
            if (command->count != 5) return "it takes 5 numbers";
            if (n[0] > MOST || n[1] > MOST || n[2] > MOST || n[3] > MOST) return far;
            areas[i].paint(n[0], n[1], n[2], n[3], n[4]);
            return 0;
        }
    for (u32 i = 0; i < sizeof orders / sizeof *orders; i++)
        if (same(command->word, orders[i].name))
            return command->count == orders[i].numbers ? orders[i].act(n) : "other numbers";
    return "no such command";
}

static const char *repeat(const char *rest) {
    u32 how[2];
    int count;
    Command command;
    rest = numbers(rest, how, 2, &count);
    parse(rest, &command);
    if (count != 2 || !command.count) return "repeat N T COMMAND";
    for (u32 i = 0; i < how[0]; i++) {
        const char *error = act(&command);
        if (error) return error;
        command.numbers[command.count - 1]++;
        wait(how[1]);
    }
    return 0;
}

static const char *start(const char *rest) {
    u32 how;
    int count;
    Command command;
    rest = numbers(rest, &how, 1, &count);
    parse(rest, &command);
    if (count != 1 || !how || !command.count) return "every T COMMAND";
    const char *error = act(&command);
    if (error) return error;
    command.numbers[command.count - 1]++;
    background = command;
    period = how;
    due = ticks + how;
    done = 1;
    return 0;
}

static void obey(const char *line) {
    char first[12];
    Command command;
    const char *error, *rest = word(line, first, sizeof first);
    if (!*first) return;
    if (same(first, "stop")) {
        period = 0;
        say("ok ");
        say_number(done);
        say("\n");
        return;
    }
    if (same(first, "repeat")) error = repeat(rest);
    else if (same(first, "every")) error = start(rest);
    else parse(line, &command), error = act(&command);
    if (driven) qxl_finish();
    say(error ? "error: " : "ok");
    if (error) say(error);
    say("\n");
}

static void listen(void) {
    static char line[LINE];
    static int length;
    while (has_commands && inb(COM2 + 5) & 1) {
        char byte = inb(COM2);
        if (byte == '\n') {
            line[length] = 0;
            length = 0;
            obey(line);
        } else if (byte != '\r' && length < LINE - 1) line[length++] = byte;
    }
}

static void echo(void) {
    while (has_echo && inb(COM1 + 5) & 1) {
        u8 byte = inb(COM1);
        uart_write(COM1, byte);
    }
}

/* One step of the background; what was missed isn't made up for. */
static void go_on(void) {
    if (!period || going_on || (int)(ticks - due) < 0) return;
    going_on = 1;
    act(&background);
    going_on = 0;
    background.numbers[background.count - 1]++;
    done++;
    due += period;
    if ((int)(ticks - due) > 0) due = ticks;
}

void main(void) {
    interrupts();
    find_vga();
    mode(1024, 768, 32);
    has_echo = uart_open(COM1);
    has_commands = uart_open(COM2);
    ready = 0x6b6f;
    for (;;) {
        listen();
        echo();
        go_on();
        sleep();
    }
}
