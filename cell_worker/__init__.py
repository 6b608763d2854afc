"""The cell: one isolated worker with its own store, sink and hold queue. It never imports router."""
