/* Drawing as a QXL driver does: commands in a ring, images in the card's memory.
 *
 * What is painted goes into a buffer of the guest's own first, and from there as images to the
 * card, a command for each piece of a scene. Layouts and numbers: spice-protocol, spice/qxl_dev.h.
 */
#include "paint.h"

#define QXL_ID 0x01001b36
#define DEVICES 2
#define BUFFER_ROOM 0x1000000 /* for each device's buffer */
#define RING 32
#define RELEASE_RING 8
#define HEADS 4
#define ENTRIES 256

/* What is written to the ports, counted from the card's first. */
enum { NOTIFY = 0, OUT_OF_MEMORY = 4, RESET = 5, ADD_SLOT = 8, CREATE = 12, DESTROY = 13,
       MONITORS = 24 };
enum { DRAW = 1 };                            /* command types */
enum { FILL = 1, COPY = 3, COPY_BITS = 4 };   /* draws */
enum { OPAQUE = 1, PUT = 8, XOR = 64, SOLID = 1 };
enum { DIRECT = 1, TOP_DOWN = 4, CACHE = 1 };

#pragma pack(push, 1)
typedef struct { int top, left, bottom, right; } Rect;
typedef struct { u64 data; u32 type, padding; } RingItem;
typedef struct {
    u32 items, made, notify_made, taken, notify_taken;
    RingItem item[RING];
} Ring;
typedef struct {
    u32 items, made, notify_made, taken, notify_taken;
    u64 item[RELEASE_RING];
} ReleaseRing;
typedef struct {
    u32 magic, pending, mask;
    u8 log[4096];
    Ring commands, cursors;
    ReleaseRing released;
    Rect update_area;
    u32 update_surface;
    u64 slot_start, slot_end;
    u32 width, height, stride, format, position, mouse_mode, flags, type;
    u64 memory;
    u64 more_flags, monitors;
} Ram;
typedef struct { u8 flags; int x, y; u64 bitmap; } Mask;
typedef struct {
    u64 release;
    u32 surface;
    u8 effect, type, self;
    Rect self_area, box;
    u32 clip_type;
    u64 clip;
    u32 time;
    int depends[3];
    Rect depends_area[3];
    union {
        struct { u64 image; Rect area; u16 rop; u8 scale; Mask mask; } copy;
        struct { u32 brush; u32 rgb, unused[3]; u16 rop; Mask mask; } fill;
        struct { int x, y; } from;
    };
} Drawable;
typedef struct {
    u64 id;
    u8 type, flags;
    u32 width, height;
    u8 format, bitmap_flags;
    u32 x, y, stride;
    u64 palette, data;
} Image;
typedef struct { u64 unique; u16 count; u32 entries[ENTRIES]; } Palette;
typedef struct { u32 id, surface, width, height, x, y, flags; } Head;
typedef struct { u16 count, most; Head heads[HEADS]; } Monitors;
#pragma pack(pop)

/* A piece of the card's memory; the next one begins `size` bytes further. */
typedef struct { u32 size, used; } Block;

typedef struct {
    u8 *memory;
    volatile u8 *rom;
    volatile Ram *ram;
    u16 ports;
    u64 slot;         /* added to an offset in memory, it is an address for the card */
    u32 heap, end;    /* offsets of what images may take */
    u32 next;         /* where room is looked for first */
    Screen screen;
    u8 open;
} Card;

int driven;
static Card cards[DEVICES];
static Card *card; /* that is drawn on */
static u32 unique;

/* -- the card's memory ------------------------------------------------------------------ */

static u32 rom32(const Card *of, u32 at) { return *(volatile u32 *)(of->rom + at); }

static u64 address(const void *what) { return card->slot + ((u8 *)what - card->memory); }

static Block *block(u32 offset) { return (Block *)(card->memory + offset); }

static void release(void) {
    volatile ReleaseRing *ring = &card->ram->released;
    while (ring->taken != ring->made) {
        u64 id = ring->item[ring->taken % RELEASE_RING];
        ring->item[ring->taken % RELEASE_RING] = 0;
        ring->taken++;
        while (id) {
            Drawable *done = (Drawable *)(u32)id;
            ((Block *)done)[-1].used = 0;
            id = done->release; /* the card has put the next one there */
        }
    }
}

/* The first free piece of `size` bytes from card->next on; 0 if there is none. */
static Block *find(u32 size) {
    for (int round = 0; round < 2; round++, card->next = card->heap)
        for (; card->next < card->end; card->next += block(card->next)->size) {
            Block *here = block(card->next);
            if (here->used) continue;
            while (card->next + here->size < card->end && !block(card->next + here->size)->used)
                here->size += block(card->next + here->size)->size;
            if (here->size < size) continue;
            if (here->size > size + 64) {
                *block(card->next + size) = (Block){here->size - size, 0};
                here->size = size;
            }
            here->used = 1;
            return here;
        }
    return 0;
}

