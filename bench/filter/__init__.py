"""`skep filter` against tcpdump on a large generated capture."""
