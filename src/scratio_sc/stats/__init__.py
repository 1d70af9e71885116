"""Statistics of cells: arrays in, arrays out; knows neither AnnData nor flows."""
