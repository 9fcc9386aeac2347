# The loop of LZ4 for other kernels; it checks its arguments itself.

cdef bint _unpack(
    const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t end, unsigned char[::1] out,
    Py_ssize_t total, Py_ssize_t blocks,
) noexcept nogil
