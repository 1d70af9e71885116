"""Statistics of cells that were scored: arrays in, arrays out, no AnnData."""
