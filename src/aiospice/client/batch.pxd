# Constants of `batch`; without this they would be objects of Python.

cdef int _DRAW_FILL, _DRAW_COPY, _COPY_BITS
cdef Py_ssize_t _FIXED, _DESCRIPTOR, _NARROW
