"""Character devices of the guest: tokens, buffers and limits between it and its clients."""
