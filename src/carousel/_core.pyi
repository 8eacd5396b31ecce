"""Types of the compiled module; the C ABI behind it is documented in csrc/carousel.h."""
