"""Reports and their index as HTML pages."""
