"""The programs that `carousel demo` runs."""
