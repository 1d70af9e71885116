"""Statistics of cells and samples: arrays in, arrays out, no AnnData."""
