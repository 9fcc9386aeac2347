cpdef image_rows(
    data, const unsigned char[::1] view, Py_ssize_t image, long long left, long long[::1] job,
    long long[::1] place, long long[::1] tally, reader, surfaces, target,
)
