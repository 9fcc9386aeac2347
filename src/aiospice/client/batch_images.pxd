# Constants of `batch_images`, which would be objects of Python, and what `batch` calls.

cdef Py_ssize_t _DESCRIPTOR, _BITMAP
cdef long long _SMALL, _LARGE

cpdef image_rows(
    data, const unsigned char[::1] view, Py_ssize_t image, long long left, long long[::1] job,
    long long[::1] place, long long[::1] tally, reader, surfaces, target,
)
