/* What the guest can paint. Each scene is made of pieces, and every piece is shown by itself. */
#include "paint.h"

#define LETTER_WIDTH 8
#define LETTER_HEIGHT 16

Screen screen;
extern const u8 font[]; /* the BIOS's, from paint.S */
static Box touched;  /* painted and not shown yet */
static Box clip;     /* nothing is painted outside */
static int clipped;
static u32 chance;

/* -- pixels ----------------------------------------------------------------------------- */

static u32 packed(u32 rgb) {
    u32 r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
    switch (screen.bits) {
    case 8: return (r & 0xe0) | (g >> 5 << 2) | b >> 6;
    case 15: return r >> 3 << 10 | g >> 3 << 5 | b >> 3;
    case 16: return r >> 3 << 11 | g >> 2 << 5 | b >> 3;
    default: return rgb & 0xffffff;
    }
}

static u8 *at(int x, int y) {
    return screen.base + y * screen.stride + x * ((screen.bits + 7) / 8);
}

static void store(u8 *where, u32 value) {
    switch (screen.bits) {
    case 8: *where = value; break;
    case 15: case 16: *(u16 *)where = value; break;
    case 24: where[0] = value, where[1] = value >> 8, where[2] = value >> 16; break;
    default: *(u32 *)where = value;
    }
}

static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }

/* The part of a box that may be painted; it counts as painted. */
static Box visible(int x, int y, int width, int height) {
    Box box = {larger(x, 0), larger(y, 0), smaller(x + width, screen.width),
               smaller(y + height, screen.height)};
    if (clipped)
        box = (Box){larger(box.left, clip.left), larger(box.top, clip.top),
                    smaller(box.right, clip.right), smaller(box.bottom, clip.bottom)};
    if (box.left >= box.right || box.top >= box.bottom) return (Box){0, 0, 0, 0};
    if (touched.right == 0) touched = box;
    touched = (Box){smaller(box.left, touched.left), smaller(box.top, touched.top),
                    larger(box.right, touched.right), larger(box.bottom, touched.bottom)};
    return box;
}

static void shown_as(u32 key) {
    if (driven && touched.right) qxl_copy(touched, key);
    touched = (Box){0, 0, 0, 0};
}

static void shown(void) { shown_as(0); }

static u32 random(void) {
    chance ^= chance << 13;
    chance ^= chance >> 17;
    chance ^= chance << 5;
    return chance;
}

static void begin(u32 seed) {
    chance = seed * 2654435761u ^ 0x9e3779b9u;
    if (!chance) chance = 1;
    for (int i = 0; i < 8; i++) random();
}

static u32 below(u32 limit) { return (random() >> 8) % limit; }

static void paint(int x, int y, int width, int height, u32 rgb) {
    Box box = visible(x, y, width, height);
    u32 value = packed(rgb);
    for (int row = box.top; row < box.bottom; row++) {
        u8 *where = at(box.left, row);
        if (screen.bits == 32)
            for (int n = box.right - box.left; n > 0; n--, where += 4) *(u32 *)where = value;
        else
            for (int n = box.right - box.left; n > 0; n--, where += (screen.bits + 7) / 8)
                store(where, value);
    }
}

void fill(int x, int y, int width, int height, u32 rgb) {
    paint(x, y, width, height, rgb);
    if (driven && screen.bits == 32 && touched.right) {
        qxl_fill(touched, rgb, 0);
        touched = (Box){0, 0, 0, 0};
    }
    shown();
}

/* -- text ------------------------------------------------------------------------------- */

static const char *const words[] = {
    "drwxr-xr-x", "root", "4096", "the", "server", "a", "client", "screen", "of", "pixels", "and",
    "in", "0x7fff2c", "return", "error:", "12:30", "Makefile", "int", "main(void)", "{", "}", "to",
    "window", "is", "not", "found", "/usr/share/doc", "100%", "compressed", "--help", "row", "3.14",
};

static void letter(int x, int y, u8 code, u32 ink, u32 paper) {
    Box box = visible(x, y, LETTER_WIDTH, LETTER_HEIGHT);
    u32 on = packed(ink), off = packed(paper);
    for (int row = box.top; row < box.bottom; row++) {
        u8 dots = font[code * LETTER_HEIGHT + row - y];
        for (int column = box.left; column < box.right; column++)
            store(at(column, row), dots << (column - x) & 0x80 ? on : off);
    }
}

static void text(int x, int y, int letters, u32 ink, u32 paper) {
    int used = 0;
    while (used < letters) {
        const char *word = words[below(sizeof words / sizeof *words)];
        if (below(40) == 0) break;
        for (; *word && used < letters; word++, used++)
            letter(x + used * LETTER_WIDTH, y, *word, ink, paper);
        used++;
    }
}

