"""What routers, controllers and cells share: the wire contract, and what both sides must do alike."""
