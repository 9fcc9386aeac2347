"""Surfaces, regions and raster operations: pixels in plain buffers, no codecs, no caches."""
