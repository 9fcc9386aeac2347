# The loop of LZ for other kernels, which have proven that ``out`` has room for ``units`` units.

cdef int _unpack(
    const unsigned char[::1] data, long long[::1] place, unsigned char[::1] out, Py_ssize_t units,
    int kind,
) except? -1 nogil

# The same for GLZ; ``target`` has room for ``units`` pixels, the tables are those of a window.
cdef int _unpack_shared(
    const unsigned char[::1] data, long long[::1] place, unsigned char* target, Py_ssize_t units,
    int kind, long long[::1] table, long long[::1] item, object images,
) except? -1 nogil
