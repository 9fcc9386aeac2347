# The types of `quic_pixels`, for kernels that cimport it.

cpdef void write_row(
    unsigned char[::1] out, unsigned int[::1] cells, Py_ssize_t at,
    unsigned long long[::1] row, unsigned long long[::1] alpha, Py_ssize_t width, int kind,
) noexcept nogil
cpdef void read_row(
    const unsigned char[::1] pixels, Py_ssize_t at, unsigned long long[::1] line,
    unsigned int[::1] line1, Py_ssize_t width, int kind,
) noexcept nogil
