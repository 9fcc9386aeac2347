/* Timers and watches of GLib's loop, as libspice-server asks for them (spice.h, SpiceCoreInterface).
 *
 * For programs of one file each: include it once.
 */
#ifndef AIOSPICE_SPICELOOP_H
#define AIOSPICE_SPICELOOP_H

#include <glib.h>
#include <spice.h>

struct SpiceTimer {
    SpiceTimerFunc call;
    void *opaque;
    guint source;
};

static gboolean timer_due(gpointer data) {
    SpiceTimer *timer = data;
    timer->source = 0;
    timer->call(timer->opaque);
    return FALSE;
}

static SpiceTimer *timer_add(SpiceTimerFunc call, void *opaque) {
    SpiceTimer *timer = g_new0(SpiceTimer, 1);
    timer->call = call;
    timer->opaque = opaque;
    return timer;
}

static void timer_cancel(SpiceTimer *timer) {
    if (timer->source) g_source_remove(timer->source);
    timer->source = 0;
}

static void timer_start(SpiceTimer *timer, uint32_t ms) {
    timer_cancel(timer);
    timer->source = g_timeout_add(ms, timer_due, timer);
}

static void timer_remove(SpiceTimer *timer) {
    timer_cancel(timer);
    g_free(timer);
}

struct SpiceWatch {
    SpiceWatchFunc call;
    void *opaque;
    GIOChannel *channel;
    guint source;
};

static gboolean watch_due(GIOChannel *channel, GIOCondition condition, gpointer data) {
    SpiceWatch *watch = data;
    int events = 0;
    if (condition & (G_IO_IN | G_IO_HUP | G_IO_ERR)) events |= SPICE_WATCH_EVENT_READ;
    if (condition & G_IO_OUT) events |= SPICE_WATCH_EVENT_WRITE;
    watch->call(g_io_channel_unix_get_fd(channel), events, watch->opaque);
    return TRUE;
}

static void watch_update(SpiceWatch *watch, int mask) {
    int condition = 0;
    if (watch->source) g_source_remove(watch->source);
    watch->source = 0;
    if (mask & SPICE_WATCH_EVENT_READ) condition |= G_IO_IN | G_IO_HUP | G_IO_ERR;
    if (mask & SPICE_WATCH_EVENT_WRITE) condition |= G_IO_OUT;
    if (condition) watch->source = g_io_add_watch(watch->channel, condition, watch_due, watch);
}

static SpiceWatch *watch_add(int fd, int mask, SpiceWatchFunc call, void *opaque) {
    SpiceWatch *watch = g_new0(SpiceWatch, 1);
    watch->call = call;
    watch->opaque = opaque;
    watch->channel = g_io_channel_unix_new(fd);
    watch_update(watch, mask);
    return watch;
}

static void watch_remove(SpiceWatch *watch) {
    watch_update(watch, 0);
    g_io_channel_unref(watch->channel);
    g_free(watch);
}

static void channel_event(int event, SpiceChannelEventInfo *info) {}

static SpiceCoreInterface core = {
    .base = { SPICE_INTERFACE_CORE, "timers and watches", SPICE_INTERFACE_CORE_MAJOR,
              SPICE_INTERFACE_CORE_MINOR },
    .timer_add = timer_add,
    .timer_start = timer_start,
    .timer_cancel = timer_cancel,
    .timer_remove = timer_remove,
    .watch_add = watch_add,
    .watch_update_mask = watch_update,
    .watch_remove = watch_remove,
    .channel_event = channel_event,
};

#endif
