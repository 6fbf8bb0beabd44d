"""The service: recommendations over HTTP, the log of events, and the state that learns from them (extra `serve`)."""
