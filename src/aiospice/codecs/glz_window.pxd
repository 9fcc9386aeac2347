# What C knows of `glz_window`: the fields of a window, and what other kernels call.

cdef int _RGB16, _RGBA
cdef Py_ssize_t _MOST, _SMALL, _LEAST, _SPARE_MOST

cdef class GlzWindow:
    cdef readonly long long limit
    cdef readonly long long pixels
    cdef dict _images
    cdef dict _windows
    cdef set _lent
    cdef list _spare
    cdef long long _spare_bytes
    cdef long long _next
    cdef long long _oldest
    cdef long long[::1] _table
    cdef list _views
    cdef long long[::1] _item
    cdef long long[::1] _place

    cpdef get(self, long long image_id, Py_ssize_t place)
    cpdef add(self, long long image_id, long long window, bytearray pixels)
    cpdef fetch(self, long long image_id, Py_ssize_t place)
    cdef _put(self, long long image_id, long long window, bytearray pixels)
    cdef _drop(self, long long oldest)
    cdef _forget(self, long long image_id)
    cdef _enter(self, long long image_id, bytearray pixels)
    cdef _leave_table(self, long long image_id)
    cdef bytearray _room(self, Py_ssize_t size)


cpdef decode_small(
    GlzWindow window, const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t size,
    Py_ssize_t width, Py_ssize_t height,
)
