# What C knows of `quic_small`: its functions, for kernels that cimport it, and the scratch's fields.

from aiospice.codecs.quic_kernel cimport some_rows


cdef class Scratch:
    cdef unsigned int[::1] words
    cdef unsigned long long[::1] io
    cdef unsigned int[::1] state
    cdef unsigned char[::1] rules
    cdef unsigned int[::1] fast
    cdef unsigned int[::1] values
    cdef short[::1] counts
    cdef short[::1] counters
    cdef unsigned long long[::1] best
    cdef unsigned long long[::1] row
    cdef unsigned long long[::1] alpha
    cdef unsigned long long lanes
    cdef readonly bytearray image
    cdef readonly unsigned char[::1] pixels
    cdef readonly unsigned int[::1] cells
    cdef readonly int[::1] found
    cdef bint little


cpdef int decode_small(
    Scratch scratch, const unsigned char[::1] data, Py_ssize_t start, Py_ssize_t size,
) noexcept nogil
