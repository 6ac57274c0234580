"""Attribution methods, one a file, and their registry. Adding a method is adding one file, here or in methods/ of the root."""
