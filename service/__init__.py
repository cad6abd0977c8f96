"""Service: the shell around the rooms: app, authentication, portal, command line, worker."""
