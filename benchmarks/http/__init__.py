"""HTTP: CPU per request, and per idle connection, of our server and its peers."""