/* Memory of the card, zeroed for `clear` bytes; asks for what isn't needed any more. */
static void *allocate(u32 size, u32 clear) {
    size = (size + sizeof(Block) + 15) & ~15u;
    release();
    Block *found;
    while (!(found = find(size))) {
        outb(card->ports + OUT_OF_MEMORY, 0);
        wait(1);
        release();
    }
    u8 *bytes = (u8 *)(found + 1);
    for (u32 i = 0; i < clear; i++) bytes[i] = 0;
    return bytes;
}

/* -- commands --------------------------------------------------------------------------- */

static void push(Drawable *what) {
    volatile Ring *ring = &card->ram->commands;
    while (ring->made - ring->taken == RING) wait(1);
    ring->item[ring->made % RING] = (RingItem){address(what), DRAW, 0};
    __asm__ volatile("" ::: "memory");
    ring->made++;
    outb(card->ports + NOTIFY, 0);
}

/* Until the server has fetched every command: from then on a screendump shows it. */
void qxl_finish(void) {
    for (int i = 0; i < DEVICES; i++) {
        volatile Ring *ring = &cards[i].ram->commands;
        for (u32 n = 0; cards[i].open && ring->made != ring->taken; n++)
            if (n > 100000) wait(1);
    }
}

static Drawable *drawable(u8 type, Box box, u32 more) {
    Drawable *draw = allocate(sizeof(Drawable) + more, sizeof(Drawable) + sizeof(Image));
    draw->release = (u32)draw;
    draw->effect = OPAQUE;
    draw->type = type;
    draw->box = (Rect){box.top, box.left, box.bottom, box.right};
    draw->time = rom32(card, 48);
    for (int i = 0; i < 3; i++) draw->depends[i] = -1;
    return draw;
}

/* A draw of an image; its pixels are to be put at `*pixels`, a palette at `*palette`. */
static Drawable *copy(Box box, u8 format, u32 bits, u32 key, u8 **pixels, Palette **palette) {
    u32 width = box.right - box.left, height = box.bottom - box.top;
    u32 stride = ((width * bits + 7) / 8 + 3) & ~3u;
    u32 colours = palette ? sizeof(Palette) : 0;
    Drawable *draw = drawable(COPY, box, sizeof(Image) + colours + stride * height);
    Image *image = (Image *)(draw + 1);
    *pixels = (u8 *)(image + 1) + colours;
    if (palette) *palette = (Palette *)(image + 1);
    *image = (Image){
        .id = (u64)(key ? key : ++unique) << 32 | (key ? 0 : 3), /* groups: to cache, not to */
        .flags = key ? CACHE : 0, .width = width, .height = height,
        .format = format, .bitmap_flags = DIRECT | TOP_DOWN, .x = width, .y = height,
        .stride = stride, .palette = palette ? address(*palette) : 0, .data = address(*pixels)};
    draw->copy.image = address(image);
    draw->copy.area = (Rect){0, 0, height, width};
    draw->copy.rop = PUT;
    return draw;
}

static void words(u32 *to, const u32 *from, u32 bytes) {
    for (; bytes >= 4; bytes -= 4) *to++ = *from++;
    for (u32 i = 0; i < bytes; i++) ((u8 *)to)[i] = ((const u8 *)from)[i];
}

void qxl_copy(Box box, u32 key) {
    u8 *pixels;
    u32 bytes = screen.bits == 32 ? 4 : 2, row = (box.right - box.left) * bytes;
    Drawable *draw = copy(box, screen.bits == 32 ? 8 : 6, 8 * bytes, key, &pixels, 0);
    for (int y = box.top; y < box.bottom; y++, pixels += (row + 3) & ~3u)
        words((u32 *)pixels, (u32 *)(screen.base + y * screen.stride + box.left * bytes), row);
    push(draw);
}

void qxl_shift(Box box, int dy) {
    Drawable *draw = drawable(COPY_BITS, box, sizeof(Image));
    draw->from.x = box.left;
    draw->from.y = box.top + dy;
    push(draw);
}

void qxl_fill(Box box, u32 rgb, int xor) {
    Drawable *draw = drawable(FILL, box, sizeof(Image));
    draw->fill.brush = SOLID;
    draw->fill.rgb = rgb;
    draw->fill.rop = xor ? XOR : PUT;
    push(draw);
}

/* Steps along both axes with a little noise, in the bytes of whatever the format means. */
static void pattern(u8 *pixels, u32 stride, u32 height, u32 seed) {
    u32 noise = seed * 2654435761u | 1;
    for (u32 y = 0; y < height; y++)
        for (u32 x = 0; x < stride; x++) {
            noise = noise * 1664525 + 1013904223;
            u32 value = (x / 16 + seed) * 29 + y / 8 * 17;
            pixels[y * stride + x] = noise >> 28 ? value : noise >> 20;
        }
}

