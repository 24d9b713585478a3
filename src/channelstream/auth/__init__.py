"""Authentication: finds the principal of a request. One module for each scheme; `base` has what all of them are."""
