"""The classes that users make and subclass."""
