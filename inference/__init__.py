"""The GPU plane: everything that turns a message into media. It never imports Django."""
