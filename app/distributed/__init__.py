"""Training by several processes, on one machine or many: launched, joined, watched, ended."""
