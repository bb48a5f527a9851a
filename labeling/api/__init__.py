"""HTTP: one short view per operation, which parses, makes one domain call, and translates the answer."""
