# The loop of LZ4 for other kernels, which checks its arguments itself, and the room for rows.

cdef class Rows:
    cdef readonly bytearray data


cdef bint _unpack(
    const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t end, unsigned char[::1] out,
    Py_ssize_t total, Py_ssize_t blocks,
) noexcept nogil
