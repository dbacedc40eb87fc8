"""Tables of what the code knows, for the pages."""
