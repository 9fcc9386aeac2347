# What C knows of `quic_kernel` and the module itself can't say, and the types of what is called once
# a row or less. What is called more often has its types with it: compilers make more of functions
# that nobody else can call.

# What Python spells otherwise: the number of the highest bit that is set (x isn't 0).
cdef extern from *:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define _top_bit(x) (63 ^ __builtin_clzll(x))
    #elif defined(_MSC_VER) && defined(_M_X64)
    #include <intrin.h>
    static __inline unsigned int _top_bit(unsigned long long x) {
        unsigned long n;
        _BitScanReverse64(&n, x);
        return n;
    }
    #else
    static unsigned int _top_bit(unsigned long long x) {
        unsigned int n = 0;
        while (x >>= 1)
            n++;
        return n;
    }
    #endif
    """
    unsigned int _top_bit(unsigned long long x) noexcept nogil


cdef unsigned int _piece(unsigned int[::1] state, unsigned int s, unsigned int left) noexcept nogil
cdef void _above(
    unsigned long long[::1] row, unsigned long long[::1] io, Py_ssize_t i, unsigned int s,
) noexcept nogil
cdef void _write_row(
    unsigned char[::1] out, Py_ssize_t at, unsigned long long[::1] row,
    unsigned long long[::1] alpha, Py_ssize_t width, int kind,
) noexcept nogil
cpdef int some_rows(
    unsigned int[::1] src, unsigned long long stop, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] fast,
    unsigned int[::1] values, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned char[::1] out, Py_ssize_t width, Py_ssize_t height,
    int kind, unsigned int lanes,
) noexcept nogil
cpdef int decode_rows(
    unsigned int[::1] src, unsigned long long stop, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] fast,
    unsigned int[::1] values, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned char[::1] out, Py_ssize_t width, Py_ssize_t height,
    int kind, unsigned int lanes,
) except -1
cdef void _read_row(
    const unsigned char[::1] pixels, Py_ssize_t at, unsigned int[::1] line, unsigned int[::1] line1,
    Py_ssize_t width, int kind,
) noexcept nogil
cpdef bint encode_rows(
    const unsigned char[::1] pixels, Py_ssize_t stride, unsigned long long[::1] io,
    unsigned int[::1] state, unsigned char[::1] rules, unsigned int[::1] words,
    unsigned short[::1] folded, short[::1] counts, unsigned long long[::1] row,
    unsigned long long[::1] alpha, unsigned int[::1] line, unsigned int[::1] line1,
    unsigned int[::1] out, Py_ssize_t width, Py_ssize_t height, int kind, unsigned int lanes,
) except -1