static u32 some_ink(void) {
    static const u32 inks[] = {0x202020, 0x202020, 0x202020, 0x005f87, 0xaf0000, 0x008700};
    return inks[below(6)];
}

static void line_of_text(int y) {
    paint(0, y, screen.width, LETTER_HEIGHT, 0xfdfdf6);
    text(0, y, screen.width / LETTER_WIDTH, some_ink(), 0xfdfdf6);
    shown();
}

void page(u32 seed) {
    begin(seed);
    for (int y = 0; y < screen.height; y += LETTER_HEIGHT) line_of_text(y);
}

/* Everything up by a line, and a new line at the end. */
void scroll(u32 seed) {
    int last = screen.height / LETTER_HEIGHT * LETTER_HEIGHT - LETTER_HEIGHT;
    u32 *to = (u32 *)at(0, 0), *from = (u32 *)at(0, LETTER_HEIGHT);
    begin(seed);
    for (int n = last * screen.stride / 4; n > 0; n--) *to++ = *from++;
    if (driven) qxl_shift((Box){0, 0, screen.width, last}, LETTER_HEIGHT);
    line_of_text(last);
}

/* A letter, as if it was typed: the next seed is the next place. */
void type(u32 seed) {
    u32 columns = screen.width / LETTER_WIDTH, rows = screen.height / LETTER_HEIGHT;
    u32 place = seed % (columns * rows);
    begin(seed);
    letter(place % columns * LETTER_WIDTH, place / columns * LETTER_HEIGHT, 33 + below(94),
           0x202020, 0xfdfdf6);
    shown();
}

/* -- windows ---------------------------------------------------------------------------- */

static void raised(int x, int y, int width, int height, u32 rgb) {
    paint(x, y, width, height, 0x606060);
    paint(x, y, width - 1, height - 1, 0xffffff);
    paint(x + 1, y + 1, width - 2, height - 2, rgb);
}

static void window(int x, int y, int width, int height) {
    raised(x, y, width, height, 0xd9d6d0);
    paint(x + 3, y + 3, width - 6, 20, 0x2a4d8f);
    text(x + 8, y + 5, larger(width / LETTER_WIDTH - 12, 4), 0xffffff, 0x2a4d8f);
    for (int i = 1; i < 4; i++) raised(x + width - 5 - i * 18, y + 5, 16, 16, 0xd9d6d0);
    paint(x + 6, y + 28, width - 12, larger(height - 66, 0), 0xffffff);
    for (int row = y + 30; row + LETTER_HEIGHT < y + height - 40; row += LETTER_HEIGHT + 2)
        text(x + 10, row, width / LETTER_WIDTH - 4, some_ink(), 0xffffff);
    for (int i = 1; i < 3; i++) {
        raised(x + width - i * 88, y + height - 32, 80, 24, 0xd9d6d0);
        text(x + width - i * 88 + 12, y + height - 28, 7, 0x202020, 0xd9d6d0);
    }
    shown();
}

static void icon(int x, int y) {
    u32 ink = random() & 0xffffff, paper = random() | 0xc0c0c0;
    for (int row = 0; row < 32; row += 4)
        for (int column = 0; column < 16; column += 4) {
            u32 rgb = random() & 0x800 ? ink : paper;
            paint(x + column, y + row, 4, 4, rgb);
            paint(x + 28 - column, y + row, 4, 4, rgb);
        }
    text(x - 8, y + 36, 6, 0xffffff, 0x3a6ea5);
    shown();
}

void desktop(u32 seed) {
    begin(seed);
    paint(0, 0, screen.width, screen.height, 0x3a6ea5);
    shown();
    for (int y = 16; y + 60 < screen.height - 32; y += 72) icon(24, y);
    for (int i = 0; i < 4; i++) {
        int width = screen.width / 4 + below(screen.width / 4 + 1);
        int height = screen.height / 4 + below(screen.height / 4 + 1);
        window(80 + below(screen.width / 2 + 1), below(screen.height / 2 + 1), width, height);
    }
    raised(0, screen.height - 28, screen.width, 28, 0xd9d6d0);
    for (int x = 4; x + 120 < screen.width; x += 128) {
        raised(x, screen.height - 25, 120, 22, 0xd9d6d0);
        text(x + 8, screen.height - 22, 13, 0x202020, 0xd9d6d0);
    }
    shown();
}

#define DRAG_WIDTH 260
#define DRAG_HEIGHT 180

static int there_and_back(u32 step, int span) {
    span = larger(span, 1);
    int where = step % (2 * span);
    return where < span ? where : 2 * span - where;
}

