# What C knows of `quic_kernel` and the module itself can't say, and the types of what is called once
# a row or less. What is called more often has its types with it: compilers make more of functions
# that nobody else can call.

from aiospice.codecs.quic_pixels cimport read_row, write_row

cdef unsigned int _piece(unsigned int[::1] state, unsigned int s, unsigned int left) noexcept nogil
cpdef int some_rows(
    unsigned int[::1] src, unsigned long long stop, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] fast,
    unsigned int[::1] values, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned char[::1] out, unsigned int[::1] cells,
    Py_ssize_t width, Py_ssize_t height, int kind, unsigned long long lanes,
) noexcept nogil
cpdef int decode_rows(
    unsigned int[::1] src, unsigned long long stop, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] fast,
    unsigned int[::1] values, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned char[::1] out, unsigned int[::1] cells,
    Py_ssize_t width, Py_ssize_t height, int kind, unsigned long long lanes,
) except -1
cpdef bint encode_rows(
    const unsigned char[::1] pixels, Py_ssize_t stride, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] words,
    unsigned short[::1] folded, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned long long[::1] line,
    unsigned int[::1] line1, unsigned int[::1] out, Py_ssize_t width, Py_ssize_t height, int kind,
    unsigned long long lanes,
) except -1
