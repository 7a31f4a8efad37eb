"""What data sets there are, and on what terms."""
