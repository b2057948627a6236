"""The only package that opens video or audio files: safe reading, frame grids, masks, levels, muxing."""
