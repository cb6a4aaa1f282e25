"""MongoDB for handlers, generators and sockets: asyncmongo's names over PyMongo's asynchronous driver."""

__all__: list[str] = []
