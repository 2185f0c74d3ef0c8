"""Parts of a saved agent read as data: nothing in the file is run."""
