"""The whole of virtrpc: the real server, the real client, a real channel, real guests."""
