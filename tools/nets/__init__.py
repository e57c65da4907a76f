"""Pure torch modules: no files, no configuration, no tools."""
