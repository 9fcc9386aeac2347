/* A SPICE server on libspice-server whose guest has a framebuffer and says where it has changed.
 *
 *   frameserver --port N --film FILE [--compression NAME] [--video off|filter|all]
 *
 * The film (aiospice.proof.film) is a size in pixels and, for each frame, rectangles and their new
 * pixels. Each rectangle of a frame becomes one draw of a copy of its pixels, which is what a
 * hypervisor makes of a plain framebuffer. Orders, one a line on standard input: "frame N",
 * "quit" (so does the end of the input). "ready" is the first line of the output.
 *
 * Built by aiospice.proof.bench_frames with what pkg-config says of spice-server and glib-2.0.
 */
#include <fcntl.h>
#include <glib.h>
#include <spice.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spiceloop.h"

static GMainLoop *loop;
static const guint8 *film;
static gsize film_size;
static guint32 width, height, frames;
static const guint64 *starts;
static guint8 *framebuffer;
static QXLInstance instance;
static GMutex lock;
static GQueue commands = G_QUEUE_INIT;

/* -- draws ----------------------------------------------------------------------------------- */

/* A rectangle of a frame; the library gives its number back once it needs it no longer. */
typedef struct {
    QXLCommandExt command;
    QXLDrawable draw;
    QXLImage image;
    guint8 *pixels;
} Update;

static Update *update_new(const guint32 *box, const guint8 *pixels) {
    static guint32 images;
    guint32 x = box[0], y = box[1], across = box[2], down = box[3];
    Update *made = g_new0(Update, 1);
    made->pixels = g_memdup2(pixels, (gsize)across * down * 4);
    QXLDrawable *draw = &made->draw;
    draw->release_info.id = (uintptr_t)made;
    draw->bbox = (QXLRect){ .left = x, .top = y, .right = x + across, .bottom = y + down };
    draw->clip.type = SPICE_CLIP_TYPE_NONE;
    draw->effect = QXL_EFFECT_OPAQUE;
    draw->type = QXL_DRAW_COPY;
    draw->mm_time = g_get_monotonic_time() / 1000;
    for (int i = 0; i < 3; i++) draw->surfaces_dest[i] = -1;
    draw->u.copy.rop_descriptor = SPICE_ROPD_OP_PUT;
    draw->u.copy.src_bitmap = (uintptr_t)&made->image;
    draw->u.copy.src_area = (QXLRect){ .right = across, .bottom = down };
    QXL_SET_IMAGE_ID(&made->image, QXL_IMAGE_GROUP_DEVICE, ++images);
    made->image.descriptor.type = SPICE_IMAGE_TYPE_BITMAP;
    made->image.descriptor.width = across;
    made->image.descriptor.height = down;
    made->image.bitmap.format = SPICE_BITMAP_FMT_32BIT;
    made->image.bitmap.flags = QXL_BITMAP_DIRECT | QXL_BITMAP_TOP_DOWN;
    made->image.bitmap.x = across;
    made->image.bitmap.y = down;
    made->image.bitmap.stride = across * 4;
    made->image.bitmap.data = (uintptr_t)made->pixels;
    made->command.cmd.type = QXL_CMD_DRAW;
    made->command.cmd.data = (uintptr_t)draw;
    return made;
}

static void show_frame(guint32 number) {
    const guint8 *at = film + starts[number];
    guint32 boxes = *(const guint32 *)at;
    at += 4;
    for (guint32 i = 0; i < boxes; i++) {
        const guint32 *box = (const guint32 *)at;
        at += 16;
        for (guint32 row = 0; row < box[3]; row++)
            memcpy(framebuffer + 4 * ((gsize)(box[1] + row) * width + box[0]),
                   at + 4 * (gsize)row * box[2], 4 * box[2]);
        Update *made = update_new(box, at);
        at += 4 * (gsize)box[2] * box[3];
        g_mutex_lock(&lock);
        g_queue_push_tail(&commands, made);
        g_mutex_unlock(&lock);
    }
    spice_qxl_wakeup(&instance);
}

/* -- the device: what the library's display thread asks for --------------------------------- */

static void attached(QXLInstance *device) {}

static void level(QXLInstance *device, int value) {}

static void mm_time(QXLInstance *device, uint32_t value) {}

static void init_info(QXLInstance *device, QXLDevInitInfo *info) {
    memset(info, 0, sizeof(*info));
    info->num_memslots = 1;
    info->num_memslots_groups = 1;
    info->memslot_id_bits = 1;
    info->memslot_gen_bits = 1;
    info->n_surfaces = 1;
}

static int get_command(QXLInstance *device, QXLCommandExt *command) {
    Update *first;
    g_mutex_lock(&lock);
    first = g_queue_pop_head(&commands);
    g_mutex_unlock(&lock);
    if (!first) return FALSE;
    *command = first->command;
    return TRUE;
}

static int wants_notice(QXLInstance *device) {
    g_mutex_lock(&lock);
    int empty = g_queue_is_empty(&commands);
    g_mutex_unlock(&lock);
    return empty;
}

static void release(QXLInstance *device, QXLReleaseInfoExt info) {
    Update *done = (Update *)(uintptr_t)info.info->id;
    g_free(done->pixels);
    g_free(done);
}

static int no_cursor(QXLInstance *device, QXLCommandExt *command) { return FALSE; }

static int no_cursor_notice(QXLInstance *device) { return TRUE; }

