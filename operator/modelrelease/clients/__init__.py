"""One outside system a file: dicts and bytes in, values of core out. No decisions."""