const char *qxl_image(Box box, u32 format, u32 seed) {
    static const u8 bits[] = {0, 1, 1, 4, 4, 8, 16, 24, 32, 32};
    u8 *pixels;
    Palette *palette = 0;
    if (!driven) return "no qxl";
    if (format < 2 || format > 9 || format == 3) return "format";
    if (box.right > screen.width || box.bottom > screen.height || box.right <= box.left ||
        box.bottom <= box.top)
        return "place";
    Drawable *draw = copy(box, format, bits[format], 0, &pixels, format < 6 ? &palette : 0);
    if (palette) {
        palette->unique = 0x7061696e0000ull + format * 16 + seed % 3; /* few, to be used again */
        palette->count = 1 << bits[format];
        for (u32 i = 0; i < palette->count; i++)
            palette->entries[i] = (i * 0x9e3779b9u + seed % 3 * 0x123457) >> 8;
    }
    Image *image = (Image *)(draw + 1);
    pattern(pixels, image->stride, image->height, seed);
    push(draw);
    return 0;
}

/* -- a screen --------------------------------------------------------------------------- */

static void find_cards(void) {
    int count = 0;
    for (u32 device = 0; device < 32 && count < DEVICES; device++)
        if (pci_read(device, 0) == QXL_ID) {
            Card *found = &cards[count++];
            if (found->memory) continue;
            found->memory = (u8 *)(pci_read(device, 0x10) & ~15u);
            found->rom = (u8 *)(pci_read(device, 0x18) & ~15u);
            found->ports = pci_read(device, 0x1c) & ~3u;
            found->ram = (Ram *)(found->memory + rom32(found, 44));
        }
}

static void slot(void) {
    u32 number = card->rom[64], rest = 64 - card->rom[66] - card->rom[67];
    card->ram->slot_start = (u32)card->memory;
    card->ram->slot_end = (u32)card->ram;
    outb(card->ports + ADD_SLOT, number);
    card->slot = ((u64)number << card->rom[66] | card->rom[68]) << rest;
}

static void heap(void) {
    card->heap = card->next = rom32(card, 36) + rom32(card, 40); /* behind the screen */
    card->end = (u8 *)card->ram - card->memory;
    *block(card->heap) = (Block){card->end - card->heap, 0};
}

const char *qxl_open(u32 number, u32 width, u32 height, u32 bits) {
    if (bits != 15 && bits != 16 && bits != 32) return "bits";
    if (width < 64 || width > 2560 || width % 8 || height < 64 || height > 1600) return "size";
    find_cards();
    if (number >= DEVICES || !cards[number].memory) return "no such device";
    card = &cards[number];
    if (card->open) outb(card->ports + DESTROY, 0);
    outb(card->ports + RESET, 0);
    slot();
    heap();
    extern u8 bss_end[];
    u32 bytes = bits == 32 ? 4 : 2, first = ((u32)bss_end + 0xfffff) & ~0xfffffu;
    card->screen = (Screen){(u8 *)first + number * BUFFER_ROOM, width, height,
                            bits == 32 ? 32 : 15, width * bytes}; /* no images of 5-6-5 */
    for (u32 i = 0; i < width * height * bytes / 4; i++) ((u32 *)card->screen.base)[i] = 0;
    volatile Ram *ram = card->ram;
    ram->width = width, ram->height = height, ram->stride = width * bytes;
    ram->format = bits == 32 ? 32 : bits == 16 ? 80 : 16;
    ram->position = ram->mouse_mode = ram->flags = ram->type = 0;
    ram->memory = address(card->memory + rom32(card, 36));
    outb(card->ports + CREATE, 0);
    card->open = 1;
    driven = 1;
    screen = card->screen;
    return 0;
}

const char *qxl_choose(u32 number) {
    if (number >= DEVICES || !cards[number].open) return "not open";
    card = &cards[number];
    screen = card->screen;
    return 0;
}

const char *qxl_heads(u32 count) {
    if (!driven) return "no qxl";
    if (count < 1 || count > HEADS) return "1 to 4";
    Monitors *all = allocate(sizeof *all, sizeof *all);
    u32 width = screen.width / count;
    all->count = count;
    all->most = HEADS;
    for (u32 i = 0; i < count; i++)
        all->heads[i] = (Head){i, 0, width, screen.height, i * width, 0, 0};
    card->ram->monitors = address(all);
    outb(card->ports + MONITORS, 0);
    return 0;
}

void qxl_close(void) {
    for (int i = 0; i < DEVICES; i++)
        if (cards[i].open) {
            outb(cards[i].ports + DESTROY, 0);
            outb(cards[i].ports + RESET, 0);
            cards[i].open = 0;
        }
    driven = 0;
}
