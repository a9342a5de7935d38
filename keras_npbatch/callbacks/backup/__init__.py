"""The callback that backs up training and resumes it where it was interrupted."""
