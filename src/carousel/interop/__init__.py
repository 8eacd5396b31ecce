"""Foreign models to Network and back, exactly or not at all: one module per framework."""
