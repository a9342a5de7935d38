"""Worker processes on any system that Python runs on: macOS, Windows, and Linux if it is asked."""
