"""The server: gRPC services on one event loop. Code between two awaits holds the domain lock; an await drops it. No libvirt here."""