static Box drag_box(u32 step) {
    int x = there_and_back(step * 7, screen.width - DRAG_WIDTH);
    int y = there_and_back(step * 5, screen.height - DRAG_HEIGHT);
    return (Box){x, y, x + DRAG_WIDTH, y + DRAG_HEIGHT};
}

/* A window on its way over a flat desktop: what it leaves is painted again. */
void drag(u32 step) {
    Box now = drag_box(step);
    if (step) {
        clip = drag_box(step - 1);
        clipped = 1;
        paint(0, 0, screen.width, screen.height, 0x3a6ea5);
        shown();
        clipped = 0;
    }
    begin(77);
    window(now.left, now.top, DRAG_WIDTH, DRAG_HEIGHT);
}

/* A hundred small flat boxes. */
void rects(u32 seed) {
    begin(seed);
    for (int i = 0; i < 100; i++) {
        int width = 1 + below(40), height = 1 + below(40);
        fill(below(screen.width), below(screen.height), width, height, random() & 0xffffff);
    }
}

/* -- pictures --------------------------------------------------------------------------- */

static int wave(int at, int length) { /* 0..64, up and down over `length` */
    int half = length / 2 > 0 ? length / 2 : 1;
    int rest = (at % (2 * half) + 2 * half) % (2 * half);
    return 64 * (rest < half ? rest : 2 * half - rest) / half;
}

static u32 byte(int value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

/* Smooth colours that change along both axes, with a little noise, moved by (dx, dy). */
static void smooth(Box box, int x, int y, int dx, int dy, u32 seed) {
    int length[6], base[3];
    static short across[3][4096];
    begin(seed);
    for (int i = 0; i < 6; i++) length[i] = 90 + below(400);
    for (int i = 0; i < 3; i++) base[i] = 20 + below(90);
    for (int column = box.left; column < box.right; column++)
        for (int i = 0; i < 3; i++)
            across[i][column & 4095] = base[i] + wave(column - x + dx, length[i]);
    for (int row = box.top; row < box.bottom; row++) {
        int down[3];
        for (int i = 0; i < 3; i++) down[i] = wave(row - y + dy, length[3 + i]);
        for (int column = box.left; column < box.right; column++) {
            u32 grain = random();
            u32 r = byte(across[0][column & 4095] + down[0] + (int)(grain & 3));
            u32 g = byte(across[1][column & 4095] + down[1] + (int)(grain >> 8 & 3));
            u32 b = byte(across[2][column & 4095] + down[2] + (int)(grain >> 16 & 3));
            store(at(column, row), packed(r << 16 | g << 8 | b));
        }
    }
}

void photo(int x, int y, int width, int height, u32 seed) {
    smooth(visible(x, y, width, height), x, y, 0, 0, seed);
    shown();
}

/* Many small photos in rows. */
void gallery(u32 seed) {
    for (int y = 0; y < screen.height; y += 96)
        for (int x = 0; x < screen.width; x += 128) {
            paint(x, y, 128, 96, 0x202020);
            shown();
            photo(x + 4, y + 4, 120, 88, seed++);
        }
}

/* The colours there are, each bit turned over where it is set in `rgb`. */
void invert(int x, int y, int width, int height, u32 rgb) {
    Box box = visible(x, y, width, height);
    u32 value = packed(rgb);
    for (int row = box.top; row < box.bottom; row++)
        for (int column = box.left; column < box.right; column++)
            for (int byte = 0; byte < (screen.bits + 7) / 8; byte++)
                at(column, row)[byte] ^= value >> 8 * byte;
    if (driven && touched.right) qxl_fill(touched, screen.bits == 32 ? rgb : packed(rgb), 1);
    touched = (Box){0, 0, 0, 0};
}

/* A photo that looks the same wherever it is, for the client to keep. */
void stamp(int x, int y, int width, int height, u32 seed) {
    Box box = visible(x, y, width, height);
    smooth(box, x, y, 0, 0, seed);
    int whole = box.right - box.left == width && box.bottom - box.top == height;
    shown_as(whole ? seed << 24 | (width & 0xfff) << 12 | (height & 0xfff) : 0);
}

void noise(int x, int y, int width, int height, u32 seed) {
    Box box = visible(x, y, width, height);
    begin(seed);
    for (int row = box.top; row < box.bottom; row++)
        for (int column = box.left; column < box.right; column++)
            store(at(column, row), packed(random() & 0xffffff));
    shown();
}

/* A picture that moves, with a light square crossing it. */
void video(int x, int y, int width, int height, u32 frame) {
    int side = smaller(width, height) / 4;
    smooth(visible(x, y, width, height), x, y, 3 * frame, 2 * frame, 5);
    paint(x + there_and_back(frame * 6, width - side), y + there_and_back(frame * 4, height - side),
          side, side, 0xfff0c0);
    shown();
}
