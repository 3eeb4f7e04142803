"""The only room that knows the terminal: parse, call one library function, report."""
