"""Training networks on a world's pictures, which the engine draws meanwhile."""
