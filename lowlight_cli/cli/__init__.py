"""The command line, the only package that knows the terminal: parse, call one library function, report."""
