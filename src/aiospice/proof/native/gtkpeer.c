/* A client without a display, on libspice-client-glib: the stock client to measure against.
 *
 * It connects every channel, tells what happens as one JSON object a line ("t": seconds since
 * 1970), and on request streams counters (8 bytes, big endian, from 0 on) through the first port
 * channel and checks what comes back against them, byte by byte.
 *
 *   gtkpeer [--host H] [--port N] [--tls-port N] [--ca-file F] [--subject S] [--uri U]
 *           [--dump FILE] [--port-name NAME] [--no-display]
 *
 * The password comes in the environment variable GTKPEER_PASSWORD. Commands, one a line on
 * standard input: "start WINDOW CHUNK [EVERY]" (bytes in flight, bytes a write,
 * milliseconds between two writes), "stop", "report",
 * "save FILE" (the screen of display 0, as PPM), "quit" (reports first; so does the end of the
 * input).
 *
 * Built by aiospice.proof.gtkpeer with what pkg-config says of spice-client-glib-2.0.
 */
#include <spice-client.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define MAX_CHUNK 65536

typedef struct {
    SpicePortChannel *port;
    gboolean open, streaming;
    guint64 sent, received;  /* positions in the stream of counters */
    guint64 wrong;           /* bytes that weren't what had been sent at that position */
    gint64 first_wrong;
    guint64 dropped;         /* in flight when the channel was lost */
    guint64 messages;
    guint64 window, chunk;
    guint every;             /* milliseconds between two writes, 0: as fast as the window allows */
    guint writing;           /* writes that the library hasn't finished */
    gint64 last, silence, silence_at; /* microseconds */
} Flow;

static Flow flow = { .first_wrong = -1, .window = 2048, .chunk = 128 };
static GMainLoop *loop;
static SpiceSession *session;
static FILE *dump;
static guint64 draws, pixels, finished_bytes;
static char *wanted_name;
static struct { const guint8 *data; int width, height, stride; } primary;

/* -- what is told ----------------------------------------------------------------------- */

static void tell_begin(const char *event) {
    gint64 now = g_get_real_time();
    printf("{\"t\": %" G_GINT64_FORMAT ".%06d, \"event\": \"%s\"", now / G_USEC_PER_SEC,
           (int)(now % G_USEC_PER_SEC), event);
}

static void tell_text(const char *key, const char *value) {
    printf(", \"%s\": \"", key);
    for (const unsigned char *c = (const unsigned char *)(value ? value : ""); *c; c++)
        if (*c == '"' || *c == '\\') printf("\\%c", *c);
        else if (*c < 32) printf("\\u%04x", *c);
        else putchar(*c);
    putchar('"');
}

static void tell_number(const char *key, gint64 value) {
    printf(", \"%s\": %" G_GINT64_FORMAT, key, value);
}

static void tell_end(void) {
    puts("}");
    fflush(stdout);
}

static void tell_channel(const char *event, SpiceChannel *channel) {
    int type, id;
    g_object_get(channel, "channel-type", &type, "channel-id", &id, NULL);
    tell_begin(event);
    tell_text("channel", spice_channel_type_to_string(type));
    tell_number("id", id);
}

/* MD5 of the primary surface (32 bits a pixel), the unused byte of each pixel as zero. */
static void tell_screen(void) {
    GChecksum *sum = g_checksum_new(G_CHECKSUM_MD5);
    guint8 *row = g_malloc(4 * primary.width);
    for (int y = 0; y < primary.height; y++) {
        memcpy(row, primary.data + (gssize)y * primary.stride, 4 * primary.width);
        for (int x = 0; x < primary.width; x++) row[4 * x + 3] = 0;
        g_checksum_update(sum, row, 4 * primary.width);
    }
    tell_text("screen", g_checksum_get_string(sum));
    g_free(row);
    g_checksum_free(sum);
}

