/* What the parts of the painting guest share: ports, colours, and where pixels go. */
#ifndef PAINT_H
#define PAINT_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* A screen: `base` has the pixels, `bits` is 8 (red 3, green 3, blue 2), 15, 16, 24 or 32. */
typedef struct {
    u8 *base;
    int width, height, bits, stride;
} Screen;

typedef struct { int left, top, right, bottom; } Box;

extern Screen screen;
extern volatile u32 ticks; /* hundredths of a second */

#define IN(port, type, letter) \
    ({ type v; __asm__ volatile("in" letter " %1, %0" : "=a"(v) : "Nd"((u16)(port))); v; })
#define OUT(port, value, type, letter) \
    __asm__ volatile("out" letter " %0, %1" ::"a"((type)(value)), "Nd"((u16)(port)) : "memory")
#define inb(port) IN(port, u8, "b")
#define inl(port) IN(port, u32, "l")
#define outb(port, value) OUT(port, value, u8, "b")
#define outw(port, value) OUT(port, value, u16, "w")
#define outl(port, value) OUT(port, value, u32, "l")

/* paint.c */
u32 pci_read(u32 device, u32 at);
void wait(u32 hundredths);

/* paint_scenes.c: a seed gives the same picture every time. */
void fill(int x, int y, int width, int height, u32 rgb);
void photo(int x, int y, int width, int height, u32 seed);
void stamp(int x, int y, int width, int height, u32 seed);
void invert(int x, int y, int width, int height, u32 rgb);
void noise(int x, int y, int width, int height, u32 seed);
void video(int x, int y, int width, int height, u32 frame);
void page(u32 seed);
void scroll(u32 seed);
void type(u32 seed);
void desktop(u32 seed);
void drag(u32 step);
void gallery(u32 seed);
void rects(u32 seed);

/* paint_qxl.c: without a driver (VGA) what is in the screen's memory is seen by itself. */
extern int driven;
const char *qxl_open(u32 number, u32 width, u32 height, u32 bits);
const char *qxl_choose(u32 number);
const char *qxl_heads(u32 count);
const char *qxl_image(Box box, u32 format, u32 seed);
void qxl_finish(void);
void qxl_close(void);
void qxl_copy(Box box, u32 key); /* show what has been painted there; a key: to be cached */
void qxl_fill(Box box, u32 rgb, int xor);
void qxl_shift(Box box, int dy); /* what is dy rows below has moved there */

#endif
