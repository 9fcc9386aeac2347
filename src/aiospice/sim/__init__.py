"""Hand-overs played through on virtual time: real cores, simulated lines, processes and guests."""