static void updated(QXLInstance *device, uint32_t number) {}

static int flush(QXLInstance *device) { return FALSE; }

static void completed(QXLInstance *device, uint64_t cookie) {}

static void area_done(QXLInstance *device, uint32_t surface, QXLRect *boxes, uint32_t count) {}

static void capabilities(QXLInstance *device, uint8_t present, uint8_t *caps) {}

static int monitors(QXLInstance *device, VDAgentMonitorsConfig *config) { return 0; }

static QXLInterface interface = {
    .base = { SPICE_INTERFACE_QXL, "a framebuffer", SPICE_INTERFACE_QXL_MAJOR,
              SPICE_INTERFACE_QXL_MINOR },
    .attached_worker = attached,
    .set_compression_level = level,
    .set_mm_time = mm_time,
    .get_init_info = init_info,
    .get_command = get_command,
    .req_cmd_notification = wants_notice,
    .release_resource = release,
    .get_cursor_command = no_cursor,
    .req_cursor_notification = no_cursor_notice,
    .notify_update = updated,
    .flush_resources = flush,
    .async_complete = completed,
    .update_area_complete = area_done,
    .set_client_capabilities = capabilities,
    .client_monitors_config = monitors,
};

/* -- orders ---------------------------------------------------------------------------------- */

static gboolean on_order(GIOChannel *input, GIOCondition condition, gpointer unused) {
    char *line = NULL;
    guint32 number;
    GIOStatus status = g_io_channel_read_line(input, &line, NULL, NULL, NULL);
    if (status == G_IO_STATUS_AGAIN) return TRUE;
    if (status != G_IO_STATUS_NORMAL || g_str_has_prefix(line, "quit"))
        g_main_loop_quit(loop);
    else if (sscanf(line, "frame %" G_GUINT32_FORMAT, &number) == 1 && number < frames)
        show_frame(number);
    g_free(line);
    return TRUE;
}

static int word(const char *name, const char *const *names, int first) {
    for (int i = 0; names[i]; i++)
        if (g_strcmp0(name, names[i]) == 0) return first + i;
    fprintf(stderr, "frameserver: %s isn't known\n", name);
    exit(2);
}

static void map_film(const char *path) {
    struct stat found;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &found) < 0) {
        perror(path);
        exit(2);
    }
    film_size = found.st_size;
    film = mmap(NULL, film_size, PROT_READ, MAP_SHARED, file, 0);
    if (film == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    close(file);
    const guint32 *head = (const guint32 *)film;
    width = head[0], height = head[1], frames = head[2];
    starts = (const guint64 *)(film + 16);
}

int main(int argc, char **argv) {
    static const char *const packings[] = { "off", "auto_glz", "auto_lz", "quic", "glz", "lz",
                                            "lz4", NULL };
    static const char *const videos[] = { "off", "all", "filter", NULL };
    static char *path, *packing = "off", *video = "off";
    static int port;
    static GOptionEntry entries[] = {
        { "port", 0, 0, G_OPTION_ARG_INT, &port, NULL, NULL },
        { "film", 0, 0, G_OPTION_ARG_STRING, &path, NULL, NULL },
        { "compression", 0, 0, G_OPTION_ARG_STRING, &packing, NULL, NULL },
        { "video", 0, 0, G_OPTION_ARG_STRING, &video, NULL, NULL },
        { NULL },
    };
    GError *error = NULL;
    GOptionContext *context = g_option_context_new(NULL);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !path || !port) {
        fprintf(stderr, "%s\n", error ? error->message : "--film and --port are needed");
        return 2;
    }
    map_film(path);
    loop = g_main_loop_new(NULL, FALSE);
    SpiceServer *server = spice_server_new();
    spice_server_set_addr(server, "127.0.0.1", 0);
    spice_server_set_port(server, port);
    spice_server_set_noauth(server);
    spice_server_set_image_compression(server, word(packing, packings, 1));
    spice_server_set_jpeg_compression(server, SPICE_WAN_COMPRESSION_NEVER);
    spice_server_set_zlib_glz_compression(server, SPICE_WAN_COMPRESSION_NEVER);
    spice_server_set_streaming_video(server, word(video, videos, SPICE_STREAM_VIDEO_OFF));
    if (spice_server_init(server, &core) < 0) {
        fprintf(stderr, "frameserver: the server can't listen on port %d\n", port);
        return 3;
    }
    instance.base.sif = &interface.base;
    spice_server_add_interface(server, &instance.base);
    QXLDevMemSlot slot = { .virt_end = ~0ul };
    spice_qxl_add_memslot(&instance, &slot);
    framebuffer = g_malloc0(4 * (gsize)width * height);
    QXLDevSurfaceCreate screen = {
        .width = width,
        .height = height,
        .stride = width * 4,
        .format = SPICE_SURFACE_FMT_32_xRGB,
        .mouse_mode = TRUE,
        .type = QXL_SURF_TYPE_PRIMARY,
        .mem = (uintptr_t)g_malloc0(4 * (gsize)width * height),
    };
    spice_qxl_create_primary_surface(&instance, 0, &screen);
    spice_server_vm_start(server);
    GIOChannel *input = g_io_channel_unix_new(0);
    g_io_add_watch(input, G_IO_IN | G_IO_HUP | G_IO_ERR, on_order, NULL);
    puts("ready");
    fflush(stdout);
    g_main_loop_run(loop);
    return 0;
}
