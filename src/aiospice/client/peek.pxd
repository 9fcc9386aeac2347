cpdef long long u32(const unsigned char[::1] view, Py_ssize_t at) noexcept nogil
cpdef long long i32(const unsigned char[::1] view, Py_ssize_t at) noexcept nogil
cpdef long long big(const unsigned char[::1] view, Py_ssize_t at) noexcept nogil