static void report(void) {
    struct rusage used;
    GList *channels = spice_session_get_channels(session);
    guint64 total = finished_bytes;
    for (GList *item = channels; item; item = item->next) {
        gulong n = 0;
        g_object_get(item->data, "total-read-bytes", &n, NULL);
        total += n;
    }
    g_list_free(channels);
    getrusage(RUSAGE_SELF, &used);
    tell_begin("report");
    tell_number("sent", flow.sent);
    tell_number("received", flow.received - flow.dropped);
    tell_number("wrong", flow.wrong);
    tell_number("first_wrong", flow.first_wrong);
    tell_number("dropped", flow.dropped);
    tell_number("messages", flow.messages);
    tell_number("silence_us", flow.silence);
    tell_number("silence_at_us", flow.silence_at);
    tell_number("draws", draws);
    tell_number("pixels", pixels);
    tell_number("bytes_read", total);
    tell_number("cpu_us", (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * (gint64)G_USEC_PER_SEC +
                              used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    tell_number("rss_kib", used.ru_maxrss);
    if (primary.data) tell_screen();
    tell_end();
}

/* -- the stream of counters ------------------------------------------------------------- */

static guint8 byte_at(guint64 position) {
    return (guint8)((position / 8) >> (8 * (7 - position % 8)));
}

static void pump(void);

static void written(GObject *source, GAsyncResult *result, gpointer buffer) {
    GError *error = NULL;
    spice_port_channel_write_finish(SPICE_PORT_CHANNEL(source), result, &error);
    flow.writing--;
    g_free(buffer);
    if (error) {
        tell_begin("write-error");
        tell_text("text", error->message);
        tell_end();
        g_error_free(error);
    } else {
        pump();
    }
}

static void send_chunks(gboolean one) {
    while (flow.streaming && flow.port && flow.open &&
           flow.sent - flow.received + flow.chunk <= flow.window) {
        guint8 *buffer = g_malloc(flow.chunk);
        for (guint64 i = 0; i < flow.chunk; i++) buffer[i] = byte_at(flow.sent + i);
        if (flow.sent == flow.received) flow.last = g_get_monotonic_time();
        flow.sent += flow.chunk;
        flow.writing++;
        spice_port_channel_write_async(flow.port, buffer, flow.chunk, NULL, written, buffer);
        if (one) break;
    }
}

static void pump(void) {
    if (!flow.every) send_chunks(FALSE);
}

static gboolean on_beat(gpointer unused) {
    send_chunks(TRUE);
    return TRUE;
}

static void on_data(SpicePortChannel *port, gpointer data, int size, gpointer unused) {
    const guint8 *bytes = data;
    gint64 now = g_get_monotonic_time();
    if (port != flow.port || size <= 0) return;
    if (flow.messages++ == 0) {
        tell_begin("first-byte");
        tell_end();
    }
    if (flow.last && now - flow.last > flow.silence) {
        flow.silence = now - flow.last;
        flow.silence_at = g_get_real_time() - flow.silence;
    }
    flow.last = now;
    for (int i = 0; i < size; i++)
        if (flow.received + i >= flow.sent || bytes[i] != byte_at(flow.received + i)) {
            if (flow.wrong++ == 0) flow.first_wrong = flow.received + i;
        }
    flow.received += size;
    if (dump) fwrite(bytes, 1, size, dump);
    pump();
}

static void on_port_state(GObject *object, GParamSpec *spec, gpointer unused) {
    gboolean open;
    char *name;
    g_object_get(object, "port-opened", &open, "port-name", &name, NULL);
    if (!flow.port && open && (!wanted_name || g_strcmp0(name, wanted_name) == 0))
        flow.port = SPICE_PORT_CHANNEL(object);
    if (object == (GObject *)flow.port) flow.open = open;
    tell_channel(open ? "port-open" : "port-closed", SPICE_CHANNEL(object));
    tell_text("name", name);
    tell_end();
    g_free(name);
    pump();
}

static gboolean on_tick(gpointer unused) {
    pump();
    return TRUE;
}

/* -- the session ------------------------------------------------------------------------ */

static void on_channel_event(SpiceChannel *channel, SpiceChannelEvent event, gpointer unused) {
    GEnumClass *names = g_type_class_ref(SPICE_TYPE_CHANNEL_EVENT);
    GEnumValue *value = g_enum_get_value(names, event);
    const GError *error = spice_channel_get_error(channel);
    tell_channel("channel-event", channel);
    tell_text("what", value ? value->value_nick : "unknown");
    if (error) tell_text("text", error->message);
    tell_end();
    g_type_class_unref(names);
}

static void on_draw(SpiceChannel *channel, int x, int y, int w, int h, gpointer unused) {
    draws++;
    pixels += (guint64)w * h;
}

static void on_surface(SpiceChannel *channel, int format, int w, int h, int stride, int shm,
                       gpointer data, gpointer unused) {
    tell_channel("surface", channel);
    tell_number("width", w);
    tell_number("height", h);
    tell_number("format", format);
    tell_end();
    gboolean kept = format == SPICE_SURFACE_FMT_32_xRGB || format == SPICE_SURFACE_FMT_32_ARGB;
    primary.data = kept ? data : NULL;
    primary.width = w;
    primary.height = h;
    primary.stride = stride;
}

static void on_surface_gone(SpiceChannel *channel, gpointer unused) {
    primary.data = NULL;
}

static void on_channel_new(SpiceSession *from, SpiceChannel *channel, gpointer no_display) {
    tell_channel("channel-new", channel);
    tell_end();
    if (no_display && *(gboolean *)no_display && SPICE_IS_DISPLAY_CHANNEL(channel)) return;
    g_signal_connect(channel, "channel-event", G_CALLBACK(on_channel_event), NULL);
    if (SPICE_IS_PORT_CHANNEL(channel)) {
        g_signal_connect(channel, "port-data", G_CALLBACK(on_data), NULL);
        g_signal_connect(channel, "notify::port-opened", G_CALLBACK(on_port_state), NULL);
    }
    if (SPICE_IS_DISPLAY_CHANNEL(channel)) {
        g_signal_connect(channel, "display-invalidate", G_CALLBACK(on_draw), NULL);
        g_signal_connect(channel, "display-primary-create", G_CALLBACK(on_surface), NULL);
        g_signal_connect(channel, "display-primary-destroy", G_CALLBACK(on_surface_gone), NULL);
    }
    spice_channel_connect(channel);
}

static void on_channel_destroy(SpiceSession *from, SpiceChannel *channel, gpointer unused) {
    gulong bytes = 0;
    g_object_get(channel, "total-read-bytes", &bytes, NULL);
    finished_bytes += bytes;
    tell_channel("channel-destroy", channel);
    if (channel == (SpiceChannel *)flow.port) {
        tell_number("in_flight", flow.sent - flow.received);
        flow.dropped += flow.sent - flow.received; /* it won't come any more: go on behind it */
        flow.received = flow.sent;
        flow.port = NULL;
        flow.open = FALSE;
    }
    tell_end();
}

static void on_migration(GObject *object, GParamSpec *spec, gpointer unused) {
    SpiceSessionMigration state;
    GEnumClass *names = g_type_class_ref(SPICE_TYPE_SESSION_MIGRATION);
    g_object_get(object, "migration-state", &state, NULL);
    GEnumValue *value = g_enum_get_value(names, state);
    tell_begin("migration-state");
    tell_text("what", value ? value->value_nick : "unknown");
    tell_end();
    g_type_class_unref(names);
}

static void on_disconnected(SpiceSession *from, gpointer unused) {
    tell_begin("disconnected");
    tell_end();
}

static gboolean write_screen(const char *path, const SpiceDisplayPrimary *screen) {
    FILE *file = fopen(path, "wb");
    if (!file) return FALSE;
    fprintf(file, "P6\n%d %d\n255\n", screen->width, screen->height);
    for (int y = 0; y < screen->height; y++) {
        const guint8 *pixel = screen->data + (gssize)y * screen->stride;
        for (int x = 0; x < screen->width; x++, pixel += 4) {
            putc(pixel[2], file);
            putc(pixel[1], file);
            putc(pixel[0], file);
        }
    }
    return fclose(file) == 0;
}

static void save_screen(const char *path) {
    GList *channels = spice_session_get_channels(session);
    SpiceDisplayPrimary screen;
    const char *why = "there is no display 0";
    for (GList *item = channels; item; item = item->next) {
        int id;
        g_object_get(item->data, "channel-id", &id, NULL);
        if (!SPICE_IS_DISPLAY_CHANNEL(item->data) || id != 0) continue;
        if (!spice_display_channel_get_primary(item->data, 0, &screen)) why = "there is no screen";
        else if (screen.format != SPICE_SURFACE_FMT_32_xRGB) why = "the screen isn't of 32 bits";
        else why = write_screen(path, &screen) ? NULL : "the file can't be written";
    }
    g_list_free(channels);
    tell_begin(why ? "not-saved" : "saved");
    tell_text("text", why ? why : path);
    tell_end();
}

static gboolean on_command(GIOChannel *input, GIOCondition condition, gpointer unused) {
    char *line = NULL;
    GIOStatus status = g_io_channel_read_line(input, &line, NULL, NULL, NULL);
    if (status == G_IO_STATUS_AGAIN) return TRUE;
    if (status != G_IO_STATUS_NORMAL || g_str_has_prefix(line, "quit")) {
        report();
        g_main_loop_quit(loop);
    } else if (g_str_has_prefix(line, "start")) {
        unsigned long window = 0, chunk = 0;
        unsigned every = 0;
        if (sscanf(line, "start %lu %lu %u", &window, &chunk, &every) >= 2 && chunk &&
            chunk <= MAX_CHUNK && chunk <= window) {
            flow.window = window;
            flow.chunk = chunk;
            flow.every = every;
            if (every) g_timeout_add(every, on_beat, NULL);
        }
        flow.streaming = TRUE;
        pump();
    } else if (g_str_has_prefix(line, "stop")) {
        flow.streaming = FALSE;
    } else if (g_str_has_prefix(line, "report")) {
        report();
    } else if (g_str_has_prefix(line, "save ")) {
        save_screen(g_strchomp(line + 5));
    }
    g_free(line);
    return TRUE;
}

int main(int argc, char **argv) {
    static char *host, *port, *tls_port, *ca_file, *subject, *uri, *dump_file;
    static gboolean no_display;
    static GOptionEntry entries[] = {
        { "host", 0, 0, G_OPTION_ARG_STRING, &host, NULL, NULL },
        { "port", 0, 0, G_OPTION_ARG_STRING, &port, NULL, NULL },
        { "tls-port", 0, 0, G_OPTION_ARG_STRING, &tls_port, NULL, NULL },
        { "ca-file", 0, 0, G_OPTION_ARG_STRING, &ca_file, NULL, NULL },
        { "subject", 0, 0, G_OPTION_ARG_STRING, &subject, NULL, NULL },
        { "uri", 0, 0, G_OPTION_ARG_STRING, &uri, NULL, NULL },
        { "dump", 0, 0, G_OPTION_ARG_STRING, &dump_file, NULL, NULL },
        { "port-name", 0, 0, G_OPTION_ARG_STRING, &wanted_name, NULL, NULL },
        { "no-display", 0, 0, G_OPTION_ARG_NONE, &no_display, NULL, NULL },
        { NULL },
    };
    GError *error = NULL;
    GOptionContext *context = g_option_context_new(NULL);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, &argc, &argv, &error)) {
        fprintf(stderr, "%s\n", error->message);
        return 2;
    }
    if (dump_file && !(dump = fopen(dump_file, "wb"))) {
        perror(dump_file);
        return 2;
    }
    loop = g_main_loop_new(NULL, FALSE);
    session = spice_session_new();
    if (uri) g_object_set(session, "uri", uri, NULL);
    if (host) g_object_set(session, "host", host, NULL);
    if (port) g_object_set(session, "port", port, NULL);
    if (tls_port) g_object_set(session, "tls-port", tls_port, NULL);
    if (ca_file) g_object_set(session, "ca-file", ca_file, NULL);
    if (subject) g_object_set(session, "cert-subject", subject, NULL);
    if (getenv("GTKPEER_PASSWORD"))
        g_object_set(session, "password", getenv("GTKPEER_PASSWORD"), NULL);
    g_signal_connect(session, "channel-new", G_CALLBACK(on_channel_new), &no_display);
    g_signal_connect(session, "channel-destroy", G_CALLBACK(on_channel_destroy), NULL);
    g_signal_connect(session, "notify::migration-state", G_CALLBACK(on_migration), NULL);
    g_signal_connect(session, "disconnected", G_CALLBACK(on_disconnected), NULL);
    GIOChannel *input = g_io_channel_unix_new(0);
    g_io_add_watch(input, G_IO_IN | G_IO_HUP | G_IO_ERR, on_command, NULL);
    g_timeout_add(10, on_tick, NULL);
    tell_begin("connect");
    tell_end();
    if (!spice_session_connect(session)) {
        tell_begin("connect-failed");
        tell_end();
        return 3;
    }
    g_main_loop_run(loop);
    if (dump) fclose(dump);
    return 0;
}
