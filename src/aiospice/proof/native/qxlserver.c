/* A SPICE server on libspice-server that draws what it is told to, for tests of clients.
 *
 * Whoever starts it lays commands of QXL (spice-protocol spice/qxl_dev.h) into a file that both
 * map; addresses in them are offsets in that file. The library sends them to its clients and
 * carries them out itself on "update": then the surface in the file is what clients must show.
 *
 *   qxlserver --port N [--address A] --memory FILE [--width N] [--height N]
 *             [--compression NAME] [--jpeg auto|never|always] [--zlib auto|never|always]
 *
 * The screen has 4 bytes a pixel and begins at offset 0. Commands, one a line on standard input:
 * "draw OFFSET", "surface OFFSET" (queue a QXLDrawable or QXLSurfaceCmd), "update SURFACE WIDTH
 * HEIGHT" (answers with a line once all is drawn and in the file), "quit" (so does the end of the
 * input). "ready" is the first line of the output.
 *
 * Built by aiospice.proof.qxl with what pkg-config says of spice-server and glib-2.0.
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
static guint8 *memory;
static gsize memory_size;
static QXLInstance instance;
static GMutex lock;
static GQueue commands = G_QUEUE_INIT;

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
    info->n_surfaces = 1024;
}

static int get_command(QXLInstance *device, QXLCommandExt *command) {
    QXLCommandExt *first;
    g_mutex_lock(&lock);
    first = g_queue_pop_head(&commands);
    g_mutex_unlock(&lock);
    if (!first) return FALSE;
    *command = *first;
    g_free(first);
    return TRUE;
}

static int wants_notice(QXLInstance *device) {
    g_mutex_lock(&lock);
    int empty = g_queue_is_empty(&commands);
    g_mutex_unlock(&lock);
    return empty;
}

static void release(QXLInstance *device, QXLReleaseInfoExt info) {}

static int no_cursor(QXLInstance *device, QXLCommandExt *command) { return FALSE; }

static int no_cursor_notice(QXLInstance *device) { return TRUE; }

static void updated(QXLInstance *device, uint32_t number) {}

static int flush(QXLInstance *device) { return FALSE; }

static void completed(QXLInstance *device, uint64_t cookie) {}

static void area_done(QXLInstance *device, uint32_t surface, QXLRect *boxes, uint32_t count) {}

static void capabilities(QXLInstance *device, uint8_t present, uint8_t *caps) {}

static int monitors(QXLInstance *device, VDAgentMonitorsConfig *config) { return 0; }

static QXLInterface interface = {
    .base = { SPICE_INTERFACE_QXL, "a device in a file", SPICE_INTERFACE_QXL_MAJOR,
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

static void queue(int type, guint64 offset) {
    QXLCommandExt *command = g_new0(QXLCommandExt, 1);
    command->cmd.data = offset;
    command->cmd.type = type;
    g_mutex_lock(&lock);
    g_queue_push_tail(&commands, command);
    g_mutex_unlock(&lock);
}

static gboolean on_order(GIOChannel *input, GIOCondition condition, gpointer unused) {
    char *line = NULL;
    guint64 offset;
    unsigned surface;
    QXLRect area = { 0 };
    GIOStatus status = g_io_channel_read_line(input, &line, NULL, NULL, NULL);
    if (status == G_IO_STATUS_AGAIN) return TRUE;
    if (status != G_IO_STATUS_NORMAL || g_str_has_prefix(line, "quit")) {
        g_main_loop_quit(loop);
    } else if (sscanf(line, "draw %" G_GUINT64_FORMAT, &offset) == 1) {
        queue(QXL_CMD_DRAW, offset);
        spice_qxl_wakeup(&instance);
    } else if (sscanf(line, "surface %" G_GUINT64_FORMAT, &offset) == 1) {
        queue(QXL_CMD_SURFACE, offset);
        spice_qxl_wakeup(&instance);
    } else if (sscanf(line, "update %u %d %d", &surface, &area.right, &area.bottom) == 3) {
        QXLRect dirty;
        spice_qxl_update_area(&instance, surface, &area, &dirty, 1, 0);
        puts("updated");
        fflush(stdout);
    }
    g_free(line);
    return TRUE;
}

static int word(const char *name, const char *const *names, int first) {
    for (int i = 0; names[i]; i++)
        if (g_strcmp0(name, names[i]) == 0) return first + i;
    fprintf(stderr, "qxlserver: %s isn't known\n", name);
    exit(2);
}

static void map_memory(const char *path) {
    struct stat found;
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0 || fstat(file, &found) < 0) {
        perror(path);
        exit(2);
    }
    memory_size = found.st_size;
    memory = mmap(NULL, memory_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    close(file);
}

int main(int argc, char **argv) {
    static const char *const packings[] = { "off", "auto_glz", "auto_lz", "quic", "glz", "lz",
                                            "lz4", NULL };
    static const char *const whens[] = { "auto", "always", "never", NULL };
    static char *address = "127.0.0.1", *path, *packing = "off", *jpeg = "never", *zlib = "never";
    static int port, width = 640, height = 480;
    static GOptionEntry entries[] = {
        { "port", 0, 0, G_OPTION_ARG_INT, &port, NULL, NULL },
        { "address", 0, 0, G_OPTION_ARG_STRING, &address, NULL, NULL },
        { "memory", 0, 0, G_OPTION_ARG_STRING, &path, NULL, NULL },
        { "width", 0, 0, G_OPTION_ARG_INT, &width, NULL, NULL },
        { "height", 0, 0, G_OPTION_ARG_INT, &height, NULL, NULL },
        { "compression", 0, 0, G_OPTION_ARG_STRING, &packing, NULL, NULL },
        { "jpeg", 0, 0, G_OPTION_ARG_STRING, &jpeg, NULL, NULL },
        { "zlib", 0, 0, G_OPTION_ARG_STRING, &zlib, NULL, NULL },
        { NULL },
    };
    GError *error = NULL;
    GOptionContext *context = g_option_context_new(NULL);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error) || !path || !port) {
        fprintf(stderr, "%s\n", error ? error->message : "--memory and --port are needed");
        return 2;
    }
    map_memory(path);
    loop = g_main_loop_new(NULL, FALSE);
    SpiceServer *server = spice_server_new();
    spice_server_set_addr(server, address, 0);
    spice_server_set_port(server, port);
    spice_server_set_noauth(server);
    spice_server_set_image_compression(server, word(packing, packings, 1));
    spice_server_set_jpeg_compression(server, word(jpeg, whens, 1));
    spice_server_set_zlib_glz_compression(server, word(zlib, whens, 1));
    spice_server_set_streaming_video(server, SPICE_STREAM_VIDEO_OFF);
    if (spice_server_init(server, &core) < 0) {
        fprintf(stderr, "qxlserver: the server can't listen on port %d\n", port);
        return 3;
    }
    instance.base.sif = &interface.base;
    spice_server_add_interface(server, &instance.base);
    QXLDevMemSlot slot = {
        .virt_start = (uintptr_t)memory,
        .virt_end = (uintptr_t)memory + memory_size,
        .addr_delta = (uintptr_t)memory,
        .qxl_ram_size = memory_size,
    };
    spice_qxl_add_memslot(&instance, &slot);
    QXLDevSurfaceCreate screen = {
        .width = width,
        .height = height,
        .stride = width * 4,
        .format = SPICE_SURFACE_FMT_32_xRGB,
        .mouse_mode = TRUE,
        .type = QXL_SURF_TYPE_PRIMARY,
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
